//! The listeners of whoever accepts: a data thread that is alone, or the acceptor of several.
//!
//! - At the cap nobody is accepted: callers wait in the system's queue until a connection ends. While
//!   one waits, data threads are told so: what idles makes room.
//! - Where descriptors or memory are short, the same for a moment ([`Shortage`]).

use std::io;

use tokio::time::{Instant, sleep_until};

use super::SWEEP;
use crate::net::{Accept, Accepted, Io, Listener, Shortage};
use crate::proxy::Role;
use crate::proxy::load::Room;

/// Listeners at work, by their roles.
#[derive(Debug, Default)]
pub(super) struct Doors {
    accepts: [Option<Accept>; Role::ALL.len()],
    shortage: Shortage,
    /// When to look for whoever waits at the cap.
    look: Option<Instant>,
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

    /// The next connection of a listener that has room for one. Nothing is lost where this is dropped
    /// unfinished.
    pub(super) async fn next(
        &mut self,
        room: &Room,
        has_room: impl Fn(Role) -> bool,
    ) -> (Role, Io) {
        loop {
            tokio::select! {
                biased;
                () = self.shortage.over() => {}
                () = room.freed() => self.shortage.ended(),
            }
            let rooms = Role::ALL.map(&has_room);
            let is_full = rooms.contains(&false);
            if is_full {
                self.look.get_or_insert_with(|| Instant::now() + SWEEP);
            } else if self.look.take().is_some() {
                self.want(room, rooms);
            }
            let look = self.look;
            let [outbound, inbound, forward_auth] = &mut self.accepts;
            let (role, accepted) = tokio::select! {
                accepted = next(outbound), if rooms[0] => (Role::Outbound, accepted),
                accepted = next(inbound), if rooms[1] => (Role::Inbound, accepted),
                accepted = next(forward_auth), if rooms[2] => (Role::ForwardAuth, accepted),
                () = room.freed(), if is_full => continue,
                () = reached(look) => {
                    self.look = None;
                    self.want(room, rooms);
                    continue;
                }
            };
            match accepted {
                Ok(io) => return (role, io),
                Err(error) => self.shortage.met(&error),
            }
        }
    }

    /// Tells for which listeners without room somebody waits.
    fn want(&self, room: &Room, rooms: [bool; Role::ALL.len()]) {
        for ((role, has_room), accept) in Role::ALL.into_iter().zip(rooms).zip(&self.accepts) {
            let has_queue = || accept.as_ref().is_some_and(Accept::has_queue);
            room.want(role, !has_room && has_queue());
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

async fn reached(look: Option<Instant>) {
    match look {
        Some(look) => sleep_until(look).await,
        None => std::future::pending().await,
    }
}

async fn next(accept: &mut Option<Accept>) -> io::Result<Io> {
    match accept {
        Some(accept) => accept.accept().await,
        None => std::future::pending().await,
    }
}
