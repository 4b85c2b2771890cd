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
    let thread = std::thread::Builder::new().name("verifier".to_owned());
    match thread.spawn(move || work(jobs, judge)) {
        Ok(_) => Some(sender),
        Err(error) => {
            tracing::error!(%error, "no thread for slow signatures; they are verified in between");
            None
        }
    }
}

/// Whoever asked may have left: a signature for nobody would keep the others waiting.
fn work(
    jobs: impl IntoIterator<Item = Job>,
    mut judge: impl FnMut(&Job) -> Option<Result<Verified, Rejection>>,
) {
    for job in jobs {
        if job.done.is_closed() {
            continue;
        }
        if let Some(verdict) = judge(&job) {
            // Here too.
            let _ = job.done.send(verdict);
        }
    }
}

fn judge(job: &Job) -> Option<Result<Verified, Rejection>> {
    let issuers = &job.policy.inbound.as_ref()?.issuers;
    let verdict = verifier::verify(&job.token, issuers, &job.keys, job.now, &mut ());
    Some(verdict)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc::Receiver;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::Boot;
    use crate::reason::Reason;

    /// Without a thread: the test does its work.
    fn apart(most: usize) -> (Apart, Receiver<Job>) {
        let (sender, jobs) = mpsc::sync_channel(most);
        (Apart(OnceCell::from(Some(sender))), jobs)
    }

    async fn ask(apart: &Apart, token: &[u8]) -> Option<Result<Verified, Rejection>> {
        let policy = Arc::new(Policy {
            epoch: 1,
            upstreams: Vec::new(),
            outbound: None,
            inbound: None,
            body_limit: None,
            request_timeout: None,
            access_log: false,
        });
        let now = Now {
            unix_ms: 0,
            boot: Boot::default(),
        };
        apart.verify(&policy, &Arc::default(), token, now).await
    }

    #[test]
    fn a_caller_that_left_is_passed_over_and_the_next_one_gets_its_verdict() {
        let (apart, jobs) = apart(3);
        let mut stays = pin!(ask(&apart, b"stays"));
        // Polled once, and dropped.
        assert!(ask(&apart, b"left before").now_or_never().is_none());
        assert!(stays.as_mut().now_or_never().is_none());
        assert!(ask(&apart, b"left after").now_or_never().is_none());
        let mut judged = Vec::new();
        work(jobs.try_iter(), |job| {
            judged.push(job.token.to_vec());
            Some(Err(Rejection {
                reason: Reason::BadSignature,
                issuer: None,
                why: "no key of the issuer signed it".into(),
            }))
        });
        assert_eq!(judged, [b"stays"]);
        let verdict = stays.now_or_never().expect("an answer");
        let rejection = verdict.expect("a verdict").expect_err("forged");
        assert_eq!(rejection.reason, Reason::BadSignature);
    }

    #[test]
    fn what_it_has_no_room_for_is_handed_back_at_once() {
        let (apart, _jobs) = apart(1);
        let mut first = pin!(ask(&apart, b"first"));
        assert!(first.as_mut().now_or_never().is_none());
        let second = ask(&apart, b"second").now_or_never();
        assert!(second.expect("at once").is_none());
    }
}
