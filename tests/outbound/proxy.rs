//! `outbound.proxy`: a proxy opens the way, and sees nothing else of a request.

use std::cell::RefCell;
use std::rc::Rc;

use regent::config::Sources;
use regent::config::load::load;
use regent::reason::Reason;

use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\nProxy-Authorization: Basic b3Ro\r\n\r\n";

/// A sidecar whose upstream is behind a proxy, with this before the proxy's address.
fn start(world: &World, userinfo: &str) -> (Upstream, Sidecar) {
    let proxy = Upstream::bind(world);
    let sidecar = Setup::at(world, "http://upstream.example")
        .set("outbound.insecure_http=true")
        .variable(
            "REGENT__OUTBOUND__PROXY",
            &format!("http://{userinfo}{}", proxy.at),
        )
        .start();
    (proxy, sidecar)
}

#[test]
fn a_request_goes_through_the_proxy_as_it_would_go_without() {
    paused(async {
        let world = World::pipes();
        let (mut proxy, sidecar) = start(&world, "alice:secret@");
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let mut way = proxy.accept().await;
        let connect = way.head().await.expect("CONNECT");
        assert_eq!(connect.line, "CONNECT upstream.example:80 HTTP/1.1");
        let version = env!("CARGO_PKG_VERSION");
        let expected = [
            ("host", "upstream.example:80"),
            ("user-agent", &format!("regent/{version}")),
            ("proxy-authorization", "Basic YWxpY2U6c2VjcmV0"),
        ];
        let fields = connect.fields.iter();
        assert!(fields.map(|(name, value)| (&**name, &**value)).eq(expected));
        // Nothing of the request before the way is open.
        settle().await;
        assert!(way.buffer.is_empty());
        way.send("HTTP/1.1 200 Connection established\r\n\r\n")
            .await;
        for turn in 0..3 {
            if turn > 0 {
                caller.send(GET).await;
            }
            let request = way.request().await.expect("over the same connection");
            assert_eq!(request.head.line, "GET /x HTTP/1.1");
            assert_eq!(request.head.get("host"), Some("upstream.example"));
            let bearer = format!("Bearer {}", sidecar.token);
            assert_eq!(request.head.get("authorization"), Some(&*bearer));
            assert!(!request.head.has("proxy-authorization"));
            way.send(ok("hello")).await;
            assert_eq!(caller.answer().await.text(), "hello");
        }
    });
}

#[test]
fn loopback_is_reached_without_the_proxy() {
    real(async {
        let world = World::sockets();
        let proxy = Upstream::bind(&world);
        let at = proxy.at;
        let proxy = proxy.echo();
        for host in ["127.0.0.1", "localhost", "a.localhost"] {
            let upstream = Upstream::bind(&world);
            let url = format!("http://{host}:{}", upstream.at.port());
            let upstream = upstream.echo();
            let sidecar = Setup::at(&world, &url)
                .set("outbound.insecure_http=true")
                .set(format!("outbound.proxy=http://{at}"))
                .start();
            assert_eq!(sidecar.get("/x").await.status, 200, "{host}");
            assert_eq!(upstream.count(), 1, "{host}");
        }
        assert_eq!(proxy.connections.get(), 0);
    });
}

#[test]
fn a_proxy_that_refuses_is_a_502_that_says_what_to_do() {
    paused(async {
        let world = World::pipes();
        let (proxy, sidecar) = start(&world, "alice:canary@");
        let shown = format!("http://***@{}", proxy.at);
        let cases = [
            (
                answer(407, &[], ""),
                Reason::UpstreamUnreachable,
                "user and password",
            ),
            (
                answer(403, &[], "no"),
                Reason::UpstreamUnreachable,
                "must allow CONNECT",
            ),
            (
                b"220 smtp.example ESMTP\r\n".to_vec(),
                Reason::UpstreamProtocol,
                "HTTP proxy?",
            ),
        ];
        let scripts = RefCell::new(cases.clone().map(|(script, ..)| script).into_iter());
        let recorder = proxy.serve(move |_| scripts.borrow_mut().next().expect("asked once each"));
        for (_, reason, expected) in cases {
            let refused = sidecar.get("/x").await;
            assert_eq!((refused.status, refused.reason()), (502, reason.word()));
            let text = refused.text();
            assert!(text.contains(expected) && text.contains(&shown), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
        assert_eq!(sidecar.broken_off(Reason::UpstreamUnreachable), 2);
        assert_eq!(sidecar.broken_off(Reason::UpstreamProtocol), 1);
        // The token and the path were nobody's to see.
        for request in recorder.requests.borrow().iter() {
            assert!(request.head.line.starts_with("CONNECT "));
            assert!(!request.head.has("authorization"));
        }
        assert_eq!(recorder.count(), 3);
    });
}

#[test]
fn another_proxy_after_a_reload_is_the_way_from_then_on() {
    paused(async {
        let world = World::pipes();
        let (old, new) = (Upstream::bind(&world), Upstream::bind(&world));
        let (old_at, new_at) = (old.at, new.at);
        let both = |request: &Received| match request.head.line.starts_with("CONNECT ") {
            true => b"HTTP/1.1 200 OK\r\n\r\n".to_vec(),
            false => ok("hello"),
        };
        let (old, new): (Rc<Recorder>, Rc<Recorder>) = (old.serve(both), new.serve(both));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("proxy.toml");
        let write = |at| {
            let text = format!("[outbound]\nproxy = 'http://alice:secret@{at}'\n");
            std::fs::write(&file, text).expect("a file");
        };
        write(old_at);
        let sidecar = Setup::at(&world, "http://upstream.example")
            .set("outbound.insecure_http=true")
            .file(&file)
            .start();
        let mut caller = sidecar.caller().await;
        let request = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(caller.ask(request).await.text(), "hello");
        assert_eq!((old.count(), new.count()), (2, 0));
        write(new_at);
        sidecar.remote.reread().await.expect("a good config");
        assert_eq!(caller.ask(request).await.text(), "hello");
        assert_eq!((old.count(), new.count()), (2, 2));
        // One that changes nothing costs no connection.
        sidecar.remote.reread().await.expect("a good config");
        assert_eq!(caller.ask(request).await.text(), "hello");
        assert_eq!((old.count(), new.count()), (2, 3));
    });
}

#[test]
fn nothing_of_the_environment_but_our_own_variables_names_a_proxy() {
    let names = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ];
    let sources = Sources {
        files: Vec::new(),
        sets: Vec::new(),
        env: names
            .into_iter()
            .map(|name| (name, "http://127.0.0.1:1"))
            .collect(),
        terminal: false,
    };
    let config = load(&sources).expect("a good config").config;
    assert_eq!(config.region.proxy, None);
    assert_eq!(config.outbound.and_then(|side| side.proxy), None);
}
