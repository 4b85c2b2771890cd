//! Issuers' keys for commands: got once, by the same task that keeps them fresh in a sidecar.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::jwt::keys::{Handle, Keys, Snapshot, Task};

/// Whether keys are there, or it is known why not.
#[must_use]
pub fn is_settled(keys: &Keys) -> bool {
    keys.set.is_some() || keys.attempts > 0
}

/// Runs the task until the snapshot is as wanted, and no longer.
pub async fn fetched(
    handle: &Handle,
    task: Option<Task>,
    wanted: impl Fn(&Snapshot) -> bool,
) -> Arc<Snapshot> {
    let mut published = handle.watch();
    if let Some(task) = task {
        let (_running, stopped) = oneshot::channel();
        tokio::select! {
            () = task.run(stopped) => {}
            _ = published.wait_for(|snapshot| wanted(snapshot)) => {}
        }
    }
    handle.snapshot()
}
