//! What of a head arrives, in both directions, and how messages are framed anew (cases.md, groups G
//! and I, as far as they concern HTTP/1.1 outbound).

use std::rc::Rc;

use super::support::*;

fn sidecar(sets: &[&str]) -> (Sidecar, Rc<Recorder>) {
    let world = World::sockets();
    let upstream = Upstream::bind(&world);
    let setup = Setup::new(&world, upstream.at);
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    (setup.start(), upstream.echo())
}

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")
}

#[test]
fn exactly_one_authorization_arrives_and_it_is_ours() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        let ours = format!("Bearer {}", sidecar.token);
        for fields in [
            "",
            "Authorization: Bearer theirs\r\n",
            "AUTHORIZATION: Basic dTpw\r\n",
            "Authorization: Bearer a\r\nauthorization: Bearer b\r\n",
            "Connection: authorization\r\n",
            "Connection: close, Authorization\r\nAuthorization: Bearer theirs\r\n",
            "Connection: keep-alive\r\nConnection: AUTHORIZATION\r\n",
            "Connection: \tauthorization ,,x\r\n",
            // Calls of other kinds go the same way.
            "Connection: upgrade, authorization\r\nUpgrade: websocket\r\n\
             Authorization: Bearer theirs\r\n",
            "Content-Type: application/grpc\r\nTE: trailers\r\nAuthorization: Bearer theirs\r\n",
        ] {
            let answer = sidecar.ask(&get(fields)).await;
            assert_eq!(answer.status, 200, "{fields}");
            let seen = upstream.last().head;
            assert_eq!(seen.get("authorization"), Some(ours.as_str()), "{fields}");
        }
        let chunked = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\
             Trailer: authorization\r\n\r\n2\r\nhi\r\n0\r\nAuthorization: Bearer theirs\r\n\
             Content-Length: 9\r\nHost: evil\r\n\r\n";
        assert_eq!(sidecar.ask(chunked).await.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.head.get("authorization"), Some(ours.as_str()));
        assert_eq!(seen.body, b"hi");
        assert!(!seen.head.has("trailer"));
    });
}

#[test]
fn a_callers_own_authorization_is_kept_where_that_is_wished() {
    real(async {
        let (sidecar, upstream) = sidecar(&["outbound.authorization=keep"]);
        let ours = format!("Bearer {}", sidecar.token);
        sidecar.ask(&get("Authorization: Basic dTpw\r\n")).await;
        let seen = upstream.last().head;
        assert_eq!(seen.get("authorization"), Some("Basic dTpw"));
        sidecar.ask(&get("")).await;
        assert_eq!(
            upstream.last().head.get("authorization"),
            Some(ours.as_str())
        );
        // Kept, but for the hop alone: then there is none of theirs, and ours is not needed less.
        let named = "Authorization: Basic dTpw\r\nConnection: authorization\r\n";
        sidecar.ask(&get(named)).await;
        let seen = upstream.last().head;
        assert!(seen.all("authorization").len() < 2, "{seen:?}");
    });
}

#[test]
fn what_is_for_one_hop_or_says_who_called_stays_here() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        let answer = sidecar
            .ask(&get(
                "Connection: keep-alive, x-private\r\nX-Private: 1\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n\
                 Trailer: x\r\nProxy-Authorization: Basic dTpw\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABk\r\nX-Forwarded-For: 1.2.3.4\r\n\
                 X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Prefix: /p\r\n\
                 X-Forwarded: x\r\nForwarded: for=1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\n\
                 X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nCookie: a=b\r\n\
                 Accept: text/plain\r\nX-Twice: 1\r\nX-Twice: 2\r\n",
            ))
            .await;
        assert_eq!(answer.status, 200);
        let seen = upstream.last().head;
        let mut names: Vec<&str> = seen.fields.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "authorization",
                "cookie",
                "host",
                "x-regent-hop",
                "x-request-id",
                "x-twice",
                "x-twice"
            ]
        );
        assert_eq!(seen.all("x-twice"), ["1", "2"]);
    });
}

#[test]
fn connection_cannot_take_away_what_frames_or_routes_a_message() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        let named = "host, content-length, transfer-encoding, cookie, content-type, x-request-id, \
             x-regent-hop";
        let answer = sidecar
            .ask(&format!(
                "POST /x HTTP/1.1\r\nHost: localhost\r\nConnection: {named}\r\nCookie: a=b\r\n\
                 Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
            ))
            .await;
        assert_eq!(answer.status, 200);
        let seen = upstream.last();
        assert_eq!(seen.body, b"hi");
        assert_eq!(seen.head.get("content-length"), Some("2"));
        assert_eq!(seen.head.get("cookie"), Some("a=b"));
        assert!(seen.head.has("host") && seen.head.has("x-request-id"));
        assert!(seen.head.has("x-regent-hop"));
    });
}

