//! Requests over HTTP/2 are judged and forwarded as over HTTP/1.1: one Host, one form of a head.

use regent::reason::Reason;

use crate::caller::*;
use crate::forge::Forge;
use crate::gate::{self, bearer, identity, say_identity, token_of};
use crate::raw::{self, Raw};
use crate::setup::Setup as Inbound;
use crate::support::*;

/// An inbound side before a workload that says who called.
fn inbound(world: &World, change: impl FnOnce(Inbound) -> Inbound) -> gate::Gate {
    let workload = Upstream::bind(world);
    let setup = change(Inbound::new(world, workload.at));
    setup.start(workload.serve(say_identity))
}

#[test]
fn every_listener_speaks_http_2_to_whoever_begins_with_it() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let answer = sidecar.h2().await.get("http://localhost/x?y=z").await;
        assert_eq!(
            (answer.status, &*answer.text()),
            (200, "GET /x?y=z HTTP/1.1 0")
        );
        assert_eq!(recorder.last().head.get("host"), Some(&*origin(&recorder)));

        let gate = inbound(&world, Inbound::forward_auth);
        let value = bearer(&token_of(&world, "alice"));
        let fields = [("authorization", &*value)];
        let answer = (gate.h2().await)
            .ask(request("GET", "http://svc.example/x", &fields), b"")
            .await;
        assert_eq!(answer.status, 200);
        assert_eq!(identity(&gate.workload.last().head), gate::alice());
        assert_eq!(gate.workload.last().head.get("host"), Some("svc.example"));

        let mut asker = Caller::new(gate.asker().await).await;
        let asks = |fields: &[(&str, &str)]| request("GET", "http://auth/verify/x", fields);
        let answer = asker.ask(asks(&fields), b"").await;
        assert_eq!(
            (answer.status, answer.get("x-regent-user")),
            (200, Some("alice"))
        );
        let answer = asker.ask(asks(&[]), b"").await;
        assert_eq!((answer.status, answer.reason()), (401, "missing_token"));
    });
}

fn origin(recorder: &Recorder) -> String {
    recorder.last().head.get("host").expect("a Host").to_owned()
}

#[test]
fn a_preface_may_come_in_any_pieces() {
    paused(async {
        let world = World::pipes();
        let (recorder, sidecar) = echoing(&world, &[]);
        let whole = [raw::PREFACE, &raw::settings(&[]), &raw::get(1)].concat();
        for cut in 1..raw::PREFACE.len() + 2 {
            let mut caller = sidecar.caller().await;
            for piece in [&whole[..cut], &whole[cut..]] {
                caller.send(piece).await;
                settle().await;
            }
            let head = Raw(caller).expect(raw::HEADERS).await;
            assert_eq!(head.stream, 1, "{cut}");
            assert_eq!(recorder.count(), cut);
        }
    });
}

#[test]
fn what_only_looks_like_a_preface_is_http_1() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        for line in [
            "PRI * HTTP/1.1",
            "PRI * HTTP/3.0",
            "PRI /x HTTP/2.0",
            "PRJ * HTTP/2.0",
        ] {
            let mut caller = sidecar.caller().await;
            let request = format!("{line}\r\nHost: localhost\r\n\r\n");
            assert_eq!(caller.ask(&request).await.status, 400, "{line}");
        }
        // The beginning of it is a method like any other.
        let posted = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(sidecar.ask(posted).await.status, 200);
        assert_eq!(recorder.count(), 1);
    });
}

#[test]
fn streams_of_one_connection_are_answered_in_any_order() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut caller = sidecar.h2().await;
        let mut asked = Vec::new();
        for name in ["a", "b", "c"] {
            let (answer, _) = caller
                .begin(get(&format!("http://localhost/{name}")), true)
                .await;
            asked.push(answer);
        }
        let mut above = Vec::new();
        for _ in 0..3 {
            let mut peer = upstream.accept().await;
            let request = peer.request().await.expect("a request");
            above.push((request.head.target().to_owned(), peer));
        }
        assert_eq!(sidecar.connections(), 1);
        while let Some((target, mut peer)) = above.pop() {
            peer.send(ok(&format!("answer to {target}"))).await;
        }
        for (answer, name) in asked.into_iter().zip(["a", "b", "c"]) {
            assert_eq!(whole(answer).await.text(), format!("answer to /{name}"));
        }
        assert_eq!(sidecar.connections(), 1);
    });
}

