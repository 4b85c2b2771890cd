//! What a request goes over where no idle connection of HTTP/1.1 is to be had.

use std::rc::Rc;

use http::header::UPGRADE;
use http::request::Parts;

use super::{Answer, Sending, fault, is_idempotent};
use crate::net::{Io, Net};
use crate::proxy::Protocol;
use crate::proxy::dial::dial;
use crate::proxy::download::Stream;
use crate::proxy::respond::Refusal;
use crate::proxy::shared::{self, Connection, Failed, Fate, Slot};
use crate::proxy::wire::Wire;
use crate::reason::Reason;

/// What became of a request's earlier sendings.
#[derive(Default)]
struct Past {
    /// It was sent again though it had been sent: not once more.
    is_resent: bool,
    /// Only a connection that is opened now will do.
    is_fresh_only: bool,
    /// Not this connection.
    failed: Option<Rc<Connection>>,
}

/// What comes of a request.
pub(super) enum Carried {
    /// An answer, over HTTP/2.
    Answered(Answer),
    /// A new connection of HTTP/1.1; the head is as it may be sent by now.
    Alone(Box<Wire>),
}

enum Carrier {
    Alone(Box<Wire>),
    /// A stream; and whether its connection was opened for this request.
    Stream(Slot, bool),
}

impl Sending<'_> {
    /// Whether it goes over a shared connection, as far as that is known.
    pub(super) fn is_shared(&self, head: &Parts) -> bool {
        match self.upstream.protocol {
            Protocol::H1 => false,
            Protocol::H2 => true,
            Protocol::Either => self.pool.shared.is_picked() && !is_upgrade(head),
        }
    }

    /// Sends the request over HTTP/2, or finds a new connection of HTTP/1.1 for it.
    pub(super) async fn carried(
        &self,
        net: &dyn Net,
        head: &mut Parts,
    ) -> Result<Carried, Refusal> {
        if is_upgrade(head) {
            if self.upstream.protocol == Protocol::H2 {
                return Err(no_upgrades(&self.upstream.origin));
            }
            return Ok(Carried::Alone(self.connected(net, head).await?));
        }
        let mut past = Past::default();
        loop {
            let carrier = self.carrier(net, &mut past).await?;
            // Connecting took time, or waiting for who connects.
            if let Some(bearer) = self.bearer {
                bearer.judge(&mut head.headers).await?;
            }
            let (slot, is_new) = match carrier {
                Carrier::Alone(wire) => return Ok(Carried::Alone(wire)),
                Carrier::Stream(slot, is_new) => (slot, is_new),
            };
            let failed = match self.exchange(&slot, head).await? {
                Ok((response, rest)) => {
                    let answer = Stream::begin(response, slot, rest, self.upload);
                    return Ok(Carried::Answered(answer));
                }
                Err(failed) => failed,
            };
            if !self.may_go_again(failed.fate, is_new, head, &past) {
                let fault = fault(self.upload);
                return Err(fault.unwrap_or_else(|| failed.refusal(&self.upstream.origin)));
            }
            past.is_resent |= failed.fate != Fate::Unsent;
            past.is_fresh_only |= failed.fate == Fate::Closed;
            past.failed = Some(Rc::clone(slot.connection()));
        }
    }

    /// The rules of resending, for HTTP/2.
    fn may_go_again(&self, fate: Fate, is_new: bool, head: &Parts, past: &Past) -> bool {
        let may = match fate {
            Fate::Unsent => !is_new,
            Fate::Unprocessed => !past.is_resent,
            Fate::Closed => !is_new && !past.is_resent && is_idempotent(&head.method),
            Fate::Lost => false,
        };
        may && self.is_resendable()
    }

    async fn exchange(
        &self,
        slot: &Slot,
        head: &Parts,
    ) -> Result<Result<shared::Answer, Failed>, Refusal> {
        let sent = shared::exchange(slot, self.upstream, head, self.body());
        let Some(limit) = self.upstream.response_timeout else {
            return Ok(sent.await);
        };
        let tap = slot.connection().tap();
        let before = tap.read();
        let sent = self.in_time(limit, sent).await;
        // Not one byte since: whatever else is sent there may wait in vain too.
        if sent.is_err() && tap.read() == before {
            slot.connection().retire();
        }
        sent
    }

    async fn carrier(&self, net: &dyn Net, past: &mut Past) -> Result<Carrier, Refusal> {
        let (upstream, shared) = (self.upstream, &self.pool.shared);
        loop {
            if upstream.protocol == Protocol::H1 {
                let (io, _) = dial(net, upstream, Protocol::H1).await?;
                return Ok(Carrier::Alone(Wire::new(io)));
            }
            if !past.is_fresh_only
                && let Some(slot) = shared.place(past.failed.as_ref())
            {
                return Ok(Carrier::Stream(slot, false));
            }
            let is_sure = upstream.protocol == Protocol::H2 || shared.is_picked();
            if is_sure && let Some(seat) = shared.seat() {
                seat.landed().await?;
                // What has landed is as fresh as any.
                past.is_fresh_only = false;
                continue;
            }
            let mut lead = is_sure.then(|| shared.lead());
            let dialed = tokio::select! {
                biased;
                () = shared.picked(), if !is_sure => continue,
                dialed = dial(net, upstream, upstream.protocol) => dialed,
            };
            let dialed = dialed.map_err(|refusal| match lead.take() {
                Some(lead) => lead.fail(refusal),
                None => refusal,
            });
            let (io, protocol) = dialed?;
            shared.pick(protocol);
            if protocol == Protocol::H1 {
                drop(lead);
                return Ok(Carrier::Alone(Wire::new(io)));
            }
            let lead = lead.unwrap_or_else(|| shared.lead());
            if let Some(slot) = self.stream(io, lead).await? {
                return Ok(Carrier::Stream(slot, true));
            }
        }
    }

    /// A new shared connection, and the first place on it.
    async fn stream(&self, io: Io, lead: shared::Lead) -> Result<Option<Slot>, Refusal> {
        let shared = &self.pool.shared;
        let connection = Connection::open(io, self.upstream, lead, shared.window).await?;
        Ok(shared.add(connection))
    }
}

/// Whether the protocol is to be switched, which HTTP/1.1 alone can do.
fn is_upgrade(head: &Parts) -> bool {
    head.headers.contains_key(UPGRADE)
}

fn no_upgrades(origin: &str) -> Refusal {
    let text = format!(
        "{origin} is spoken to in HTTP/2, which switches to no other protocol: set \
         upstream_protocol = \"auto\" or \"h1\""
    );
    Refusal::new(Reason::UpstreamProtocol, text)
}
