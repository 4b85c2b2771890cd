//! How many connections a data thread has, as whoever gives it more of them sees it.
//!
//! What was handed over counts from that moment on, not only when the thread takes it. A thread's
//! own acceptor and one on a thread of its own both count here, so this is atomic; it is touched
//! when a connection begins and when it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Notify;

use super::Role;

/// The connections of one data thread.
#[derive(Debug)]
pub struct Load {
    open: [AtomicUsize; Role::ALL.len()],
    freed: Arc<Notify>,
}

impl Load {
    /// None yet. `freed` hears of every one that ends.
    #[must_use]
    pub fn new(freed: Arc<Notify>) -> Load {
        Load {
            open: Default::default(),
            freed,
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
        self.freed.notify_one();
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

    /// Done when one has ended since the last time.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }
}
