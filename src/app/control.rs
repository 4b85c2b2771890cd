//! The control plane at work: the token plane, name lookups, the admin listener, reloads, and the
//! way down.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};

use super::Exit;
use super::compile::{Compiled, Compiler, TokenPlane};
use crate::admin::{self, Board, Configured};
use crate::config::inbound::Fault;
use crate::config::inbound::federation::Listed;
use crate::config::{Loaded, Problem, Startup};
use crate::jwt::federation::Federation;
use crate::jwt::keys::{self, Snapshot};
use crate::jwt::list;
use crate::jwt::revoked::Revoked;
use crate::lifecycle::{Latch, Latches, Stage, Stop};
use crate::net::Listener;
use crate::proxy::Policy;
use crate::tls::server::Follower;
use crate::token::{Kept, Phase};

/// A wish for another config.
#[derive(Debug)]
pub(super) struct Reload {
    /// The config; `None`: read it again.
    pub(super) loaded: Option<Box<Loaded>>,
    /// What came of it.
    pub(super) done: oneshot::Sender<Result<(), Vec<Problem>>>,
}

/// Sends a wish and waits for what comes of it.
pub(super) async fn ask(
    reloads: &mpsc::Sender<Reload>,
    reload: Reload,
    outcome: oneshot::Receiver<Result<(), Vec<Problem>>>,
) -> Result<(), Vec<Problem>> {
    let stopping = || {
        let origin = crate::config::Origin::Default;
        vec![Problem::new(origin, "the sidecar is stopping")]
    };
    reloads.send(reload).await.map_err(|_| stopping())?;
    outcome.await.unwrap_or_else(|_| Err(stopping()))
}

/// What the control plane owns.
pub(super) struct Control {
    pub(super) loaded: Arc<Loaded>,
    pub(super) configured: watch::Sender<Configured>,
    pub(super) compiler: Compiler,
    pub(super) lookups: Pin<Box<dyn Future<Output = ()>>>,
    pub(super) token: Option<TokenPlane>,
    pub(super) keys: Option<keys::Task>,
    pub(super) certificate: Option<Follower>,
    pub(super) federation: Option<list::Task<Listed>>,
    pub(super) revocations: Option<list::Task<Revoked>>,
    /// Token planes that no policy uses any more, with a refresh that may be under way.
    pub(super) ending: Vec<JoinHandle<Kept>>,
    pub(super) policies: watch::Sender<Arc<Policy>>,
    pub(super) seen: Vec<watch::Receiver<u64>>,
    pub(super) stop: Stop,
    pub(super) latches: Latches,
    pub(super) admin: Option<(Listener, Board)>,
    pub(super) asked: mpsc::Receiver<Reload>,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("loaded", &self.loaded)
            .finish_non_exhaustive()
    }
}

/// A token plane at work.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Kept>,
}

impl Running {
    fn start(plane: TokenPlane) -> Running {
        let (stop, stopped) = oneshot::channel();
        let task = spawn_local(plane.task.run(stopped));
        Running { stop, task }
    }

    /// Lets `next` take over. At another region it begins at once; at the same one it waits for the
    /// refresh that may be under way, and gets what no file has.
    fn replaced_by(self, next: TokenPlane) -> Running {
        let (stop, stopped) = oneshot::channel();
        let mut task = next.task;
        let task = spawn_local(async move {
            if next.is_same_region {
                task.inherit(self.end().await);
                task.run(stopped).await
            } else {
                tokio::join!(self.end(), task.run(stopped)).1
            }
        });
        Running { stop, task }
    }

    /// Ends it; a refresh that is under way is finished and stored first.
    async fn end(self) -> Kept {
        drop(self.stop);
        self.task.await.unwrap_or_else(|_| {
            tracing::error!("the token plane panicked");
            Kept::default()
        })
    }
}

