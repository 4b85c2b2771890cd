//! What stands in the log of the binary itself, in both formats: a line for each request, and nothing in
//! it that a caller could break it with.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;

use serde_json::Value;

use crate::forge::Forge;
use crate::gate::{bearer, get};
use crate::signer::KEYS;
use crate::world::HOME;

/// A sidecar in a process of its own; it ends with the test.
struct Process {
    child: Child,
    log: BufReader<ChildStderr>,
    /// Its first lines.
    said: String,
    _folder: tempfile::TempDir,
}

impl Process {
    /// With an issuer that is a federated one. `peers` announce the caller.
    fn start(format: &str, peers: &str) -> Process {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("west.pem");
        std::fs::write(&keys, KEYS.rsa.pem()).expect("a file");
        let file = folder.path().join("regent.toml");
        let config = format!(
            "[inbound]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://{}\"\n\
             proxy_protocol = [\"{peers}\"]\n\
             [inbound.issuers.west]\nissuer = \"{HOME}\"\npublic_key_file = {keys:?}\n\
             [[inbound.rules]]\npath = \"/admin\"\nclaims = {{ role = [\"admin\"] }}\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n\
             [log]\nformat = \"{format}\"\naccess = true\n",
            workload()
        );
        std::fs::write(&file, config).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_regent"))
            .args(["run", "-c"])
            .arg(&file)
            .env_clear()
            .env("HOME", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let log = BufReader::new(child.stderr.take().expect("piped"));
        Process {
            child,
            log,
            said: String::new(),
            _folder: folder,
        }
    }

    /// Where the next listener is that it tells of.
    fn listens(&mut self) -> SocketAddr {
        loop {
            let begin = self.said.len();
            let read = self.log.read_line(&mut self.said).expect("a log");
            assert!(read > 0, "it ended before it listened: {}", self.said);
            let line = &self.said[begin..];
            let port = line.split("127.0.0.1:").nth(1);
            let port = port.and_then(|rest| rest.split(|char: char| !char.is_ascii_digit()).next());
            if line.contains("listen")
                && let Some(port) = port
            {
                return format!("127.0.0.1:{port}").parse().expect("a port");
            }
        }
    }

    /// All that it has said, once it has ended.
    fn end(mut self, admin: SocketAddr) -> String {
        let quit = "POST /quit HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let answer = ask(admin, quit.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
        let mut said = std::mem::take(&mut self.said);
        self.log.read_to_string(&mut said).expect("text");
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has told by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers every connection's first request with five bytes.
fn workload() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("a port");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            // Whoever called may leave at any time.
            let _ = stream.read(&mut head);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
            );
        }
    });
    at
}

/// The first of the answer.
fn ask(at: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.write_all(request).expect("it reads");
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).expect("an answer");
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// The whole log after these requests of 192.0.2.7.
fn log_of(format: &str, requests: &[Vec<u8>]) -> String {
    let mut process = Process::start(format, "127.0.0.1");
    let (inbound, admin) = (process.listens(), process.listens());
    for request in requests {
        let header = b"PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\r\n";
        let answer = ask(inbound, &[header, &**request].concat());
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    }
    process.end(admin)
}

fn alice() -> String {
    let now = regent::clock::Clock::system().unix();
    bearer(&Forge::home(now).claim("username", "alice").token())
}

