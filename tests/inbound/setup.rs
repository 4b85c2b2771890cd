//! What a sidecar with an inbound side is made of: its config, its files, its issuers.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use regent::app::{self, Bound, Deps, Exit, Remote};
use regent::config::load::load;
use regent::config::{Loaded, Sources};
use regent::lifecycle::Stage;
use regent::{dns, fetch};
use tempfile::TempDir;
use tokio::task::spawn_local;

use crate::gate::Gate;
use crate::signer::KEYS;
use crate::support::{Recorder, World};
use crate::world::{Entry, HOME};

/// What a sidecar is started with, and reloaded with.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) world: World,
    folder: Rc<TempDir>,
    listen: String,
    forward_auth: Option<SocketAddr>,
    admin: SocketAddr,
    upstream: String,
    lines: Vec<String>,
    issuers: Vec<(String, String)>,
    rules: Vec<String>,
    sets: Vec<String>,
    fetch: Option<fetch::Service>,
    lookup: Option<Arc<dyn dns::Lookup>>,
}

impl Setup {
    /// With the issuer `home` alone: a region whose key is in a file.
    pub(crate) fn new(world: &World, workload: SocketAddr) -> Setup {
        Setup::bare(world, &format!("http://{workload}")).home()
    }

    /// Without any issuer.
    pub(crate) fn bare(world: &World, upstream: &str) -> Setup {
        Setup {
            world: world.clone(),
            folder: Rc::new(tempfile::tempdir().expect("a folder")),
            listen: world.address().to_string(),
            forward_auth: None,
            admin: world.address(),
            upstream: upstream.to_owned(),
            lines: Vec::new(),
            issuers: Vec::new(),
            rules: Vec::new(),
            sets: Vec::new(),
            fetch: None,
            lookup: None,
        }
    }

    fn home(self) -> Setup {
        let file = self.file("home.pem", &KEYS.rsa.pem());
        let keys = format!(
            "issuer = '{HOME}'\npublic_key_file = '{}'\n",
            file.display()
        );
        self.issuer("home", keys)
    }

    /// With the workload elsewhere.
    pub(crate) fn upstream(mut self, upstream: &str) -> Setup {
        upstream.clone_into(&mut self.upstream);
        self
    }

    /// With a listener that other proxies ask.
    pub(crate) fn forward_auth(mut self) -> Setup {
        self.forward_auth = Some(self.world.address());
        self
    }

    /// With that one and no other.
    pub(crate) fn forward_auth_alone(self) -> Setup {
        let mut setup = self.forward_auth();
        setup.listen.clear();
        setup
    }

