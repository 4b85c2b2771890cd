//! Bytes around hyper on this side (cases.md, group G). How a request is framed is judged before its
//! token, so a good one changes nothing. The whole tables are outbound's; what stands here shows that
//! this listener has the same reading before it, and a workload the same protection.

use regent::reason::Reason;

use crate::forge::Forge;
use crate::gate::*;
use crate::kept::Kept;

struct Case {
    gate: Gate,
    good: String,
}

fn case() -> Case {
    let world = World::sockets();
    let workload = Upstream::bind(&world);
    let gate = Setup::new(&world, workload.at).start(workload.serve(say_identity));
    let good = bearer(&Forge::home(world.clock.unix()).token());
    Case { gate, good }
}

impl Case {
    /// With a good token in the place of `<token>`.
    fn with_token(&self, bytes: &str) -> String {
        bytes.replace("<token>", &format!("Authorization: {}\r\n", self.good))
    }

    /// What a smuggler hides behind his request.
    fn evil(&self) -> String {
        get("/evil", &[("Authorization", &self.good)])
    }

    /// Refused with a good token and without one: the connection closed, one counter moved by one,
    /// and the workload saw nothing of it or of what came behind it.
    async fn refuses(&self, bytes: &str, reason: Reason) {
        for bytes in [self.with_token(bytes), bytes.replace("<token>", "")] {
            let state = || {
                let workload = (
                    self.gate.workload.bytes.get(),
                    self.gate.workload.connections.get(),
                );
                (workload, self.gate.refused_in_all())
            };
            let (before, counted) = (state(), self.gate.refused(reason));
            let mut caller = self.gate.caller().await;
            caller.send(bytes.clone() + &self.evil()).await;
            let answer = caller.answer().await;
            assert_eq!(answer.status, reason.status().as_u16(), "{bytes:?}");
            assert_eq!(answer.head.get("connection"), Some("close"), "{bytes:?}");
            // What the library refuses has its status alone.
            if answer.head.has("proxy-status") {
                assert_eq!(answer.reason(), reason.word(), "{bytes:?}");
            }
            caller.expect_end().await;
            assert_eq!(state(), (before.0, before.1 + 1), "{bytes:?}");
            assert_eq!(self.gate.refused(reason), counted + 1, "{bytes:?}");
        }
    }