#[test]
fn an_access_line_says_who_asked_for_what_and_what_came_of_it() {
    let alice = alice();
    let bears = ("Authorization", &*alice);
    let requests = [
        get("/a/b?key=canary", &[bears, ("X-Request-Id", "id-1")]),
        get("/admin?key=canary", &[bears]),
        get("/none", &[]),
    ]
    .map(String::into_bytes);
    let said = log_of("json", &requests);
    assert!(
        !said.contains("canary") && !said.contains(&alice[10..]),
        "{said}"
    );
    let lines: Vec<Value> = (said.lines())
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &Value| line["target"] == "regent::access")
        .collect();
    let [good, refused, nobody] = &lines[..] else {
        panic!("{said}");
    };
    for line in &lines {
        assert_eq!(line["side"], "inbound");
        assert_eq!(line["peer"], "192.0.2.7");
        assert_eq!(line["method"], "GET");
        assert!(
            line["duration_ms"].as_f64().is_some_and(|ms| ms > 0.0),
            "{line}"
        );
    }
    assert_eq!(good["path"], "/a/b");
    assert_eq!(good["status"], 200);
    assert_eq!(good["reason"], Value::Null);
    assert_eq!(good["request.id"], "id-1");
    assert_eq!(good["user"], "west:alice");
    assert_eq!(good["issuer.name"], "west");
    assert_eq!(good["answer.bytes"], 5);
    assert_eq!(refused["path"], "/admin");
    assert_eq!(refused["status"], 403);
    assert_eq!(refused["reason"], "claims_not_met");
    assert_eq!(refused["user"], "west:alice", "it is known who was refused");
    assert!(
        refused["answer.bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 50)
    );
    assert_eq!(nobody["status"], 401);
    for none in ["user", "issuer.name"] {
        assert_eq!(nobody[none], Value::Null);
    }
    assert_eq!(nobody["request.id"].as_str().map(str::len), Some(32));

    let said = log_of("text", &requests[..1]);
    let line = said.lines().find(|line| line.contains("regent::access"));
    let line = line.expect("a line");
    for part in [
        "peer=\"192.0.2.7\" method=GET path=/a/b status=200",
        "request.id=\"id-1\"",
        "user=\"west:alice\" issuer.name=\"west\"",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_config_by_which_anybody_may_pose_as_another_is_said_at_the_start() {
    let warning = "inbound.proxy_protocol names everybody: ";
    for (peers, expected) in [("0.0.0.0/0", 1), ("127.0.0.0/8", 0)] {
        let mut process = Process::start("text", peers);
        let (_, admin) = (process.listens(), process.listens());
        let said = process.end(admin);
        assert_eq!(said.matches(warning).count(), expected, "{said}");
    }
}

#[test]
fn no_caller_breaks_a_line_or_makes_it_long() {
    let alice = alice();
    let odd = |target: &[u8], id: &[u8]| {
        let fields = format!("Host: svc.example\r\nAuthorization: {alice}\r\nX-Request-Id: ");
        let parts = [
            b"GET ",
            target,
            b" HTTP/1.1\r\n",
            fields.as_bytes(),
            id,
            b"\r\n\r\n",
        ];
        parts.concat()
    };
    let requests = [
        // A line's end as Unicode has it, one that turns the text around, a terminal's command.
        odd(
            "/\u{85}\u{2028}\u{202e}\u{9b}31m\"x".as_bytes(),
            b"a\tb\" c",
        ),
        odd(b"/p%0aq%1b", "\u{85}\u{2028}".as_bytes()),
        odd(&[b'/'; 3000], &[b'i'; 3000]),
        get(&format!("/{}", "x".repeat(3000)), &[]).into_bytes(),
    ];
    for format in ["json", "text"] {
        let said = log_of(format, &requests);
        let odd = |char: char| matches!(char, '\u{2028}' | '\u{202e}') || char.is_control();
        let lines: Vec<&str> = said.lines().collect();
        for line in &lines {
            assert!(!line.contains(odd), "{line:?}");
            assert!(line.len() < 2000, "{line}");
            assert!(
                format != "json" || serde_json::from_str::<Value>(line).is_ok(),
                "{line}"
            );
        }
        let access = lines.iter().filter(|line| line.contains("regent::access"));
        assert_eq!(access.count(), requests.len(), "{said}");
        assert!(
            said.contains("/%C2%85%E2%80%A8%E2%80%AE%C2%9B31m"),
            "{said}"
        );
    }
}
