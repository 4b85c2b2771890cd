//! Why an exchange over HTTP/2 has no answer, and whether it may be sent again.

use std::io;

use h2::{Error, Reason as Code};

use super::pulse::QUIET;
use super::tap::Silence;
use crate::proxy::framing::INTERIM;
use crate::proxy::respond::Refusal;
use crate::reason::Reason;

/// What became of a request that has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// None of it was written.
    Unsent,
    /// The upstream says that it did nothing with it: REFUSED_STREAM, or a GOAWAY whose last stream
    /// is an earlier one (RFC 9113 section 8.7).
    Unprocessed,
    /// The connection closed.
    Closed,
    /// It was answered by something that is no answer.
    Lost,
}

/// An exchange without an answer.
#[derive(Debug)]
pub struct Failed {
    /// What became of the request.
    pub fate: Fate,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// The end of it.
    Error(Error),
    /// The upstream has said nothing in time.
    Silence(Silence),
    /// There is no URI for its head.
    Nowhere,
    /// There were more than [`INTERIM`] before the answer.
    Interim,
}

impl Failed {
    /// What an error of a stream means. `is_written`: something was, since the request was to be.
    #[must_use]
    pub fn of(error: Error, is_written: bool) -> Failed {
        let is_refused = error.is_reset() && error.reason() == Some(Code::REFUSED_STREAM);
        let fate = if error.is_remote() && (is_refused || error.is_go_away()) {
            Fate::Unprocessed
        } else if error.is_io() && !is_violation(&error) {
            match is_written {
                true => Fate::Closed,
                false => Fate::Unsent,
            }
        } else {
            Fate::Lost
        };
        Failed {
            fate,
            why: Why::Error(error),
        }
    }

    /// No head of HTTP/2 can be made of its own.
    #[must_use]
    pub fn nowhere() -> Failed {
        Failed {
            fate: Fate::Lost,
            why: Why::Nowhere,
        }
    }

    /// The upstream says again and again that it will answer.
    #[must_use]
    pub fn interim() -> Failed {
        Failed {
            fate: Fate::Lost,
            why: Why::Interim,
        }
    }

    /// It failed because of this silence.
    #[must_use]
    pub fn silent(self, silence: Silence) -> Failed {
        Failed {
            why: Why::Silence(silence),
            ..self
        }
    }

    /// Whether the stream alone was reset.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        matches!(&self.why, Why::Error(error) if error.is_reset())
    }

    /// The same for one that its connection did not take. An error that is not of the connection
    /// would meet it on the next one too.
    #[must_use]
    pub fn untaken(error: Error) -> Failed {
        let is_of_connection = error.is_io() || error.is_go_away();
        Failed {
            fate: match is_of_connection {
                true => Fate::Unsent,
                false => Fate::Lost,
            },
            why: Why::Error(error),
        }
    }

    /// What the caller is told.
    #[must_use]
    pub fn refusal(&self, origin: &str) -> Refusal {
        match &self.why {
            Why::Error(error) => refusal(origin, error),
            Why::Silence(silence) => silent(origin, *silence),
            Why::Nowhere => Refusal::new(
                Reason::BadRequest,
                "the request's target and Host make no URI",
            ),
            Why::Interim => {
                let text = format!("{origin} sent more than {INTERIM} interim answers");
                Refusal::new(Reason::UpstreamProtocol, text)
            }
        }
    }
}

/// Whether the upstream broke the protocol, and h2 saw it.
#[must_use]
pub fn is_violation(error: &Error) -> bool {
    let is_invalid = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
    error.is_library() || error.get_io().is_some_and(is_invalid)
}

/// What the end of a stream or of a connection is to whoever waits for an answer.
#[must_use]
pub(super) fn refusal(origin: &str, error: &Error) -> Refusal {
    if is_violation(error) {
        let text = format!("what {origin} answered is not sound HTTP/2: {error}");
        return Refusal::new(Reason::UpstreamProtocol, text);
    }
    // What a GOAWAY says beside its code is the upstream's own text, and stays here.
    match error.reason() {
        Some(Code::HTTP_1_1_REQUIRED) => {
            let text = format!("{origin} asks for HTTP/1.1: set upstream_protocol = \"h1\"");
            Refusal::new(Reason::UpstreamProtocol, text)
        }
        Some(code) if error.is_go_away() => {
            let text = format!("{origin} ended the connection before the request ({code:?})");
            Refusal::new(Reason::UpstreamUnreachable, text)
        }
        Some(code) => {
            let text = format!("{origin} reset the request before it answered ({code:?})");
            Refusal::new(Reason::UpstreamUnreachable, text)
        }
        None => closed(origin),
    }
}

/// The connection ended, and nothing was said.
#[must_use]
pub(super) fn closed(origin: &str) -> Refusal {
    let text = format!("{origin} closed the connection before it answered");
    Refusal::new(Reason::UpstreamUnreachable, text)
}

/// The upstream said nothing.
#[must_use]
pub(super) fn silent(origin: &str, silence: Silence) -> Refusal {
    let text = match silence {
        Silence::FromTheStart => format!(
            "{origin} took the connection, but spoke no HTTP/2 within limits.connect_timeout"
        ),
        Silence::Gone => {
            format!(
                "{origin} has said nothing for {:?}, and answers no PING",
                2 * QUIET
            )
        }
    };
    Refusal::new(Reason::UpstreamTimeout, text)
}