#[test]
fn connection_cannot_hide_a_loop() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        sidecar.ask(&get("")).await;
        let hop = upstream.last().head.get("x-regent-hop").map(str::to_owned);
        let hop = hop.expect("a mark");
        let before = upstream.count();
        for fields in [
            format!("X-Regent-Hop: {hop}\r\n"),
            format!("X-Regent-Hop: another\r\nX-Regent-Hop: {hop}\r\n"),
            format!("X-Regent-Hop: {hop}\r\nConnection: x-regent-hop\r\n"),
        ] {
            let answer = sidecar.ask(&get(&fields)).await;
            assert_eq!(answer.status, 508);
            assert_eq!(answer.reason(), "loop_detected");
        }
        assert_eq!(upstream.count(), before);
        let answer = sidecar.ask(&get("X-Regent-Hop: another\r\n")).await;
        assert_eq!(answer.status, 200);
        let hops = upstream.last().head;
        assert_eq!(hops.all("x-regent-hop"), ["another", hop.as_str()]);
    });
}

#[test]
fn a_listener_that_is_its_own_upstream_is_found_out() {
    real(async {
        let world = World::sockets();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = taken.local_addr().expect("a port");
        drop(taken);
        let sidecar = Setup::new(&world, at).listen(at.to_string()).start();
        let answer = sidecar.get("/").await;
        assert_eq!(answer.status, 508);
        assert_eq!(answer.reason(), "loop_detected");
    });
}

#[test]
fn a_request_id_passes_or_is_made() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        sidecar.ask(&get("X-Request-Id: mine\r\n")).await;
        assert_eq!(upstream.last().head.get("x-request-id"), Some("mine"));
        let mut made = Vec::new();
        for _ in 0..2 {
            sidecar.ask(&get("")).await;
            let id = upstream.last().head.get("x-request-id").map(str::to_owned);
            made.push(id.expect("an id"));
        }
        assert_eq!(made[0].len(), 32);
        assert_ne!(made[0], made[1]);
    });
}

#[test]
fn bodies_arrive_whole_with_any_method_and_framing() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        let mut caller = sidecar.caller().await;
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "QUERY"] {
            let head = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n");
            let sized = format!("{head}Content-Length: 9\r\n\r\nmodel_id=");
            assert_eq!(caller.ask(&sized).await.status, 200, "{method}");
            let seen = upstream.last();
            assert_eq!(seen.body, b"model_id=", "{method}");
            assert_eq!(seen.head.get("content-length"), Some("9"), "{method}");
            let chunked =
                format!("{head}Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nmodel\r\n0\r\n\r\n");
            assert_eq!(caller.ask(&chunked).await.status, 200, "{method}");
            let seen = upstream.last();
            assert_eq!(seen.body, b"model", "{method}");
            let coding = seen.head.get("transfer-encoding");
            assert_eq!(coding, Some("chunked"), "{method}");
        }
        assert_eq!(upstream.connections.get(), 1);
    });
}

#[test]
fn a_message_without_a_body_gets_none_on_the_way() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        let mut caller = sidecar.caller().await;
        for (request, length) in [
            ("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", None),
            (
                "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                Some("0"),
            ),
            (
                "DELETE /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                Some("0"),
            ),
        ] {
            assert_eq!(caller.ask(request).await.status, 200);
            let seen = upstream.last();
            assert_eq!(seen.head.get("content-length"), length, "{request}");
            assert!(!seen.head.has("transfer-encoding"), "{request}");
        }
        let bare = "POST /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(caller.ask(bare).await.status, 200);
        assert!(!upstream.last().head.has("transfer-encoding"));
    });
}

#[test]
fn odd_transfer_codings_are_refused_and_nothing_arrives() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        for coding in [
            "gzip, chunked",
            "identity, chunked",
            "chunked, chunked",
            "chunked\r\nTransfer-Encoding: chunked",
            "gzip\r\nTransfer-Encoding: chunked",
            "chunked;x=1",
            "xchunked",
            "identity",
            "chunked, gzip",
            ",chunked",
        ] {
            let request = format!(
                "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: {coding}\r\n\r\n\
                 2\r\nhi\r\n0\r\n\r\n"
            );
            let mut caller = sidecar.caller().await;
            caller.send(&request).await;
            let answer = caller.answer().await;
            assert_eq!(answer.status, 400, "{coding}");
            caller.rest().await;
        }
        let old = "POST /x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n";
        assert_eq!(sidecar.ask(old).await.status, 400);
        assert_eq!(upstream.connections.get(), 0);
        let plain = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n";
        assert_eq!(sidecar.ask(plain).await.status, 200);
        assert_eq!(upstream.last().body, b"hi");
    });
}

