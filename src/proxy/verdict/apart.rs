//! A thread for signatures that take long, started with the first one: the loop that serves requests
//! does not wait for them, and neither does the control plane.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};

use tokio::sync::oneshot;

use crate::jwt::Rejection;
use crate::jwt::keys::Snapshot;
use crate::jwt::verifier::{self, Now, Verified};
use crate::proxy::Policy;

/// What one verification needs.
struct Job {
    policy: Arc<Policy>,
    keys: Arc<Snapshot>,
    token: Box<[u8]>,
    now: Now,
    done: oneshot::Sender<Result<Verified, Rejection>>,
}

/// Jobs that wait. Callers that left do not count for long: theirs are passed over.
const MOST: usize = 1024;

/// The thread of one worker. It ends with it.
#[derive(Default)]
pub struct Apart(OnceCell<Option<SyncSender<Job>>>);

impl std::fmt::Debug for Apart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Apart").finish_non_exhaustive()
    }
}

impl Apart {
    /// Verifies there. `None`: there is no thread to be had, or too much waits for it.
    pub async fn verify(
        &self,
        policy: &Arc<Policy>,
        keys: &Arc<Snapshot>,
        token: &[u8],
        now: Now,
    ) -> Option<Result<Verified, Rejection>> {
        let jobs = self.0.get_or_init(start).as_ref()?;
        let (done, verdict) = oneshot::channel();
        let job = Job {
            policy: Arc::clone(policy),
            keys: Arc::clone(keys),
            token: token.into(),
            now,
            done,
        };
        jobs.try_send(job).ok()?;
        verdict.await.ok()
    }
}

fn start() -> Option<SyncSender<Job>> {
    let (sender, jobs) = mpsc::sync_channel::<Job>(MOST);
    let work = move || {
        for job in jobs {
            let Some(inbound) = &job.policy.inbound else {
                continue;
            };
            // Whoever asked may have left: a signature for nobody would keep the others waiting.
            if job.done.is_closed() {
                continue;
            }
            let verdict =
                verifier::verify(&job.token, &inbound.issuers, &job.keys, job.now, &mut ());
            // Here too.
            let _ = job.done.send(verdict);
        }
    };
    let thread = std::thread::Builder::new().name("verifier".to_owned());
    match thread.spawn(work) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(%error, "no thread for slow signatures; they are verified in between");
            None
        }
    }
}