    /// A file beside the config.
    pub(crate) fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let beside = self.folder.path().join(format!("{name}.new"));
        std::fs::write(&beside, contents).expect("a file");
        std::fs::rename(&beside, &path).expect("the same folder");
        path
    }

    /// A line of `[inbound]`.
    pub(crate) fn line(mut self, line: &str) -> Setup {
        self.lines.push(line.to_owned());
        self
    }

    /// An issuer, in the place of one of the same name.
    pub(crate) fn issuer(mut self, name: &str, keys: impl Into<String>) -> Setup {
        self = self.without(name);
        self.issuers.push((name.to_owned(), keys.into()));
        self
    }

    /// More keys of an issuer.
    pub(crate) fn and(mut self, name: &str, keys: &str) -> Setup {
        let mut issuers = self.issuers.iter_mut();
        let known = issuers.find(|(known, _)| known == name);
        let (_, text) = known.expect("it is there");
        *text += keys;
        *text += "\n";
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Setup {
        self.issuers.retain(|(known, _)| known != name);
        self
    }

    /// An issuer of the verifier's own tests.
    pub(crate) fn entry(self, entry: &Entry) -> Setup {
        let keys = match entry.keys.chars().next() {
            None => "jwks_url = 'http://127.0.0.1:1/'".to_owned(),
            Some('{') => {
                let file = self.file(&format!("{}.json", entry.name), &entry.keys);
                format!("jwks_file = '{}'", file.display())
            }
            Some(_) => {
                let file = self.file(&format!("{}.pem", entry.name), &entry.keys);
                format!("public_key_file = '{}'", file.display())
            }
        };
        let list = |words: &[&str]| serde_json::json!(words).to_string();
        let mut text = format!(
            "issuer = '{}'\n{keys}\nalgorithms = {}\n",
            entry.issuer,
            list(entry.algorithms),
        );
        if !entry.audiences.is_empty() {
            text += &format!("audiences = {}\n", list(entry.audiences));
        }
        let required: Vec<String> = (entry.required.iter())
            .map(|(name, values)| format!("\"{name}\" = {}", serde_json::json!(values)))
            .collect();
        if !required.is_empty() {
            text += &format!("required_claims = {{ {} }}\n", required.join(", "));
        }
        self.issuer(entry.name, text)
    }

    /// One of `[[inbound.rules]]`, in one line: `path = "/x", anonymous = true`.
    pub(crate) fn rule(mut self, keys: &str) -> Setup {
        self.rules.push(format!("{{ {keys} }}"));
        self
    }

    pub(crate) fn without_rules(mut self) -> Setup {
        self.rules.clear();
        self
    }

    pub(crate) fn set(mut self, set: &str) -> Setup {
        self.sets.push(set.to_owned());
        self
    }

    /// Without what was set of these keys.
    pub(crate) fn unset(mut self, keys: &str) -> Setup {
        self.sets.retain(|set| !set.starts_with(keys));
        self
    }

    /// Without TLS towards callers.
    pub(crate) fn plain(self) -> Setup {
        self.unset("inbound.tls.")
    }

    /// Keys come from here.
    pub(crate) fn fetch(mut self, service: fetch::Service) -> Setup {
        self.fetch = Some(service);
        self
    }

    /// Names are looked up here.
    pub(crate) fn lookup(mut self, lookup: Arc<dyn dns::Lookup>) -> Setup {
        self.lookup = Some(lookup);
        self
    }

    pub(crate) fn loaded(&self) -> Loaded {
        let mut text = format!("[inbound]\nrules = [{}]\n", self.rules.join(", "));
        if !self.listen.is_empty() {
            text += &format!(
                "listen = '{}'\nupstream = '{}'\n",
                self.listen, self.upstream
            );
        }
        if let Some(at) = self.forward_auth {
            text += &format!("forward_auth.listen = '{at}'\n");
        }
        for line in &self.lines {
            text += &format!("{line}\n");
        }
        for (name, keys) in &self.issuers {
            text += &format!("[inbound.issuers.{name}]\n{keys}\n");
        }
        let mut sets = vec![format!("admin.listen={}", self.admin)];
        sets.extend(self.sets.iter().cloned());
        let home = self.folder.path().display().to_string();
        let sources = Sources {
            files: vec![self.file("regent.toml", &text)],
            sets,
            env: [("HOME", home)].into_iter().collect(),
            terminal: false,
        };
        load(&sources).unwrap_or_else(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            panic!("{text}\n{}", lines.join("\n"))
        })
    }

    /// Where it listens.
    pub(crate) fn listen(&self) -> &str {
        &self.listen
    }

    fn gate(&self, (at, verify, admin, remote): Way, workload: Rc<Recorder>) -> Gate {
        Gate {
            at,
            verify,
            admin,
            remote,
            world: self.world.clone(),
            workload,
            _folder: Rc::clone(&self.folder),
        }
    }

    pub(crate) fn start(&self, workload: Rc<Recorder>) -> Gate {
        let bound = self.build().expect("a sidecar");
        let gate = self.gate(way(&bound), workload);
        spawn_local(bound.run_here());
        gate
    }

    fn build(&self) -> Result<Bound, app::Error> {
        let mut deps = Deps {
            net: Arc::clone(&self.world.net),
            clock: self.world.clock.clone(),
            fetch: self.fetch.clone(),
            ..Deps::system()
        };
        if let Some(lookup) = &self.lookup {
            deps.lookup = Arc::clone(lookup);
        }
        app::build(self.loaded(), deps)
    }

    /// Why it does not start.
    pub(crate) fn problem(&self) -> String {
        self.build().expect_err("a mistake").to_string()
    }

    /// On threads of its own, over sockets.
    pub(crate) fn start_threads(&self, workload: Rc<Recorder>) -> Threads {
        let loaded = self.loaded();
        let (bound_at, at) = std::sync::mpsc::channel();
        let run = std::thread::spawn(move || {
            let bound = app::build(loaded, Deps::system())?;
            bound_at.send(way(&bound)).expect("somebody waits");
            bound.run()
        });
        Threads {
            gate: self.gate(at.recv().expect("a sidecar"), workload),
            run: Some(run),
        }
    }
}

/// Where it is called, where it is asked, where its admin is, and what steers it.
type Way = (SocketAddr, Option<SocketAddr>, SocketAddr, Remote);

fn way(bound: &Bound) -> Way {
    let at = bound.inbound.as_ref().and_then(|at| at.tcp());
    let verify = bound.forward_auth.as_ref().and_then(|at| at.tcp());
    let admin = bound.admin.expect("an admin listener");
    let at = at.or(verify).expect("TCP");
    (at, verify, admin, bound.remote.clone())
}

/// A sidecar on threads of its own; it has ended when this is dropped.
pub(crate) struct Threads {
    pub(crate) gate: Gate,
    run: Option<std::thread::JoinHandle<Result<Exit, app::Error>>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.gate.remote.stop.advance(Stage::Abort);
        if let Some(run) = self.run.take()
            && !std::thread::panicking()
        {
            let exit = run.join().expect("no panic").expect("it ran");
            assert_eq!(exit, Exit::Stopped);
        }
    }
}