impl Control {
    /// Runs until the parts of the data plane have ended, each of which tells how. Where one fails,
    /// all end: whoever started the sidecar starts it again.
    pub(super) async fn run(mut self, mut ends: mpsc::UnboundedReceiver<Exit>) -> Exit {
        spawn_local(std::mem::replace(&mut self.lookups, Box::pin(async {})));
        let mut token = self.token.take().map(Running::start);
        if let Some((listener, board)) = self.admin.take() {
            spawn_local(admin::run(listener, board));
        }
        let mut keys = self.keys.take().map(start_keys);
        follow(self.certificate.take());
        read_again(self.federation.take());
        read_again(self.revocations.take());
        say_faults(&self.policies.borrow(), None);
        if self.loaded.config.inbound.is_some() {
            let latch = self.latches.latch("issuer_keys");
            let keys = |policy: &Policy| Some(policy.keys()?.watch());
            spawn_local(first(self.policies.subscribe(), latch, keys, has_keys));
        }
        spawn_local(tell_of_nobody(self.policies.subscribe()));
        if self.policies.borrow().revocations().is_some() {
            let latch = self.latches.latch("revocations");
            let lists = |policy: &Policy| Some(policy.revocations()?.watch());
            let is_read = |_: &Policy, state: &list::State<Revoked>| state.list.is_some();
            spawn_local(first(self.policies.subscribe(), latch, lists, is_read));
        }
        let latch = token.is_some().then(|| self.latches.latch("access_token"));
        let required = self.loaded.config.region.startup == Startup::Require;
        let mut first = std::pin::pin!(first_token(self.policies.subscribe(), latch, required));
        let mut first_is_done = false;
        let mut exit = Exit::Stopped;
        let stop = self.stop.clone();
        let mut draining = std::pin::pin!(stop.reached(Stage::Drain));
        loop {
            tokio::select! {
                () = &mut draining => break,
                refused = &mut first, if !first_is_done => {
                    first_is_done = true;
                    if refused {
                        exit = Exit::LoginRefused;
                        self.stop.advance(Stage::Drain);
                    }
                }
                // In good order it ends only when it was asked to, which may be known here later.
                Some(Exit::Failed) = ends.recv() => {
                    exit = Exit::Failed;
                    self.stop.advance(Stage::Abort);
                }
                Some(reload) = self.asked.recv() => {
                    let outcome = self.reload(reload.loaded, &mut token, &mut keys).await;
                    self.note(&outcome);
                    // Whoever asked may have left.
                    let _ = reload.done.send(outcome);
                }
                () = listed(self.policies.subscribe()) => self.relist(&mut keys).await,
            }
        }
        // Whoever asks for a reload from here on, or has asked, is told so.
        self.asked.close();
        while self.asked.try_recv().is_ok() {}
        let exit = self.wind_down(ends, exit).await;
        if let Some(token) = token {
            token.end().await;
        }
        for ending in std::mem::take(&mut self.ending) {
            // One that panicked has said so.
            let _ = ending.await;
        }
        tracing::info!("stopped");
        exit
    }

    async fn wind_down(&self, mut ends: mpsc::UnboundedReceiver<Exit>, mut exit: Exit) -> Exit {
        let drain = &self.loaded.config.drain;
        tracing::info!(drain.delay = ?drain.delay, drain.timeout = ?drain.timeout, "draining");
        if exit == Exit::Stopped {
            tokio::select! {
                () = tokio::time::sleep(drain.delay) => {}
                () = self.stop.reached(Stage::Abort) => {}
            }
        }
        self.stop.advance(Stage::Finish);
        let all_ended = async {
            while let Some(ended) = ends.recv().await {
                if ended == Exit::Failed {
                    exit = ended;
                }
            }
        };
        if tokio::time::timeout(drain.timeout, all_ended)
            .await
            .is_err()
        {
            tracing::warn!("drain.timeout is over: what is still in flight is cut");
        }
        self.stop.advance(Stage::Abort);
        exit
    }

    async fn reload(
        &mut self,
        loaded: Option<Box<Loaded>>,
        token: &mut Option<Running>,
        keys: &mut Option<oneshot::Sender<()>>,
    ) -> Result<(), Vec<Problem>> {
        let loaded = match (loaded, &self.compiler.deps.reread) {
            (Some(loaded), _) => *loaded,
            (None, Some(reread)) => reread()?,
            (None, None) => return Ok(()),
        };
        let fixed = fixed(&self.loaded, &loaded);
        if !fixed.is_empty() {
            return Err(fixed);
        }
        let old = Arc::clone(&self.policies.borrow());
        let Compiled {
            policy,
            token: next,
            keys: next_keys,
            certificate,
            federation,
            revocations,
        } = self.compiler.compile(&loaded, Some((&self.loaded, &old)))?;
        let epoch = policy.epoch;
        let in_use = policy.token().cloned();
        let needs_keys = policy.keys().is_some();
        follow(certificate);
        read_again(federation);
        read_again(revocations);
        self.publish(policy).await;
        // The one before it ends with its sender.
        match next_keys {
            Some(task) => *keys = Some(start_keys(task)),
            None if !needs_keys => *keys = None,
            None => {}
        }
        match (token.take(), next) {
            (Some(old), Some(next)) => *token = Some(old.replaced_by(next)),
            (None, Some(next)) => *token = Some(Running::start(next)),
            (old, None) => match in_use {
                Some(handle) => {
                    *token = old;
                    handle.reloaded();
                }
                None => self.ending.extend(old.map(|old| spawn_local(old.end()))),
            },
        }
        self.loaded = Arc::new(loaded);
        tracing::info!(config.epoch = epoch, "configuration reloaded");
        Ok(())
    }