#[test]
fn exactly_one_host_and_nothing_of_http_2_goes_up() {
    real(async {
        let world = World::sockets();
        let gate = inbound(&world, |setup| setup.rule("path = '/', anonymous = true"));
        let workload = &gate.workload;
        let fields = [
            ("cookie", "a=1"),
            ("x", "y"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("x-regent-user", "mallory"),
            ("x_regent_user", "mallory"),
            ("forwarded", "for=9.9.9.9"),
        ];
        let mut caller = gate.h2().await;
        caller
            .ask(request("GET", "http://svc.example/x", &fields), b"")
            .await;
        let seen = workload.last();
        assert_eq!(seen.head.line, "GET /x HTTP/1.1");
        assert_eq!(seen.head.get("host"), Some("svc.example"));
        assert_eq!(seen.head.get("cookie"), Some("a=1; b=2"));
        assert_eq!(seen.head.get("x-forwarded-for"), Some("127.0.0.1"));
        assert!(identity(&seen.head).is_empty());
        for name in ["forwarded", "transfer-encoding"] {
            assert!(!seen.head.has(name), "{seen:?}");
        }
        // That the caller takes trailers holds for this hop too, and only for it.
        assert_eq!(seen.head.get("te"), Some("trailers"));
        assert_eq!(seen.head.get("connection"), Some("te"));
        let mut raw = Raw::new(gate.caller().await, &[]).await;
        let with_host = [&raw::GET[..3], &[("host", "svc.example")]].concat();
        let both = [
            &raw::GET[..3],
            &[(":authority", "SVC.example"), ("host", "svc.example")],
        ];
        for (stream, fields) in [(1, with_host), (3, both.concat())] {
            raw.send(raw::head(stream, raw::END_STREAM, &fields)).await;
            assert_eq!(raw.expect(raw::HEADERS).await.stream, stream);
            assert_eq!(workload.last().head.get("host"), Some("svc.example"));
        }
        assert!(
            workload
                .requests
                .borrow()
                .iter()
                .all(|request| { request.head.fields.iter().all(|(name, _)| !name.is_empty()) })
        );
    });
}

/// The status of a hand-made request, and why.
async fn refusal(peer: Peer, fields: &[(&str, &str)]) -> (u16, String) {
    // h2's own client would not send it.
    let mut raw = Raw::new(peer, &[]).await;
    raw.send(raw::head(1, raw::END_STREAM, fields)).await;
    let body = raw.expect(raw::DATA).await.payload;
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let status = problem["status"].as_u64().expect("a status");
    let reason = problem["reason"].as_str().expect("a reason");
    (u16::try_from(status).expect("a status"), reason.to_owned())
}

#[test]
fn hosts_that_are_missing_doubled_or_disagree_are_bad_requests() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let gate = inbound(&world, |setup| setup.rule("path = '/', anonymous = true"));
        let bare = &raw::GET[..3];
        for more in [
            &[][..],
            &[(":authority", "localhost"), ("host", "evil.example")],
            &[(":authority", "evil.example"), ("host", "localhost")],
            &[(":authority", "localhost"), ("host", "localhost:1")],
            &[("host", "localhost"), ("host", "localhost")],
            &[
                (":authority", "localhost"),
                ("host", "localhost"),
                ("host", "localhost"),
            ],
        ] {
            let fields = [bare, more].concat();
            let expected = (400, "bad_request".to_owned());
            assert_eq!(
                refusal(sidecar.caller().await, &fields).await,
                expected,
                "{more:?}"
            );
            assert_eq!(
                refusal(gate.caller().await, &fields).await,
                expected,
                "{more:?}"
            );
        }
        let odd = [&raw::GET[..1], &raw::GET[2..], &[(":scheme", "ftp")]].concat();
        let odd = [&odd[..1], &odd[3..], &odd[1..3]].concat();
        assert_eq!(refusal(sidecar.caller().await, &odd).await.0, 400);
        let user = [bare, &[(":authority", "u@localhost")]].concat();
        let (status, reason) = refusal(sidecar.caller().await, &user).await;
        assert_eq!((status, &*reason), (403, "host_not_allowed"));
        assert_eq!(recorder.count() + gate.workload.count(), 0);
    });
}

