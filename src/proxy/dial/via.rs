//! A way to an upstream through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6).
//!
//! - Whatever the upstream's scheme. Of https the proxy sees host and port alone. Of plain http it sees
//!   what the network sees, and has no say in it: it is asked for no request that it could rewrite, keep
//!   or answer in the upstream's place.
//! - The proxy looks the upstream's name up; we look up the proxy's own.
//! - Who we are is told to the proxy with CONNECT, and to nobody else.

use std::io;

use http::{HeaderValue, StatusCode};
use tokio::io::AsyncWriteExt as _;
use zeroize::Zeroizing;

use crate::dns::Name;
use crate::net::Io;
use crate::proxy::respond::Refusal;
use crate::reason::Reason;

/// The most that the head of a proxy's answer has. Bytes.
const HEAD: usize = 16 * 1024;

/// A proxy, and what it is asked for.
#[derive(Clone, Debug)]
pub struct Via {
    /// The proxy's URL as it may be shown.
    pub shown: String,
    /// Where the proxy is.
    pub name: Name,
    /// The upstream's host and port, an IPv6 address in brackets.
    pub target: String,
    /// Who we are to the proxy.
    pub authorization: Option<HeaderValue>,
}

/// Why an answer is none.
enum Unheard {
    Io(io::Error),
    Nonsense,
}

impl From<io::Error> for Unheard {
    fn from(error: io::Error) -> Unheard {
        Unheard::Io(error)
    }
}

impl Via {
    /// Whether connections through one serve for the other.
    #[must_use]
    pub fn is_same(&self, other: &Via) -> bool {
        self.shown == other.shown
            && self.target == other.target
            && self.authorization == other.authorization
    }

    /// Asks the proxy at the other end of `io` for a way to `origin`, which `io` is from then on.
    pub(super) async fn open(&self, origin: &str, mut io: Io) -> Result<Io, Refusal> {
        let shown = &self.shown;
        match self.ask(&mut io).await {
            Ok(status) if status.is_success() => Ok(io),
            Ok(status) => {
                let text = format!(
                    "{origin} cannot be reached: the proxy {shown} answered {} to CONNECT {}: {}",
                    status.as_u16(),
                    self.target,
                    self.advice(status)
                );
                Err(Refusal::new(Reason::UpstreamUnreachable, text))
            }
            Err(Unheard::Io(error)) => {
                let text = format!(
                    "{origin} cannot be reached: the proxy {shown} closed the connection before it \
                     answered ({}): is that the address of an HTTP proxy?",
                    error.kind()
                );
                Err(Refusal::new(Reason::UpstreamUnreachable, text))
            }
            Err(Unheard::Nonsense) => {
                let text = format!(
                    "{origin} cannot be reached: what the proxy {shown} answered is not HTTP/1.1: is \
                     that the address of an HTTP proxy?"
                );
                Err(Refusal::new(Reason::UpstreamProtocol, text))
            }
        }
    }

    fn advice(&self, status: StatusCode) -> &'static str {
        // tinyproxy says 401 where the password is wrong.
        let asks = [401, 407].contains(&status.as_u16());
        match &self.authorization {
            None if asks => {
                "it asks who we are; write outbound.proxy as http://USER:PASSWORD@HOST:PORT"
            }
            Some(_) if asks => {
                "it does not take the user and password of outbound.proxy by Basic authentication"
            }
            _ if status.is_server_error() => "it cannot reach that itself; see its own log",
            _ => "its rules must allow CONNECT to that host and port",
        }
    }

    async fn ask(&self, io: &mut Io) -> Result<StatusCode, Unheard> {
        let target = &self.target;
        let head = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: regent/{}\r\n",
            env!("CARGO_PKG_VERSION")
        );
        let mut head = Zeroizing::new(head.into_bytes());
        if let Some(authorization) = &self.authorization {
            head.extend_from_slice(b"Proxy-Authorization: ");
            head.extend_from_slice(authorization.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        io.write_all(&head).await?;
        io.flush().await?;
        let mut read = 0;
        loop {
            let status = status(&line(io, &mut read).await?).ok_or(Unheard::Nonsense)?;
            while !line(io, &mut read).await?.is_empty() {}
            if !status.is_informational() {
                return Ok(status);
            }
        }
    }
}

/// One line without its end. Nothing behind it is read: that is the upstream's.
async fn line(io: &mut Io, read: &mut usize) -> Result<Vec<u8>, Unheard> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let before = line.len();
        let room = HEAD - *read;
        if room == 0 {
            return Err(Unheard::Nonsense);
        }
        *read += io.read_through(b'\n', room, &mut line).await?;
        if line.len() == before {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

/// The status of `HTTP/1.1 200 Connection established`.
fn status(line: &[u8]) -> Option<StatusCode> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let rest = rest
        .strip_prefix(b"0 ")
        .or_else(|| rest.strip_prefix(b"1 "))?;
    let (digits, reason) = rest.split_at_checked(3)?;
    let is_whole = reason.first().is_none_or(|first| *first == b' ');
    StatusCode::from_bytes(digits).ok().filter(|_| is_whole)
}
