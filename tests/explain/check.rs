//! Keys over the network: `explain` fetches those that it needs, `check --online` all of them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::world::{Signer, claims};

/// Answers whatever it is asked with this.
fn serve(listener: TcpListener, body: String) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n{body}",
                body.len()
            );
        }
    });
}

/// A key server on loopback, and a config that names it.
struct Net {
    folder: tempfile::TempDir,
    signer: Signer,
    port: u16,
}

impl Net {
    /// With `is_up` false, nobody answers at the address of the keys.
    fn new(is_up: bool) -> Net {
        let signer = Signer::new();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let body = json!({"keys": [signer.jwk("net-1")]}).to_string();
        if is_up {
            serve(listener, body);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            r#"
[inbound]
listen = "127.0.0.1:0"
upstream = "http://127.0.0.1:{port}"
[inbound.issuers.net]
issuer = "iss.net"
jwks_url = "http://127.0.0.1:{port}/keys"
algorithms = ["EdDSA"]
"#
        );
        std::fs::write(folder.path().join("regent.toml"), config).expect("a file");
        Net {
            folder,
            signer,
            port,
        }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_regent"))
            .args(arguments)
            .arg("-c")
            .arg(self.folder.path().join("regent.toml"))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("it ends")
    }

    fn token(&self) -> String {
        let now = regent::clock::Clock::system().unix();
        let changes = json!({"iss": "iss.net", "iat": now - 5, "exp": now + 300});
        self.signer
            .sign(&json!({"alg": "EdDSA", "kid": "net-1"}), claims(changes))
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn explain_fetches_the_keys_of_the_tokens_issuer() {
    let net = Net::new(true);
    let out = net.run(&["explain"], &net.token());
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}{}",
        text(&out.stdout),
        text(&out.stderr)
    );
    assert!(text(&out.stderr).contains("fetching the keys of inbound.issuers.net"));
    assert!(text(&out.stdout).contains("by the key Ed25519, kid \"net-1\""));
    // Another issuer's token needs none.
    let out = net.run(&["explain"], "a.b.c");
    assert_eq!(text(&out.stderr), "");
}

#[test]
fn explain_says_why_the_keys_cannot_be_had() {
    let net = Net::new(false);
    let out = net.run(&["explain"], &net.token());
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stdout);
    assert!(said.contains("rejected: issuer_keys_unavailable"), "{said}");
    assert!(
        said.contains("-> the issuer's keys cannot be had: "),
        "{said}"
    );
}

#[test]
fn check_online_fetches_keys_and_dials_the_workload() {
    let net = Net::new(true);
    let out = net.run(&["check", "--online"], "");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(
        said.contains("issuer net: Ed25519, kid \"net-1\""),
        "{said}"
    );
    assert!(said.contains("workload http://127.0.0.1:"), "{said}");
}

#[test]
fn check_says_where_anybody_may_pose_as_another() {
    let net = Net::new(false);
    let warning = "inbound.proxy_protocol names everybody: ";
    for (peers, expected) in [("0.0.0.0/0", 1), ("10.0.0.0/8", 0)] {
        let set = format!("inbound.proxy_protocol=[\"{peers}\"]");
        let out = net.run(&["check", "--set", &set], "");
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{said}");
        assert_eq!(said.matches(warning).count(), expected, "{said}");
    }
}

#[test]
fn check_online_without_keys_ends_with_4() {
    let net = Net::new(false);
    let out = net.run(&["check", "--online"], "");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(4), "{said}");
    assert!(said.contains("issuer net: no keys: "), "{said}");
    assert_eq!(
        net.run(&["check"], "").status.code(),
        Some(0),
        "offline asks nobody"
    );
}

/// The server answers whatever it is asked, as a proxy that opens a way would, and as one that was asked
/// for keys.
#[test]
fn check_online_says_what_is_reached_through_a_proxy() {
    let net = Net::new(true);
    let proxy = format!("http://127.0.0.1:{}", net.port);
    let out = net.run(
        &[
            "check",
            "--online",
            "--set",
            r#"outbound.routes=[{"path": "/", "upstream": "http://up.example", "token": "none"}]"#,
            "--set",
            &format!("outbound.proxy={proxy}"),
            "--set",
            "inbound.issuers.net.jwks_url=http://keys.example/keys",
            "--set",
            "inbound.issuers.net.insecure_http=true",
            "--set",
            &format!("inbound.issuers.net.proxy={proxy}"),
        ],
        "",
    );
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let upstream = format!("upstream http://up.example: reachable through the proxy {proxy}\n");
    assert!(said.contains(&upstream), "{said}");
    assert!(said.contains("issuer net: Ed25519"), "{said}");
    assert!(
        said.contains("workload http://127.0.0.1:") && said.contains(": reachable\n"),
        "{said}"
    );
}

#[test]
fn an_access_token_file_alone_needs_an_upstream_and_no_region() {
    let net = Net::new(true);
    let path = net.folder.path().join("access");
    std::fs::write(&path, net.token()).expect("a file");
    let token = format!("region.credential.access_token_file={}", path.display());
    let upstream = format!("outbound.upstream=http://127.0.0.1:{}", net.port);
    let out = net.run(
        &["check", "--online", "--set", &token, "--set", &upstream],
        "",
    );
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert!(!said.contains("asking"), "{said}");
    let line =
        format!("access_token_file {path:?}: there is nothing to ask the region for; the token");
    assert!(said.contains(&line), "{said}");
    let listen = "outbound.listen=127.0.0.1:0";
    let out = net.run(&["check", "--set", &token, "--set", listen], "");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("outbound.upstream: is missing, and there is no region.url"),
        "{said}"
    );
    // A rung that asks the region needs one all the same.
    let file = "region.credential.refresh_token_file=/nowhere";
    let out = net.run(
        &["check", "--set", &token, "--set", &upstream, "--set", file],
        "",
    );
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("region.url: is missing"), "{said}");
}