#[test]
fn broken_chunks_never_become_a_whole_request() {
    real(async {
        for chunks in [
            "0x1\r\nx\r\n0\r\n\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "-1\r\nx\r\n0\r\n\r\n",
            "\r\nx\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n",
            "2\r\nhix\r\n0\r\n\r\n",
            "2\r\nhi0\r\n\r\n",
            "2\r\nhi\r\nzz\r\n",
        ] {
            let (sidecar, upstream) = sidecar(&[]);
            let request = format!(
                "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
            );
            let mut caller = sidecar.caller().await;
            caller.send(&request).await;
            if let Some(answer) = caller.try_answer().await {
                assert_eq!(answer.status, 400, "{chunks:?}");
                assert_eq!(answer.reason(), "bad_request");
            }
            until(|| upstream.open.get() == 0).await;
            let requests = upstream.requests.borrow();
            let whole = requests.iter().any(|request| request.end == End::Whole);
            assert!(!whole, "{chunks:?}: {requests:?}");
        }
    });
}

#[test]
fn a_hundred_comes_only_where_the_upstream_takes_the_body() {
    real(async {
        let world = World::sockets();
        let mut upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let mut caller = sidecar.caller().await;
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-Continue\r\n\r\n";
        caller.send(head).await;
        let mut above = upstream.accept().await;
        let seen = above.head().await.expect("a head");
        assert!(!seen.has("expect"));
        let go_on = caller.head().await.expect("an interim answer");
        assert_eq!(go_on.line, "HTTP/1.1 100 Continue");
        caller.send("hi").await;
        assert_eq!(above.body(&seen).await, (b"hi".to_vec(), End::Whole));
        above.send(ok("done")).await;
        assert_eq!(caller.answer().await.text(), "done");
    });
}

#[test]
fn a_refusal_comes_without_a_hundred() {
    real(async {
        let world = World::sockets();
        let nowhere = Upstream::bind(&world).at;
        let sidecar = Setup::new(&world, nowhere).start();
        let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n";
        for (fields, status, reason) in [
            ("Expect: 100-continue\r\n", 502, "upstream_unreachable"),
            ("Expect: y 100-continue\r\n", 417, "expectation_failed"),
            ("Expect: 200-ok\r\n", 417, "expectation_failed"),
            (
                "Expect: 100-continue\r\nExpect: 100-continue\r\n",
                417,
                "expectation_failed",
            ),
            (
                "Expect: 100-continue\r\nOrigin: null\r\n",
                403,
                "cross_site_request",
            ),
        ] {
            let answer = sidecar.ask(&format!("{head}{fields}\r\n")).await;
            assert_eq!(answer.status, status, "{fields}");
            assert_eq!(answer.reason(), reason, "{fields}");
            assert_eq!(answer.head.get("connection"), Some("close"), "{fields}");
        }
    });
}

#[test]
fn an_expectation_without_a_body_costs_nothing() {
    real(async {
        let (sidecar, _upstream) = sidecar(&[]);
        let mut caller = sidecar.caller().await;
        for _ in 0..2 {
            let answer = caller.ask(&get("Expect: 100-continue\r\n")).await;
            assert_eq!(answer.status, 200);
        }
    });
}

#[test]
fn methods_that_turn_a_proxy_on_itself_are_refused() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        for request in [
            "TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "TRACK / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n",
        ] {
            let answer = sidecar.ask(request).await;
            assert_eq!(answer.status, 405, "{request}");
            assert!(answer.head.has("allow"));
        }
        // What follows a CONNECT is never taken for bytes of a tunnel.
        let mut caller = sidecar.caller().await;
        caller
            .send("CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\nGET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(caller.answer().await.status, 405);
        caller.expect_end().await;
        assert_eq!(upstream.connections.get(), 0);
    });
}

#[test]
fn answers_without_a_body_are_whole_and_the_connection_goes_on() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let recorder = upstream.serve(|request| match request.head.target() {
            "/204" => b"HTTP/1.1 204 No Content\r\netag: \"a\"\r\n\r\n".to_vec(),
            "/304" => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n".to_vec(),
            "/head" => b"HTTP/1.1 200 OK\r\ncontent-length: 123\r\n\r\n".to_vec(),
            _ => ok(""),
        });
        let mut caller = sidecar.caller().await;
        for _ in 0..2 {
            assert_eq!(
                caller
                    .ask("GET /204 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .await
                    .status,
                204
            );
            let answer = caller
                .ask("GET /304 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            assert_eq!(answer.status, 304);
            caller
                .send("HEAD /head HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            let head = caller.head().await.expect("a head");
            assert_eq!(head.get("content-length"), Some("123"));
        }
        assert_eq!(caller.ask(&get("")).await.text(), "");
        assert_eq!(recorder.connections.get(), 1);
        // A refusal has no body on HEAD either, and its reason all the same.
        let mut caller = sidecar.caller().await;
        caller.send("HEAD / HTTP/1.1\r\nHost: evil\r\n\r\n").await;
        let head = caller.head().await.expect("a head");
        assert_eq!(
            head.get("proxy-status"),
            Some("regent; details=\"host_not_allowed\"")
        );
        assert_eq!(caller.ask(&get("")).await.status, 200);
    });
}