    /// Tells the log and the admin listener what became of a reload.
    fn note(&self, outcome: &Result<(), Vec<Problem>>) {
        for problem in outcome.as_ref().err().into_iter().flatten() {
            tracing::error!(%problem, "reload refused, the running config stays");
        }
        let now = self.compiler.deps.clock.unix();
        self.configured.send_modify(|config| match outcome {
            Ok(()) => {
                config.loaded = Arc::clone(&self.loaded);
                config.since_unix_s = now;
                config.taken += 1;
                config.problems = Vec::new();
            }
            Err(problems) => {
                config.refused += 1;
                config.problems = problems.iter().map(Problem::to_string).collect();
            }
        });
    }

    /// Takes what the list of issuers says now.
    async fn relist(&mut self, keys: &mut Option<oneshot::Sender<()>>) {
        let old = Arc::clone(&self.policies.borrow());
        let Some((policy, task)) = self.compiler.relist(&self.loaded, &old) else {
            return;
        };
        self.publish(policy).await;
        // The one before it ends with its sender.
        *keys = task.map(start_keys);
    }

    /// Gives every data thread this policy; returns when they serve by it.
    async fn publish(&mut self, policy: Arc<Policy>) {
        let epoch = policy.epoch;
        let old = self.policies.send_replace(Arc::clone(&policy));
        say_faults(&policy, Some(&old));
        let stop = self.stop.clone();
        let all_seen = async {
            for seen in &mut self.seen {
                // A plane that is gone serves nothing.
                let _ = seen.wait_for(|seen| *seen >= epoch).await;
            }
        };
        tokio::select! {
            () = all_seen => {}
            // A thread that is stuck holds up no stop.
            () = stop.reached(Stage::Drain) => {}
        }
    }
}

/// Done when the list of issuers is another one than the policy in force was made with.
async fn listed(mut policies: watch::Receiver<Arc<Policy>>) {
    loop {
        let policy = Arc::clone(&policies.borrow_and_update());
        let federation = policy
            .inbound
            .as_ref()
            .and_then(|side| side.federation.as_ref());
        let changed = async {
            let Some(federation) = federation else {
                return std::future::pending().await;
            };
            let mut list = federation.list.watch();
            if list
                .wait_for(|state| state.epoch != federation.epoch)
                .await
                .is_err()
            {
                // What reads it panicked, and said so.
                std::future::pending().await
            }
        };
        tokio::select! {
            () = changed => return,
            reloaded = policies.changed() => if reloaded.is_err() {
                return std::future::pending().await;
            },
        }
    }
}

/// Says which entries of the list of issuers are left out, each once.
fn say_faults(policy: &Policy, before: Option<&Policy>) {
    fn of(policy: &Policy) -> Option<&Federation> {
        policy.inbound.as_ref()?.federation.as_ref()
    }
    let Some(federation) = of(policy) else {
        return;
    };
    let known = before.and_then(of).map_or(&[][..], |before| &before.faults);
    let known: HashSet<_> = known.iter().map(Fault::key).collect();
    for fault in federation.faults.iter() {
        if !known.contains(&fault.key()) {
            tracing::warn!("inbound.federation: an entry of the list is left out: {fault}");
        }
    }
}

/// Reads a list again until no policy uses it any more.
fn read_again<T: 'static>(task: Option<list::Task<T>>) {
    if let Some(task) = task {
        spawn_local(task.run());
    }
}

/// Follows the files of a certificate until no policy uses it any more.
fn follow(certificate: Option<Follower>) {
    if let Some(follower) = certificate {
        spawn_local(follower.run());
    }
}

/// Starts a key plane, which ends with what this answers.
fn start_keys(task: keys::Task) -> oneshot::Sender<()> {
    let (stop, stopped) = oneshot::channel();
    spawn_local(task.run(stopped));
    stop
}

/// The first keys of `home`, or of any issuer where none is called so.
fn has_keys(policy: &Policy, snapshot: &Snapshot) -> bool {
    let home = policy.inbound.as_ref().and_then(|inbound| inbound.home);
    let mut issuers = snapshot.issuers.iter().enumerate();
    issuers.any(|(at, keys)| home.is_none_or(|home| home == at) && keys.set.is_some())
}

