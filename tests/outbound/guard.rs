//! The unauthenticated listener: who may call it, and what no caller can make it do (cases.md,
//! group K).
//!
//! A refusal counts only where a twin that differs in the attacked attribute alone gets through,
//! the upstream saw none of it, its counter moved by one, and the next request is served.

use std::os::unix::fs::PermissionsExt as _;
use std::rc::Rc;

use regent::app;
use regent::net::{Io, Net as _, System};
use regent::reason::Reason;
use tokio::net::UnixStream;

use super::support::*;

struct Guarded {
    sidecar: Sidecar,
    upstream: Rc<Recorder>,
}

impl Guarded {
    fn new(sets: &[&str]) -> Guarded {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let setup = Setup::new(&world, upstream.at);
        let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
        Guarded {
            sidecar: setup.start(),
            upstream: upstream.echo(),
        }
    }

    async fn refuses(&self, request: &str, reason: Reason) -> Answer {
        let before = (self.upstream.bytes.get(), self.upstream.connections.get());
        let counted = self.sidecar.refused(reason);
        let all = self.sidecar.refused_in_all();
        let answer = self.sidecar.ask(request).await;
        assert_eq!(answer.status, reason.status().as_u16(), "{request}");
        assert_eq!(answer.reason(), reason.word(), "{request}");
        assert_eq!(self.sidecar.refused(reason), counted + 1, "{request}");
        assert_eq!(self.sidecar.refused_in_all(), all + 1, "{request}");
        for name in answer.head.fields.iter().map(|(name, _)| name) {
            assert!(!name.starts_with("access-control-"), "{request}: {name}");
        }
        let after = (self.upstream.bytes.get(), self.upstream.connections.get());
        assert_eq!(before, after, "the upstream saw something of {request}");
        answer
    }

    async fn serves(&self, request: &str) -> Answer {
        let before = self.upstream.count();
        let answer = self.sidecar.ask(request).await;
        assert_eq!(answer.status, 200, "{request}: {answer:?}");
        assert_eq!(self.upstream.count(), before + 1, "{request}");
        let seen = self.upstream.last();
        let bearer = format!("Bearer {}", self.sidecar.token);
        assert_eq!(seen.head.get("authorization"), Some(bearer.as_str()));
        answer
    }
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\n{fields}\r\n")
}

#[test]
fn only_our_own_host_names_are_served() {
    real(async {
        let guarded = Guarded::new(&["outbound.hosts=[\"localhost\", \"127.0.0.1\", \"regent\"]"]);
        for host in [
            "evil.example",
            "evil.example:8080",
            "127.0.0.1.evil.com",
            "localhost.evil",
            "localhost.",
            "[::ffff:127.0.0.1]",
            "[::1]",
            "localhost,evil",
            "localhost@evil",
            "evil@localhost",
            "localhost:99999",
            "localhost:x",
            "regent.evil",
            "",
        ] {
            let request = get(&format!("Host: {host}\r\n"));
            guarded.refuses(&request, Reason::HostNotAllowed).await;
        }
        for host in ["localhost", "LocalHost:1", "127.0.0.1:8080", "regent:80"] {
            guarded.serves(&get(&format!("Host: {host}\r\n"))).await;
        }
    });
}

#[test]
fn what_proxies_say_of_a_caller_decides_nothing() {
    real(async {
        let guarded = Guarded::new(&[]);
        let (host, page) = (Reason::HostNotAllowed, Reason::CrossSiteRequest);
        let (evil, local) = ("Host: evil.example\r\n", "Host: localhost\r\n");
        for fields in [
            "X-Forwarded-Host: localhost\r\n",
            "X-Original-Host: localhost\r\n",
            "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n",
            "Forwarded: for=127.0.0.1;host=localhost;proto=http\r\n",
        ] {
            guarded
                .refuses(&get(&format!("{evil}{fields}")), host)
                .await;
            let origin = "Origin: https://evil.example\r\n";
            guarded
                .refuses(&get(&format!("{local}{origin}{fields}")), page)
                .await;
            guarded.serves(&get(&format!("{local}{fields}"))).await;
        }
        // Nor can they keep anybody out.
        let theirs = "X-Forwarded-Host: evil.example\r\nX-Forwarded-For: 203.0.113.9\r\n\
             Forwarded: host=evil.example\r\nX-Forwarded-Proto: https\r\n";
        guarded.serves(&get(&format!("{local}{theirs}"))).await;
    });
}

