//! A sidecar with an inbound side.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use regent::app::Remote;
use regent::lifecycle::Stage;
use regent::reason::Reason;
use regent::telemetry::counters::{Side, SideCounters};
use serde_json::Value;
use tempfile::TempDir;

use crate::forge::Forge;
pub(crate) use crate::setup::Setup;
pub(crate) use crate::support::{
    Answer, End, Head, Peer, Received, Recorder, Upstream, World, answer, ok, paused, real, settle,
    until,
};

/// What stands for a host, and is none.
pub(crate) const NO_HOSTS: &[&str] = &[
    "",
    "a,b",
    "a, b",
    "u@a",
    "a/b",
    "a b",
    "a\tb",
    "a?b",
    "a#b",
    "a\\b",
    "a\"b",
    "a;b",
    "a%00b",
    "http://a",
    "a:99999",
    "a:65536",
    "a:",
    "a:x",
    "a:-1",
    "a:+80",
    "a:80:80",
    ":80",
    "[]",
    "[::1",
    "::1",
    "[::1]x",
    "[::1%25eth0]",
    "\u{fc}.example",
];

/// A sidecar that runs.
pub(crate) struct Gate {
    pub(crate) at: SocketAddr,
    /// Where other proxies ask.
    pub(crate) verify: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    pub(crate) remote: Remote,
    pub(crate) world: World,
    /// What the workload saw, where it answers by itself.
    pub(crate) workload: Rc<Recorder>,
    pub(crate) _folder: Rc<TempDir>,
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.remote.stop.advance(Stage::Abort);
    }
}

impl Gate {
    pub(crate) async fn caller(&self) -> Peer {
        self.world.connect(self.at).await
    }

    /// One request over a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut caller = self.caller().await;
        caller.send(request).await;
        caller.answer().await
    }

    /// Another proxy, and its connection.
    pub(crate) async fn asker(&self) -> Peer {
        self.world.connect(self.verify.expect("forward_auth")).await
    }

    /// A GET with this token.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.ask(get(path, &[("Authorization", &bearer(token))]))
            .await
    }

    /// What the workload gets of a request that passes.
    pub(crate) async fn passes(&self, request: impl AsRef<[u8]>) -> Received {
        let request = request.as_ref();
        let shown = String::from_utf8_lossy(request).into_owned();
        let before = (self.workload.count(), self.refused_in_all());
        let answer = self.ask(request).await;
        assert_eq!(answer.status, 200, "{shown}{answer:?}");
        assert!(!answer.head.has("proxy-status"), "{shown}{answer:?}");
        let after = (self.workload.count(), self.refused_in_all());
        assert_eq!(after, (before.0 + 1, before.1), "{shown}");
        self.workload.last()
    }

    /// Refused for this reason: told in every place, counted once, and nothing of it behind us.
    pub(crate) async fn refuses(&self, request: impl AsRef<[u8]>, reason: Reason) -> Answer {
        let request = request.as_ref();
        let mut shown = String::from_utf8_lossy(request).into_owned();
        shown.truncate(shown.floor_char_boundary(2000));
        let state = || {
            let workload = (self.workload.count(), self.workload.bytes.get());
            (workload, self.refused_in_all(), self.refused(reason))
        };
        let (workload, all, this) = state();
        let answer = self.ask(request).await;
        assert_eq!(answer.status, reason.status().as_u16(), "{shown}{answer:?}");
        assert_eq!(answer.reason(), reason.word(), "{shown}");
        let challenge = answer.head.get("www-authenticate");
        assert_eq!(challenge, challenge_for(reason).as_deref(), "{shown}");
        assert_eq!(state(), (workload, all + 1, this + 1), "{shown}");
        answer
    }

    pub(crate) fn counted(&self, counter: impl Fn(&SideCounters) -> &AtomicU64) -> u64 {
        let each = self.remote.counters.iter();
        each.map(|counters| counter(counters.of(Side::Inbound)).load(Relaxed))
            .sum()
    }

    pub(crate) fn refused(&self, reason: Reason) -> u64 {
        self.counted(|side| &side.refused[reason as usize])
    }

    pub(crate) fn shadowed(&self, reason: Reason) -> u64 {
        self.counted(|side| &side.shadowed[reason as usize])
    }

    pub(crate) fn refused_in_all(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.refused(*reason)).sum()
    }

    pub(crate) async fn reload(&self, setup: &Setup) {
        let done = self.remote.reload(setup.loaded()).await;
        done.expect("a good config");
    }

    /// A probe's status, and what it says.
    pub(crate) async fn probe(&self, path: &str) -> (u16, Value) {
        let answer = self.admin(path).await;
        let said = serde_json::from_slice(&answer.body);
        (answer.status, said.expect("JSON"))
    }

    pub(crate) async fn admin(&self, path: &str) -> Answer {
        let mut admin = self.world.connect(self.admin).await;
        admin
            .ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await
    }
}

/// What a caller must be told to bring (RFC 6750 section 3).
fn challenge_for(reason: Reason) -> Option<String> {
    const REALM: &str = "Bearer realm=\"regent\"";
    let error = match (reason, reason.status().as_u16()) {
        (Reason::MissingToken | Reason::UnsupportedScheme, _) => return Some(REALM.to_owned()),
        (Reason::MultipleTokens, _) => "invalid_request",
        (Reason::ClaimsNotMet, _) => "insufficient_scope",
        (_, 401) => "invalid_token",
        _ => return None,
    };
    let word = reason.word();
    Some(format!(
        "{REALM}, error=\"{error}\", error_description=\"{word}\""
    ))
}

/// Paused time stands still while a blocking task runs; this one runs until it is dropped.
pub(crate) fn stand_still() -> std::sync::mpsc::Sender<()> {
    let (end, ended) = std::sync::mpsc::channel();
    tokio::task::spawn_blocking(move || ended.recv());
    end
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(crate) fn get(target: &str, fields: &[(&str, &str)]) -> String {
    request("GET", target, fields)
}

pub(crate) fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> String {
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: svc.example\r\n");
    for (name, value) in fields {
        text += &format!("{name}: {value}\r\n");
    }
    text + "\r\n"
}

/// A region's token for this user.
pub(crate) fn token_of(world: &World, user: &str) -> String {
    let forge = Forge::home(world.clock.unix());
    forge.claim("username", user).token()
}

/// Answers with the identity that the workload was told.
pub(crate) fn say_identity(request: &Received) -> Vec<u8> {
    let told = identity(&request.head);
    let told: Vec<String> = (told.iter())
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    ok(&told.join(" "))
}

/// Every field that a server may take for an identity header, in order.
pub(crate) fn identity(head: &Head) -> Vec<(String, String)> {
    called(
        head,
        &["x-regent-user", "x-regent-user-id", "x-regent-issuer"],
    )
}

/// Every field that a server may take for one of these, in order.
pub(crate) fn called(head: &Head, names: &[&str]) -> Vec<(String, String)> {
    let folded = |name: &str| {
        let fold = |char: char| {
            if char.is_ascii_alphanumeric() {
                char
            } else {
                '-'
            }
        };
        name.to_ascii_lowercase()
            .chars()
            .map(fold)
            .collect::<String>()
    };
    let mut found: Vec<_> = (head.fields.iter())
        .filter(|(name, _)| names.contains(&&*folded(name)))
        .cloned()
        .collect();
    found.sort();
    found
}

/// That of `Forge::home`.
pub(crate) fn alice() -> Vec<(String, String)> {
    [
        ("x-regent-issuer", "home"),
        ("x-regent-user", "alice"),
        ("x-regent-user-id", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}