/// Opens the latch with the first state of a plane that will do, whichever policy is in force by then.
async fn first<T>(
    mut policies: watch::Receiver<Arc<Policy>>,
    latch: Latch,
    plane: impl Fn(&Policy) -> Option<watch::Receiver<Arc<T>>>,
    will_do: impl Fn(&Policy, &T) -> bool,
) {
    loop {
        let policy = Arc::clone(&policies.borrow_and_update());
        let Some(mut states) = plane(&policy) else {
            latch.open();
            return;
        };
        tokio::select! {
            biased;
            found = states.wait_for(|state| will_do(&policy, state)) => if found.is_ok() {
                latch.open();
                return;
            },
            reloaded = policies.changed() => {
                if reloaded.is_err() {
                    return;
                }
                continue;
            }
        }
        // This plane has ended; another policy follows, if anything does.
        if policies.changed().await.is_err() {
            return;
        }
    }
}

/// Says which names in the list of revoked tokens no issuer has, each once while it is so.
async fn tell_of_nobody(mut policies: watch::Receiver<Arc<Policy>>) {
    let mut told: HashSet<String> = HashSet::new();
    loop {
        let policy = Arc::clone(&policies.borrow_and_update());
        let mut states = policy.revocations().map(list::Handle::watch);
        let list = states
            .as_mut()
            .and_then(|states| states.borrow_and_update().list.clone());
        // Before a list of issuers has been read, its names are not known.
        let inbound = (policy.inbound.as_ref()).filter(|inbound| {
            inbound
                .federation
                .as_ref()
                .is_none_or(|list| list.epoch > 0)
        });
        if let (Some(inbound), Some(revoked)) = (inbound, list) {
            let unknown = inbound.revoked_of_nobody(&revoked);
            for name in unknown.iter().filter(|name| !told.contains(*name)) {
                tracing::warn!(
                    "inbound.revocations: no issuer is called {name:?}, so that what is revoked of \
                     it stays good: write the issuer's name in the config, not its iss"
                );
            }
            told = unknown.into_iter().collect();
        }
        let changed = async {
            if let Some(states) = &mut states
                && states.changed().await.is_ok()
            {
                return;
            }
            std::future::pending().await
        };
        tokio::select! {
            () = changed => {}
            reloaded = policies.changed() => if reloaded.is_err() {
                return;
            },
        }
    }
}

/// What a reload cannot change: it is bound or running.
fn fixed(old: &Loaded, new: &Loaded) -> Vec<Problem> {
    let (was, is) = (&old.config, &new.config);
    let (limits, log) = ((&was.limits, &is.limits), (&was.log, &is.log));
    let listens = was.listens().into_iter().zip(is.listens());
    let listens = listens.map(|((key, was), (_, is))| (key, was != is));
    let others = [
        ("admin.listen", was.admin != is.admin),
        ("threads", was.threads != is.threads),
        (
            "limits.header_bytes",
            limits.0.header_bytes != limits.1.header_bytes,
        ),
        (
            "limits.connections",
            limits.0.connections != limits.1.connections,
        ),
        (
            "limits.concurrent_streams",
            limits.0.concurrent_streams != limits.1.concurrent_streams,
        ),
        (
            "limits.header_timeout",
            limits.0.header_timeout != limits.1.header_timeout,
        ),
        (
            "limits.idle_timeout",
            limits.0.idle_timeout != limits.1.idle_timeout,
        ),
        ("log.format", log.0.format != log.1.format),
        ("log.level", log.0.level != log.1.level),
    ];
    listens
        .chain(others)
        .filter(|(_, changed)| *changed)
        .map(|(key, _)| new.problem_at(key, "cannot change while running; restart to change it"))
        .collect()
}

/// Opens the latch with the first token, whichever policy is in force by then. `true` where the
/// login was refused first and must not be.
async fn first_token(
    mut policies: watch::Receiver<Arc<Policy>>,
    latch: Option<Latch>,
    required: bool,
) -> bool {
    let Some(latch) = latch else {
        return false;
    };
    loop {
        let token = policies.borrow_and_update().token().cloned();
        let Some(token) = token else {
            // Nothing needs one any more.
            latch.open();
            return false;
        };
        let mut states = token.watch();
        loop {
            let state = Arc::clone(&states.borrow_and_update());
            if state.token.is_some() {
                latch.open();
                return false;
            }
            if let Phase::Parked { why } = &state.phase
                && required
            {
                tracing::error!("{why} (region.startup is \"require\")");
                return true;
            }
            tokio::select! {
                biased;
                reloaded = policies.changed() => match reloaded {
                    Ok(()) => break,
                    Err(_) => return false,
                },
                changed = states.changed() => if changed.is_err() {
                    // This token plane has ended; another policy follows, if anything does.
                    match policies.changed().await {
                        Ok(()) => break,
                        Err(_) => return false,
                    }
                },
            }
        }
    }
}