#[test]
fn no_host_and_two_hosts_are_bad_requests() {
    real(async {
        let guarded = Guarded::new(&[]);
        for fields in [
            "",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: localhost\r\nHost: evil.example\r\n",
        ] {
            guarded.refuses(&get(fields), Reason::BadRequest).await;
        }
        let old = "GET / HTTP/1.0\r\n\r\n";
        guarded.refuses(old, Reason::BadRequest).await;
        guarded.serves(&get("Host: localhost\r\n")).await;
    });
}

#[test]
fn web_pages_of_other_origins_are_refused() {
    real(async {
        let guarded = Guarded::new(&["outbound.allow_origins=[\"http://localhost:3000\"]"]);
        let cross = Reason::CrossSiteRequest;
        for fields in [
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost.evil\r\n",
            "Origin: http://localhost:3000.evil\r\n",
            "Origin: file://\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
            "sec-fetch-site: Cross-Site\r\n",
            "Origin: http://localhost:3000\r\nOrigin: https://evil.example\r\n",
            "Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            let host = "Host: localhost\r\n";
            let request = get(&format!("{host}{fields}"));
            guarded.refuses(&request, cross).await;
            let form = format!(
                "POST /transfer HTTP/1.1\r\n{host}{fields}Content-Type: text/plain\r\n\
                 Content-Length: 2\r\n\r\nhi"
            );
            guarded.refuses(&form, cross).await;
        }
        for fields in [
            "Sec-Fetch-Site: none\r\n",
            "Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost:8080\r\n",
            "Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:3000\r\n",
            "Origin: http://127.0.0.1:9\r\n",
        ] {
            let request = get(&format!("Host: localhost\r\n{fields}"));
            guarded.serves(&request).await;
        }
    });
}

#[test]
fn a_preflight_gets_no_cors_headers() {
    real(async {
        let guarded = Guarded::new(&[]);
        let preflight = "OPTIONS /x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\
             Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization\r\n\
             Access-Control-Request-Private-Network: true\r\n\r\n";
        guarded.refuses(preflight, Reason::CrossSiteRequest).await;
        let ours = preflight.replace("https://evil.example", "http://localhost");
        let answer = guarded.serves(&ours).await;
        assert!(!answer.head.has("access-control-allow-origin"));
    });
}

#[test]
fn a_web_socket_of_a_foreign_page_is_refused() {
    real(async {
        let guarded = Guarded::new(&[]);
        let handshake = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nOrigin: https://evil.example\r\n\r\n";
        guarded.refuses(handshake, Reason::CrossSiteRequest).await;
        let ours = handshake.replace("https://evil.example", "http://localhost:8080");
        guarded.serves(&ours).await;
    });
}

#[test]
fn no_target_leads_anywhere_but_to_the_upstream() {
    real(async {
        let guarded = Guarded::new(&[]);
        for (target, reason) in [
            ("http://169.254.169.254/latest", Reason::BadRequest),
            ("https://other.example/", Reason::BadRequest),
            ("https://localhost/", Reason::BadRequest),
            ("http://localhost@other.example/", Reason::BadRequest),
            ("http://other.example@localhost/", Reason::BadRequest),
            ("ftp://localhost/", Reason::BadRequest),
            ("@evil", Reason::BadRequest),
            ("foo", Reason::BadRequest),
            ("localhost", Reason::BadRequest),
            ("*", Reason::BadRequest),
            ("//other/x", Reason::AmbiguousPath),
            ("/\\other/x", Reason::AmbiguousPath),
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let counted = guarded.sidecar.refused_in_all();
            let answer = guarded.sidecar.ask(&request).await;
            assert_eq!(answer.status, 400, "{target}");
            // What the library refuses has its status alone.
            let reason = if answer.head.has("proxy-status") {
                assert_eq!(answer.reason(), reason.word(), "{target}");
                reason
            } else {
                Reason::BadRequest
            };
            until(|| guarded.sidecar.refused_in_all() == counted + 1).await;
            assert!(guarded.sidecar.refused(reason) > 0, "{target}");
        }
        assert_eq!(guarded.upstream.connections.get(), 0);
        let absolute = "GET http://LOCALHOST/x?y HTTP/1.1\r\nHost: localhost\r\n\r\n";
        guarded.serves(absolute).await;
        assert_eq!(guarded.upstream.last().head.target(), "/x?y");
        let bare = "GET http://localhost?y HTTP/1.1\r\nHost: localhost\r\n\r\n";
        guarded.serves(bare).await;
        assert_eq!(guarded.upstream.last().head.target(), "/?y");
        let options = "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n";
        guarded.serves(options).await;
        assert_eq!(guarded.upstream.last().head.target(), "*");
    });
}