    async fn passes(&self, bytes: &str) -> Received {
        let seen = self.gate.passes(self.with_token(bytes)).await;
        assert_eq!(identity(&seen.head), alice(), "{bytes:?}");
        seen
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused_whatever_its_token() {
    real(async {
        let case = case();
        let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        let post = |fields: &str, body: &str| {
            format!("POST /x HTTP/1.1\r\nHost: svc.example\r\n<token>{fields}\r\n{body}")
        };
        let chunks = "5\r\nhello\r\n0\r\n\r\n";
        for (bad, twin) in [
            (
                post(&format!("{length}{chunked}"), "0\r\n\r\n"),
                post(length, "hello"),
            ),
            (
                post(&format!("{chunked}{length}"), "0\r\n\r\n"),
                post(chunked, chunks),
            ),
            (
                post(&format!("{length}{length}"), "hello"),
                post(length, "hello"),
            ),
            (
                post("Content-Length: +5\r\n", "hello"),
                post(length, "hello"),
            ),
            (post("Content-Length: 5\n", "hello"), post(length, "hello")),
            (
                post("Content_Length: 5\r\n", ""),
                post("Content-Size: 5\r\n", ""),
            ),
            (
                post("Transfer-Encoding: identity, chunked\r\n", chunks),
                post(chunked, chunks),
            ),
            (
                post("Transfer-Encoding:\r\n chunked\r\n", chunks),
                post(chunked, chunks),
            ),
            (
                post("Transfer-Encoding : chunked\r\n", chunks),
                post(chunked, chunks),
            ),
        ] {
            case.refuses(&bad, Reason::BadRequest).await;
            assert_eq!(case.passes(&twin).await.end, End::Whole);
        }
    });
}

#[test]
fn a_broken_chunk_never_makes_a_whole_request_for_the_workload() {
    real(async {
        let case = case();
        let head = case.with_token(
            "POST /x HTTP/1.1\r\nHost: svc.example\r\n<token>Transfer-Encoding: chunked\r\n\r\n",
        );
        for chunks in [
            "0x2\r\nhi\r\n0\r\n\r\n",
            "2 \r\nhi\r\n0\r\n\r\n",
            "2\nhi\r\n0\r\n\r\n",
            "2\r\nhi\n0\r\n\r\n",
            "2\r\nhix\r\n0\r\n\r\n",
            "3\r\nhi\r\n0\r\n\r\n",
            "2\r\nhi0\r\n\r\n",
            "2\r\nhi\r\nFFFFFFFFFFFFFFFFF\r\n0\r\n\r\n",
            "2;\x00\r\nhi\r\n0\r\n\r\n",
            "2\r\nhi\r\n0\r\n X: folded\r\n\r\n",
        ] {
            let before = case.gate.workload.count();
            let mut caller = case.gate.caller().await;
            caller.send(format!("{head}{chunks}{}", case.evil())).await;
            let answer = caller.answer().await;
            assert_eq!(
                (answer.status, answer.reason()),
                (400, "bad_request"),
                "{chunks:?}"
            );
            assert_eq!(answer.head.get("connection"), Some("close"), "{chunks:?}");
            caller.expect_end().await;
            until(|| case.gate.workload.open.get() == 0).await;
            for request in &case.gate.workload.requests.borrow()[before..] {
                assert_eq!(
                    (request.head.target(), request.end),
                    ("/x", End::Cut),
                    "{chunks:?}"
                );
            }
        }
        let seen = case
            .gate
            .passes(format!("{head}2;x=y\r\nhi\r\n0\r\n\r\n"))
            .await;
        assert_eq!((&seen.body[..], seen.end), (&b"hi"[..], End::Whole));
    });
}

#[test]
fn trailers_tell_the_workload_nothing() {
    real(async {
        let case = case();
        let request = |name: &str, trailer: &str| {
            format!(
                "POST /x HTTP/1.1\r\nHost: svc.example\r\n<token>Transfer-Encoding: chunked\r\n\
                 Trailer: {name}\r\nX-Request-Id: 1\r\n\r\n2\r\nhi\r\n0\r\n{trailer}\r\n"
            )
        };
        let plain = case.passes(&request("x", "")).await;
        for name in [
            "Authorization",
            "Content-Length",
            "Host",
            "Transfer-Encoding",
            "Connection",
            "Cookie",
            "X-Regent-User",
            "x_regent_issuer",
            "X-Forwarded-For",
            "X-Any",
        ] {
            let mut caller = case.gate.caller().await;
            let chunked = case.with_token(&request(name, &format!("{name}: 9\r\n")));
            // The next request of the connection is read as itself.
            caller.send(chunked + &get("/next", &[])).await;
            assert_eq!(caller.answer().await.status, 200, "{name}");
            assert_eq!(caller.answer().await.reason(), "missing_token", "{name}");
            // The recorder takes no trailers: one that came would have broken what it read.
            let seen = case.gate.workload.last();
            assert_eq!(
                (&seen.body[..], seen.end),
                (&b"hi"[..], End::Whole),
                "{name}"
            );
            assert_eq!(seen.head.fields, plain.head.fields, "{name}");
        }
    });
}

#[test]
fn a_host_stands_there_once_and_is_a_host() {
    real(async {
        let case = case();
        let get = |host: &str| format!("GET /x HTTP/1.1\r\n{host}<token>\r\n");
        for fields in [
            "",
            "Host: svc.example\r\nHost: svc.example\r\n",
            "Host: svc.example\r\nHost: evil.example\r\n",
            "Host: svc.example\r\nhOST: \r\n",
        ] {
            case.refuses(&get(fields), Reason::BadRequest).await;
        }
        case.refuses("GET /x HTTP/1.0\r\n<token>\r\n", Reason::BadRequest)
            .await;
        for host in NO_HOSTS {
            let host = format!("Host: {host}\r\n");
            case.refuses(&get(&host), Reason::BadRequest).await;
        }
        for host in [
            "svc.example",
            "SVC.Example:65535",
            "svc.example.",
            "svc_1.ns",
            "10.0.0.1:8000",
            "[::1]:8000",
        ] {
            let seen = case.passes(&get(&format!("Host:  {host} \r\n"))).await;
            assert_eq!(seen.head.get("host"), Some(host), "kept as it is");
        }
    });
}

#[test]
fn connect_and_its_kin_are_never_forwarded_and_end_the_connection() {
    real(async {
        let case = case();
        for (line, host) in [
            ("CONNECT svc.example:443", "svc.example:443"),
            ("CONNECT evil.example:443", "svc.example"),
            ("CONNECT svc.example", "svc.example"),
            ("CONNECT /", "svc.example"),
            ("CONNECT http://svc.example/", "svc.example"),
            ("TRACE /", "svc.example"),
            ("TRACK /", "svc.example"),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: {host}\r\n<token>\r\n");
            case.refuses(&request, Reason::MethodNotAllowed).await;
        }
        // No connection of the pool is any different for it.
        for _ in 0..3 {
            let seen = case
                .passes("GET /x HTTP/1.1\r\nHost: svc.example\r\n<token>\r\n")
                .await;
            assert_eq!(seen.head.line, "GET /x HTTP/1.1");
        }
    });
}

/// Its body is all requests: whoever loses count of it serves one.
#[test]
fn what_is_left_of_a_refused_upload_is_never_a_request() {
    real(async {
        let case = case();
        let evil = case.evil();
        let body = evil.repeat(40);
        let forged = bearer(&Forge::home(case.gate.world.clock.unix()).with_signature([0; 256]));
        for token in [None, Some(&forged)] {
            for framing in ["length", "chunks"] {
                let length = body.len().to_string();
                let mut fields = match framing {
                    "length" => vec![("Content-Length", &*length)],
                    _ => vec![("Transfer-Encoding", "chunked")],
                };
                fields.extend(token.map(|token| ("Authorization", &**token)));
                let framed = match framing {
                    "length" => body.clone(),
                    _ => format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
                };
                let mut caller = case.gate.caller().await;
                caller.send(request("POST", "/x", &fields)).await;
                // In pieces, before the answer and after it.
                for piece in framed.as_bytes().chunks(framed.len() / 3 + 1) {
                    let _ = caller.try_send(piece).await;
                    settle().await;
                }
                assert_eq!(caller.answer().await.status, 401, "{framing}");
                let _ = caller.try_send(&evil).await;
                caller.expect_end().await;
            }
        }
        assert_eq!(case.gate.workload.connections.get(), 0);
        let seen = case.gate.passes(&evil).await;
        assert_eq!(
            seen.head.target(),
            "/evil",
            "the twin, as a request of its own"
        );
    });
}

#[test]
fn what_never_became_a_request_is_said_with_its_cause() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let gate = Setup::new(&world, workload.at).start(workload.serve(say_identity));
        for (bytes, reason, why) in [
            (
                "\u{1} / HTTP/1.1\r\n\r\n",
                Reason::BadRequest,
                "why=the method is not",
            ),
            (
                &get("/", &[("x", &"x".repeat(40_000))]),
                Reason::HeadersTooLarge,
                "limits.header_bytes",
            ),
            ("GET /x HTT", Reason::Timeout, "limits.header_timeout"),
        ] {
            let (log, _guard) = Kept::new();
            assert_eq!(gate.ask(bytes).await.status, reason.status().as_u16());
            assert_eq!(gate.refused(reason), 1);
            let said = log.text();
            let line = said.lines().find(|line| line.contains(" INFO "));
            let line = line.unwrap_or_default();
            let word = format!("reason=\"{}\"", reason.word());
            assert!(line.contains(why) && line.contains(&word), "{said}");
        }
    });
}