#[test]
fn an_issuer_of_a_list_is_known_to_both_and_a_broken_entry_is_named() {
    let net = Net::new(true);
    let list = net.folder.path().join("list.toml");
    let port = net.port;
    std::fs::write(
        &list,
        format!(
            "[[issuers]]\nname = 'west'\nissuer = 'iss.west'\nalgorithms = ['EdDSA']\n\
             jwks_url = 'http://127.0.0.1:{port}/keys'\n[[issuers]]\nname = 'home'\n"
        ),
    )
    .expect("a file");
    let set = format!("inbound.federation.file={}", list.display());
    let now = regent::clock::Clock::system().unix();
    let changes = json!({"iss": "iss.west", "iat": now - 5, "exp": now + 300});
    let header = json!({"alg": "EdDSA", "kid": "net-1"});
    let token = net.signer.sign(&header, claims(changes));
    let explained = net.run(&["explain", "--set", &set], &token);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert_eq!(explained.status.code(), Some(0), "{text}");
    assert!(text.contains("x-regent-issuer: west"), "{text}");
    let checked = net.run(&["check", "--set", &set], "");
    assert_eq!(checked.status.code(), Some(0));
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(said.contains("left out: issuers[1] \"home\": "), "{said}");
    let online = net.run(&["check", "--online", "--set", &set], "");
    let said = String::from_utf8_lossy(&online.stderr).into_owned();
    assert_eq!(online.status.code(), Some(0), "{said}");
    assert!(
        said.contains("issuer west: ") && said.contains("left out: "),
        "{said}"
    );
}

/// A list at a URL is read for the token that may need it.
#[test]
fn a_list_at_a_url_is_read_once() {
    let net = Net::new(false);
    let set = "inbound.federation.url=http://127.0.0.1:1/list";
    let now = regent::clock::Clock::system().unix();
    let changes = json!({"iss": "iss.west", "iat": now - 5, "exp": now + 300});
    let token = net.signer.sign(&json!({"alg": "EdDSA"}), claims(changes));
    let explained = net.run(&["explain", "--set", set], &token);
    let said = String::from_utf8_lossy(&explained.stderr).into_owned();
    assert_eq!(explained.status.code(), Some(1), "{said}");
    assert!(
        said.contains("inbound.federation: no answer from http://127.0.0.1:1/list"),
        "{said}"
    );
    let online = net.run(&["check", "--online", "--set", set], "");
    assert_eq!(online.status.code(), Some(4));
}

#[test]
fn a_revoked_token_is_explained_and_a_broken_entry_is_named() {
    let net = Net::new(true);
    let list = net.folder.path().join("revoked.json");
    let entries = json!({"revoked": [{"issuer": "net", "jti": "gone"}, {"issuer": "net"}]});
    std::fs::write(&list, entries.to_string()).expect("a file");
    let set = format!("inbound.revocations.file={}", list.display());
    let now = regent::clock::Clock::system().unix();
    let token = |jti: &str| {
        let changes = json!({"iss": "iss.net", "iat": now - 5, "exp": now + 300, "jti": jti});
        let header = json!({"alg": "EdDSA", "kid": "net-1"});
        net.signer.sign(&header, claims(changes))
    };
    for (jti, code) in [("gone", 1), ("here", 0)] {
        let explained = net.run(&["explain", "--set", &set], &token(jti));
        let told = text(&explained.stdout);
        assert_eq!(explained.status.code(), Some(code), "{told}");
        assert_eq!(told.contains("rejected: revoked"), code == 1, "{told}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    serve(listener, entries.to_string());
    let url = format!("inbound.revocations.url=http://127.0.0.1:{port}/list");
    for (jti, code) in [("gone", 1), ("here", 0)] {
        let explained = net.run(&["explain", "--set", &url], &token(jti));
        let told = text(&explained.stdout);
        assert_eq!(explained.status.code(), Some(code), "{told}");
        assert_eq!(told.contains("rejected: revoked"), code == 1, "{told}");
        let said = text(&explained.stderr);
        assert!(
            said.contains("reading the list of inbound.revocations"),
            "{said}"
        );
        assert!(said.contains("not taken: revoked[1]"), "{said}");
    }
    let url = "inbound.revocations.url=http://127.0.0.1:1/list";
    let explained = net.run(&["explain", "--set", url], &token("here"));
    let told = text(&explained.stdout);
    assert_eq!(explained.status.code(), Some(1), "{told}");
    assert!(
        told.contains("rejected: issuer_keys_unavailable: the list of revoked tokens"),
        "{told}"
    );
    assert!(
        told.contains("no answer from http://127.0.0.1:1/list"),
        "{told}"
    );
    // What is wrong with the token itself needs no list.
    let explained = net.run(&["explain", "--set", url], "a.b.c");
    assert!(text(&explained.stdout).contains("rejected: malformed_token"));
    assert_eq!(text(&explained.stderr), "");
    let checked = net.run(&["check", "--set", &set], "");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(0));
    assert!(
        said.contains("not taken: revoked[1]: says no tokens"),
        "{said}"
    );
    let online = net.run(&["check", "--online", "--set", url], "");
    let said = String::from_utf8_lossy(&online.stderr).into_owned();
    assert_eq!(online.status.code(), Some(4), "{said}");
    assert!(
        said.contains("inbound.revocations: no answer from"),
        "{said}"
    );
}
