//! The listeners of whoever accepts: a data thread that is alone, or the acceptor of several.
//!
//! - At the cap nobody is accepted: callers wait in the system's queue until a connection ends.
//! - Where descriptors or memory are short, the same for a moment ([`Shortage`]).

use std::io;

use crate::net::{Accept, Accepted, Io, Listener, Shortage};
use crate::proxy::Role;

/// Listeners at work, by their roles.
#[derive(Debug, Default)]
pub(super) struct Doors {
    accepts: [Option<Accept>; Role::ALL.len()],
    shortage: Shortage,
}

impl Doors {
    /// Ties the listeners to the runtime that it is called on.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(listeners: Vec<(Role, Listener)>) -> io::Result<Doors> {
        let mut doors = Doors::default();
        for (role, listener) in listeners {
            doors.accepts[role as usize] = Some(listener.start()?);
        }
        Ok(doors)
    }

    /// The next connection of a listener that has room for one. `freed` is done when it may be that
    /// one has room again. Nothing is lost where this is dropped unfinished.
    pub(super) async fn next(
        &mut self,
        has_room: impl Fn(Role) -> bool,
        freed: impl AsyncFn(),
    ) -> (Role, Io) {
        loop {
            tokio::select! {
                biased;
                () = self.shortage.over() => {}
                () = freed() => self.shortage.ended(),
            }
            let rooms = Role::ALL.map(&has_room);
            let [outbound, inbound, forward_auth] = &mut self.accepts;
            let (role, accepted) = tokio::select! {
                accepted = next(outbound), if rooms[0] => (Role::Outbound, accepted),
                accepted = next(inbound), if rooms[1] => (Role::Inbound, accepted),
                accepted = next(forward_auth), if rooms[2] => (Role::ForwardAuth, accepted),
                () = freed(), if rooms.contains(&false) => continue,
            };
            match accepted {
                Ok(accepted) => return (role, accepted),
                Err(error) => self.shortage.met(&error),
            }
        }
    }

    /// One that stands in the queue already: what is left there is reset with the listeners.
    pub(super) fn queued(&mut self, has_room: impl Fn(Role) -> bool) -> Option<(Role, Accepted)> {
        let open = Role::ALL.into_iter().filter(|role| has_room(*role));
        for role in open {
            if let Some(accept) = &mut self.accepts[role as usize]
                && let Ok(Some(accepted)) = accept.queued()
            {
                return Some((role, accepted));
            }
        }
        None
    }
}

async fn next(accept: &mut Option<Accept>) -> io::Result<Io> {
    match accept {
        Some(accept) => accept.accept().await,
        None => std::future::pending().await,
    }
}
