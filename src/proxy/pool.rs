//! Idle connections to one upstream, of one data thread: last in, first out, so that few stay warm
//! and the rest can go. Those that exchanges share are [`Shared`]'s.
//!
//! A connection comes back when its answer has ended and its request is out, not when the head
//! arrived. It leaves when it was idle for [`IDLE`], which is shorter than what servers commonly allow.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use super::shared::Shared;
use super::wire::Wire;
use crate::clock::Boot;

/// How long a connection stays unused.
pub const IDLE: Duration = Duration::from_secs(20);
/// How many stay unused: as many as callers that are busy at a time, or their next requests connect anew.
const MOST: usize = 1024;

/// The connections to one upstream that wait for requests.
#[derive(Debug)]
pub struct Pool {
    /// The idle ones, each with the first sweep that saw it.
    idle: RefCell<Vec<(Box<Wire>, Option<Boot>)>>,
    /// Those of HTTP/2, in use or not.
    pub shared: Shared,
}

impl Pool {
    /// An empty one. What may come for an exchange over HTTP/2 before it is read, is a window of so many
    /// bytes.
    #[must_use]
    pub fn new(window: u32) -> Rc<Pool> {
        Rc::new(Pool {
            idle: RefCell::default(),
            shared: Shared::new(window),
        })
    }

    /// The connection that was used last, if one is open.
    #[must_use]
    pub fn take(&self) -> Option<Box<Wire>> {
        let mut idle = self.idle.borrow_mut();
        while let Some((mut wire, _)) = idle.pop() {
            if wire.is_open() {
                return Some(wire);
            }
        }
        None
    }

    /// Takes back a connection that may go on.
    pub fn put(&self, mut wire: Box<Wire>) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MOST {
            wire.rest();
            idle.push((wire, None));
        }
    }

    /// Closes what was idle for too long, and forgets what the other side closed.
    pub fn sweep(&self, now: Boot) {
        let mut idle = self.idle.borrow_mut();
        idle.retain_mut(|(wire, since)| {
            let since = *since.get_or_insert(now);
            now.since(since) < IDLE && wire.is_open()
        });
        self.shared.sweep(now);
    }

    /// Closes all but the `most` that were used last; how many are left.
    pub fn keep(&self, most: usize) -> usize {
        let mut idle = self.idle.borrow_mut();
        let beyond = idle.len().saturating_sub(most);
        idle.drain(..beyond);
        idle.len()
    }

    /// How many are idle.
    #[must_use]
    pub fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty()
    }
}