#[test]
fn interim_answers_are_left_out_and_do_not_confuse_what_follows() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let _recorder = upstream.serve(|_| {
            let mut bytes = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1000);
            bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            bytes.extend(ok("final"));
            bytes
        });
        let mut caller = sidecar.caller().await;
        for _ in 0..3 {
            assert_eq!(caller.ask(&get("")).await.text(), "final");
        }
    });
}

#[test]
fn an_answers_own_hop_headers_stay_here() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let _recorder = upstream.serve(|_| {
            let fields = [
                ("connection", "keep-alive, x-hop, set-cookie"),
                ("keep-alive", "timeout=5"),
                ("x-hop", "1"),
                ("set-cookie", "a=b"),
                ("set-cookie", "c=d"),
                ("proxy-authenticate", "Basic"),
                ("www-authenticate", "Bearer"),
                ("upgrade", "h2c"),
            ];
            answer(200, &fields, "hi")
        });
        let got = sidecar.get("/").await;
        for name in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
            assert!(!got.head.has(name), "{name}");
        }
        assert_eq!(got.head.all("set-cookie"), ["a=b", "c=d"]);
        assert_eq!(got.head.get("www-authenticate"), Some("Bearer"));
        assert_eq!(got.text(), "hi");
    });
}

#[test]
fn an_answer_is_framed_anew_whatever_the_upstream_wrote() {
    real(async {
        let world = World::sockets();
        for (bytes, body) in [
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;ext\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n",
                "hello",
            ),
            ("HTTP/1.0 200 OK\r\n\r\nhello", "hello"),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello", "hello"),
        ] {
            let mut upstream = Upstream::bind(&world);
            let sidecar = Setup::new(&world, upstream.at).start();
            let mut caller = sidecar.caller().await;
            caller.send(get("")).await;
            let mut above = upstream.accept().await;
            above.head().await.expect("a request");
            above.send(bytes).await;
            if !bytes.contains("chunked") {
                drop(above);
            }
            let got = caller.answer().await;
            assert_eq!(got.text(), body, "{bytes}");
            assert!(!got.head.has("x-trailer"));
        }
    });
}

#[test]
fn an_http_1_0_caller_is_served() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let recorder = upstream.serve(|request| match request.head.target() {
            "/chunked" => {
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
                    .to_vec()
            }
            _ => ok("hi"),
        });
        let mut caller = sidecar.caller().await;
        let keep = "GET /x HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
        for _ in 0..2 {
            let answer = caller.ask(keep).await;
            assert_eq!(answer.text(), "hi");
        }
        let close = "GET /chunked HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let answer = caller.ask(close).await;
        assert!(!answer.head.has("transfer-encoding"), "{answer:?}");
        assert_eq!(answer.text(), "hi");
        assert_eq!(recorder.last().head.line, "GET /chunked HTTP/1.1");
    });
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order() {
    real(async {
        let (sidecar, upstream) = sidecar(&[]);
        let mut caller = sidecar.caller().await;
        let mut all = String::new();
        for at in 0..50 {
            let body = "x".repeat(at);
            all += &format!(
                "POST /{at} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {at}\r\n\r\n{body}"
            );
        }
        caller.send(&all).await;
        for at in 0..50 {
            let answer = caller.answer().await;
            assert_eq!(answer.text(), format!("POST /{at} HTTP/1.1 {at}"));
        }
        assert_eq!(upstream.connections.get(), 1);
        // One that is refused in the middle ends none of those after it.
        let mixed = [
            get(""),
            get("Origin: null\r\n"),
            get("Authorization: x\r\n"),
        ];
        caller.send(mixed.concat()).await;
        for status in [200, 403, 200] {
            assert_eq!(caller.answer().await.status, status);
        }
        let bad = [
            get(""),
            "GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(),
            get(""),
        ];
        let before = upstream.count();
        caller.send(bad.concat()).await;
        assert_eq!(caller.answer().await.status, 200);
        assert_eq!(caller.answer().await.status, 400);
        caller.expect_end().await;
        assert_eq!(upstream.count(), before + 1);
    });
}
