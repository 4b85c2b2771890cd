//! How many connections a data thread has, as whoever gives it more of them sees it.
//!
//! What was handed over counts from that moment on, not only when the thread takes it. A thread's
//! own acceptor and one on a thread of its own both count here, so this is atomic; it is touched
//! when a connection begins and when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::Role;

/// What whoever accepts and the data threads tell each other.
#[derive(Debug, Default)]
pub struct Room {
    /// A connection has ended.
    freed: Notify,
    /// At the cap of the listener somebody waits.
    wanted: [AtomicBool; Role::ALL.len()],
}

impl Room {
    /// Done when a connection has ended since the last time.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Whether somebody waits for a connection of this listener to end.
    pub fn want(&self, role: Role, is_wanted: bool) {
        self.wanted[role as usize].store(is_wanted, Relaxed);
    }

    /// Whether somebody does.
    #[must_use]
    pub fn is_wanted(&self, role: Role) -> bool {
        self.wanted[role as usize].load(Relaxed)
    }
}

/// The connections of one data thread.
#[derive(Debug, Default)]
pub struct Load {
    open: [AtomicUsize; Role::ALL.len()],
    /// That of all threads.
    pub room: Arc<Room>,
}

impl Load {
    /// None yet.
    #[must_use]
    pub fn new(room: Arc<Room>) -> Load {
        Load {
            open: Default::default(),
            room,
        }
    }

    /// One more, or one on its way to the thread.
    pub fn opened(&self, role: Role) {
        self.open[role as usize].fetch_add(1, Relaxed);
    }

    /// One less.
    pub fn closed(&self, role: Role) {
        self.open[role as usize].fetch_sub(1, Relaxed);
        // Kept where nobody waits yet: none is missed between a look and the wait.
        self.room.freed.notify_one();
    }

    /// Those of one listener.
    #[must_use]
    pub fn of(&self, role: Role) -> usize {
        self.open[role as usize].load(Relaxed)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> usize {
        Role::ALL.into_iter().map(|role| self.of(role)).sum()
    }
}