#[test]
fn odd_paths_arrive_as_they_were_written() {
    real(async {
        let guarded = Guarded::new(&[]);
        for target in [
            "/a/../b",
            "/a//b",
            "/%2e%2e/x%0d%0a",
            "/a;b?c=//d",
            "/a%2Fb",
        ] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            guarded.serves(&request).await;
            assert_eq!(guarded.upstream.last().head.target(), target);
        }
    });
}

#[test]
fn with_routes_ambiguous_paths_are_refused_and_what_matches_none_is_not_found() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let routes = format!(
            "outbound.routes=[{{\"path\": \"/models\", \"methods\": [\"GET\"], \"upstream\": \"http://{}\"}}]",
            upstream.at
        );
        let guarded = Guarded {
            sidecar: Setup::new(&world, upstream.at).set(routes).start(),
            upstream: upstream.echo(),
        };
        let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for target in ["/models/../admin", "/models/%2e%2e/admin", "/models//x"] {
            let request = ask(target);
            guarded.refuses(&request, Reason::AmbiguousPath).await;
        }
        guarded.refuses(&ask("/other"), Reason::NoRoute).await;
        let post = "POST /models HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        let answer = guarded.refuses(post, Reason::MethodNotAllowed).await;
        assert_eq!(answer.head.get("allow"), Some("GET"));
        guarded.serves(&ask("/models/x")).await;
    });
}

#[test]
fn host_is_the_upstreams_and_never_the_callers() {
    real(async {
        let guarded = Guarded::new(&[]);
        let request = get("Host: localhost:1234\r\nX-Forwarded-Host: evil.example\r\n");
        guarded.serves(&request).await;
        let seen = guarded.upstream.last();
        let host = seen.head.get("host").expect("a Host").to_owned();
        assert!(host.starts_with("127.0.0.1:"), "{host}");
        assert_ne!(host, "127.0.0.1:1234");
    });
}

#[test]
fn redirects_are_handed_back_and_not_followed() {
    real(async {
        let world = World::sockets();
        let elsewhere = Upstream::bind(&world);
        let trap = elsewhere.at;
        let trap_recorder = elsewhere.echo();
        for (status, location) in [
            (301, format!("http://{trap}/x")),
            (302, format!("http://{trap}/x")),
            (307, format!("http://{trap}/x")),
            (308, format!("//{trap}/x")),
            (303, "https://evil.example/".to_owned()),
        ] {
            let upstream = Upstream::bind(&world);
            let sidecar = Setup::new(&world, upstream.at).start();
            let sent = location.clone();
            let recorder = upstream.serve(move |_| answer(status, &[("location", &sent)], ""));
            let answer = sidecar
                .ask("POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi")
                .await;
            assert_eq!(answer.status, status);
            assert_eq!(answer.head.get("location"), Some(location.as_str()));
            assert_eq!(recorder.count(), 1);
        }
        assert_eq!(trap_recorder.connections.get(), 0);
    });
}

#[test]
fn the_upstreams_own_places_come_back_through_us() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let origin = format!("http://{}", upstream.at);
        let sidecar = Setup::at(&world, &format!("{origin}/prefix")).start();
        let recorder = upstream.serve(move |_| {
            let location = format!("{origin}/prefix/next?q");
            answer(
                201,
                &[
                    ("location", &location),
                    ("content-location", "/prefix/here"),
                ],
                "",
            )
        });
        let got = sidecar
            .ask("GET /a HTTP/1.1\r\nHost: localhost:4242\r\n\r\n")
            .await;
        let next = "http://localhost:4242/next?q";
        assert_eq!(got.head.get("location"), Some(next));
        assert_eq!(got.head.get("content-location"), Some("/here"));
        assert_eq!(recorder.last().head.target(), "/prefix/a");
    });
}