/// As `a_host_stands_there_once_and_is_a_host` has it over HTTP/1.1; some of these are no authority even
/// to the library.
#[test]
fn a_host_that_is_none_is_a_bad_request_wherever_it_stands() {
    real(async {
        let world = World::sockets();
        let gate = inbound(&world, Inbound::forward_auth);
        let token = bearer(&token_of(&world, "alice"));
        let fields = |path, name, host| {
            let head = [(":method", "GET"), (":scheme", "http"), (":path", path)];
            [&head[..], &[(name, host), ("authorization", &*token)]].concat()
        };
        for host in gate::NO_HOSTS {
            for name in [":authority", "host"] {
                for (peer, path) in [
                    (gate.caller().await, "/x"),
                    (gate.asker().await, "/verify/x"),
                ] {
                    let counted = (gate.refused(Reason::BadRequest), gate.refused_in_all());
                    let mut raw = Raw::new(peer, &[]).await;
                    let asked = fields(path, name, host);
                    raw.send(raw::head(1, raw::END_STREAM, &asked)).await;
                    let refused = loop {
                        let frame = raw.next().await.expect("it goes on");
                        if [raw::DATA, raw::RST_STREAM].contains(&frame.kind) {
                            break frame;
                        }
                    };
                    if refused.kind == raw::DATA {
                        let said: serde_json::Value =
                            serde_json::from_slice(&refused.payload).expect("JSON");
                        assert_eq!(said["reason"], "bad_request", "{name} {host:?} {path}");
                        assert_eq!(said["status"], 400, "{name} {host:?} {path}");
                    } else {
                        assert_eq!(refused.number(), raw::PROTOCOL_ERROR, "{name} {host:?}");
                    }
                    let now = (gate.refused(Reason::BadRequest), gate.refused_in_all());
                    assert_eq!(now, (counted.0 + 1, counted.1 + 1), "{name} {host:?}");
                }
            }
        }
        assert_eq!(gate.workload.connections.get(), 0);
        for host in [
            "svc.example",
            "SVC.Example:65535",
            "10.0.0.1:8000",
            "[::1]:8000",
        ] {
            for name in [":authority", "host"] {
                let mut raw = Raw::new(gate.caller().await, &[]).await;
                let asked = fields("/x", name, host);
                raw.send(raw::head(1, raw::END_STREAM, &asked)).await;
                raw.expect(raw::DATA).await;
                let seen = gate.workload.last().head;
                assert_eq!(seen.get("host"), Some(host), "{name}: kept as it is");
                assert_eq!(identity(&seen), gate::alice());
            }
        }
    });
}

#[test]
fn guard_routes_and_loops_are_the_same() {
    real(async {
        let world = World::sockets();
        let route = "outbound.routes=[{\"path\": \"/models\", \"methods\": [\"GET\"]}]";
        let (recorder, sidecar) = echoing(&world, &[route]);
        let mut caller = sidecar.h2().await;
        for (method, uri, fields, refused) in [
            (
                "GET",
                "http://evil.example/models",
                &[][..],
                Reason::HostNotAllowed,
            ),
            (
                "GET",
                "http://localhost/models",
                &[("origin", "https://evil.example")],
                Reason::CrossSiteRequest,
            ),
            ("GET", "http://localhost/other", &[], Reason::NoRoute),
            (
                "PUT",
                "http://localhost/models",
                &[],
                Reason::MethodNotAllowed,
            ),
            (
                "GET",
                "http://localhost/models/%2e%2e/x",
                &[],
                Reason::AmbiguousPath,
            ),
            (
                "GET",
                "http://localhost//models",
                &[],
                Reason::AmbiguousPath,
            ),
            (
                "TRACE",
                "http://localhost/models",
                &[],
                Reason::MethodNotAllowed,
            ),
            (
                "GET",
                "http://localhost/models",
                &[("expect", "x")],
                Reason::ExpectationFailed,
            ),
        ] {
            let answer = caller.ask(request(method, uri, fields), b"").await;
            let told = (answer.status, answer.reason());
            assert_eq!(
                told,
                (refused.status().as_u16(), refused.word()),
                "{method} {uri}"
            );
        }
        assert_eq!(recorder.count(), 0);
        let answer = caller.get("http://LOCALHOST:1234/models/x").await;
        assert_eq!(answer.status, 200);
        let hop = recorder
            .last()
            .head
            .get("x-regent-hop")
            .expect("a mark")
            .to_owned();
        let again = request("GET", "http://localhost/models", &[("x-regent-hop", &hop)]);
        let answer = caller.ask(again, b"").await;
        assert_eq!((answer.status, answer.reason()), (508, "loop_detected"));
    });
}

#[test]
fn where_an_answer_points_is_where_the_caller_called() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut caller = sidecar.h2().await;
        let (asked, _) = caller.begin(get("http://localhost:8080/x"), true).await;
        let mut above = upstream.accept().await;
        let request = above.request().await.expect("a request");
        let host = request.head.get("host").expect("a Host").to_owned();
        let location = format!("http://{host}/there");
        above
            .send(answer(302, &[("location", &location)], ""))
            .await;
        let answer = whole(asked).await;
        assert_eq!(answer.get("location"), Some("http://localhost:8080/there"));
    });
}

#[test]
fn whoever_expects_100_gets_its_answer_without_it() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        let fields = [("expect", "100-continue"), ("content-length", "3")];
        let posted = request("POST", "http://localhost/x", &fields);
        let answer = caller.ask(posted, b"abc").await;
        assert_eq!(answer.text(), "POST /x HTTP/1.1 3");
        assert!(!recorder.last().head.has("expect"));
    });
}