#[test]
fn a_unix_socket_has_its_mode_and_serves() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("outbound.sock");
        let sidecar = Setup::new(&world, upstream.at)
            .listen(format!("unix:{}", path.display()))
            .start();
        let _recorder = upstream.echo();
        let mode = std::fs::metadata(&path).expect("a socket").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let stream = UnixStream::connect(&path).await.expect("it listens");
        let mut caller = Peer::new(Io::Unix(stream));
        let answer = caller.ask(&get("Host: localhost\r\n")).await;
        assert_eq!(answer.status, 200);
        let answer = caller.ask(&get("Host: evil.example\r\n")).await;
        assert_eq!(answer.reason(), "host_not_allowed");
        assert!(sidecar.is_running());
    });
}

#[test]
fn what_is_not_loopback_is_bound_only_where_it_is_allowed() {
    let world = World::sockets();
    let upstream = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:0.0.0.0]:0"] {
        let built = Setup::new(&world, upstream).listen(listen).build();
        let Err(app::Error::Config(problems)) = built else {
            panic!("{listen} was taken: {built:?}");
        };
        let text = problems[0].to_string();
        assert!(text.contains("allow_non_loopback"), "{text}");
    }
    let setup = Setup::new(&world, upstream).listen("0.0.0.0:0");
    assert!(
        setup
            .set("outbound.allow_non_loopback=true")
            .build()
            .is_ok()
    );
}

#[test]
fn a_token_leaves_over_plain_http_only_to_loopback_or_where_it_is_said() {
    let world = World::sockets();
    for upstream in [
        "http://region.example",
        "http://192.0.2.1",
        "http://[2001:db8::1]",
    ] {
        let built = Setup::at(&world, upstream).build();
        let Err(app::Error::Config(problems)) = built else {
            panic!("{upstream} was taken");
        };
        let text = problems[0].to_string();
        assert!(text.contains("insecure_http"), "{text}");
        let setup = Setup::at(&world, upstream).set("outbound.insecure_http=true");
        assert!(setup.build().is_ok(), "{upstream}");
    }
    for upstream in [
        "https://region.example",
        "http://127.0.0.1:9",
        "http://[::1]:9",
    ] {
        assert!(Setup::at(&world, upstream).build().is_ok(), "{upstream}");
    }
}

#[test]
fn the_admin_listener_is_guarded_too_and_tells_no_secret() {
    real(async {
        let guarded = Guarded::new(&[]);
        guarded.serves(&get("Host: localhost\r\n")).await;
        let admin = guarded.sidecar.admin;
        let ask = async |request: String| {
            let io = System.connect(admin).await.expect("it listens");
            Peer::new(io).ask(&request).await
        };
        let post = |path: &str, fields: &str| {
            format!("POST {path} HTTP/1.1\r\nContent-Length: 0\r\n{fields}\r\n")
        };
        for fields in [
            "Host: evil.example\r\n",
            "Host: localhost\r\nOrigin: https://evil.example\r\n",
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            for path in ["/quit", "/reload"] {
                assert_eq!(ask(post(path, fields)).await.status, 403, "{path} {fields}");
            }
            for path in ["/readyz", "/metrics"] {
                let request = get(fields).replace("GET /", &format!("GET {path}"));
                assert_eq!(ask(request).await.status, 403, "{path} {fields}");
            }
        }
        for path in ["/livez", "/readyz", "/startupz", "/metrics"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let answer = ask(request).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!text.contains(&guarded.sidecar.token), "{path}");
            let wrong = ask(post(path, "Host: localhost\r\n")).await;
            assert_eq!(wrong.status, 405, "{path}");
        }
        for path in ["/quit", "/reload"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(ask(request).await.status, 405, "{path}");
        }
        assert!(guarded.sidecar.is_running());
        assert_eq!(ask(post("/quit", "Host: localhost\r\n")).await.status, 200);
        let mut guarded = guarded;
        assert_eq!(guarded.sidecar.ended().await, app::Exit::Stopped);
    });
}