#[test]
fn bodies_go_up_by_their_length_or_in_chunks() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        let body = vec![7; 1 << 20];
        let length = body.len().to_string();
        for fields in [&[][..], &[("content-length", &*length)]] {
            let posted = request("POST", "http://localhost/x", fields);
            assert_eq!(caller.ask(posted, &body).await.status, 200);
            let seen = recorder.last();
            assert_eq!(seen.body, body);
            assert_eq!(seen.head.has("transfer-encoding"), fields.is_empty());
        }
    });
}

#[test]
fn answers_without_a_body_end_with_their_head() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut caller = sidecar.h2().await;
        let mut above = None;
        for (method, said, length) in [
            (
                "HEAD",
                "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
                Some("7"),
            ),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
            ("GET", "HTTP/1.1 304 Not Modified\r\n\r\n", None),
        ] {
            let (asked, _) = caller
                .begin(request(method, "http://localhost/x", &[]), true)
                .await;
            let above = match &mut above {
                Some(above) => above,
                none => none.insert(upstream.accept().await),
            };
            above.request().await.expect("a request");
            above.send(said).await;
            let answer = whole(asked).await;
            assert_eq!(
                (&*answer.text(), answer.get("content-length")),
                ("", length)
            );
        }
    });
}

/// The body of a stream is recorded and sent again like any other.
#[test]
fn a_refused_token_is_exchanged_and_the_body_sent_again() {
    real(async {
        let world = World::sockets();
        let region = region(&world);
        let upstream = Upstream::bind(&world);
        let setup = Setup::new(&world, upstream.at).region(&region);
        let sidecar = setup.start();
        let mut refused = None;
        let first = std::cell::RefCell::new(None);
        let recorder = upstream.serve(move |request| {
            let token = request.head.get("authorization").map(str::to_owned);
            let mut first = first.borrow_mut();
            let is_first = *first.get_or_insert(token.clone()) == token;
            match is_first {
                true => answer(401, &[], ""),
                false => ok("with another one"),
            }
        });
        until(|| !sidecar.token.is_empty()).await;
        let mut caller = sidecar.h2().await;
        for _ in 0..100 {
            let posted = request("POST", "http://localhost/x", &[]);
            let answer = caller.ask(posted, b"abc").await;
            if answer.status != 503 {
                refused = Some(answer);
                break;
            }
        }
        let answer = refused.expect("an answer");
        assert_eq!((answer.status, &*answer.text()), (200, "with another one"));
        let bodies: Vec<_> = (recorder.requests.borrow().iter())
            .map(|request| request.body.clone())
            .collect();
        assert_eq!(bodies, [b"abc", b"abc"]);
    });
}

#[test]
fn a_token_of_16_kib_arrives() {
    real(async {
        let world = World::sockets();
        let gate = inbound(&world, |setup| setup);
        let token = |pad: usize| {
            let forge = Forge::home(world.clock.unix());
            forge.claim("x", "y".repeat(pad)).token()
        };
        // What is added grows by a third.
        let short = token(0).len();
        let pad = (16 * 1024 - short) / 4 * 3;
        let token = token(pad - 8);
        assert!((16_300..=16_384).contains(&token.len()), "{}", token.len());
        let value = bearer(&token);
        let asked = request("GET", "http://svc.example/x", &[("authorization", &value)]);
        assert_eq!(gate.h2().await.ask(asked, b"").await.status, 200);
    });
}

/// h2 takes a `#`, with what is behind it, off a path before anybody sees it: what is left is judged, and
/// is what goes up.
#[test]
fn what_is_behind_a_hash_is_neither_judged_nor_forwarded() {
    real(async {
        let world = World::sockets();
        let open = |setup: Inbound| setup.rule("path = '/open', anonymous = true");
        let gate = inbound(&world, open);
        for (path, goes_up) in [
            ("/open#/../admin", Some("/open")),
            ("/open/x?y#z?/admin", Some("/open/x?y")),
            ("/open?y#", Some("/open?y")),
            ("/admin#/open", None),
            ("/admin?#/open", None),
            ("/#/open", None),
            ("#/open", None),
            ("/admin/..#/open", None),
        ] {
            let before = gate.workload.count();
            let mut raw = Raw::new(gate.caller().await, &[]).await;
            let mut asked = raw::GET;
            asked[2].1 = path;
            raw.send(raw::head(1, raw::END_STREAM, &asked)).await;
            let ended = loop {
                let frame = raw.next().await.expect("it goes on");
                if frame.ends() || frame.kind == raw::RST_STREAM {
                    break frame;
                }
            };
            match goes_up {
                Some(goes_up) => {
                    assert_ne!(ended.kind, raw::RST_STREAM, "{path}");
                    assert_eq!(gate.workload.count(), before + 1, "{path}");
                    assert_eq!(gate.workload.last().head.target(), goes_up);
                }
                None => assert_eq!(gate.workload.count(), before, "{path}"),
            }
        }
    });
}
