//! Bytes around hyper (cases.md, group G): what two readers could read differently is refused, from
//! callers and from upstreams.
//!
//! A refusal counts only where a twin that differs in the attacked attribute alone gets through,
//! the upstream saw none of it, its counter moved by one, and the next request is served.

use std::rc::Rc;
use std::time::Duration;

use regent::reason::Reason;

use super::support::*;

const LOCAL: &str = "Host: localhost\r\n";
const POST: &str = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
/// What a smuggler hides behind his request.
const EVIL: &str = "GET /evil HTTP/1.1\r\nHost: localhost\r\n\r\n";

struct Case {
    sidecar: Sidecar,
    upstream: Rc<Recorder>,
}

fn case() -> Case {
    let world = World::sockets();
    let upstream = Upstream::bind(&world);
    let sidecar = Setup::new(&world, upstream.at).start();
    Case {
        sidecar,
        upstream: upstream.echo(),
    }
}

/// Who words a refusal: Regent with a problem document, or hyper with the status alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    All,
    Status,
}

impl Case {
    /// Refused with this reason, the connection closed, and nothing of it seen above.
    async fn refuses(&self, bytes: &str, reason: Reason) -> Answer {
        let (answer, says) = self.refusal(bytes, reason, reason.status().as_u16()).await;
        assert_eq!(says, Says::All, "{bytes:?}");
        answer
    }

    async fn refusal(&self, bytes: &str, reason: Reason, status: u16) -> (Answer, Says) {
        let shown = &bytes[..bytes.len().min(300)];
        let before = (self.upstream.bytes.get(), self.upstream.connections.get());
        let counted = self.sidecar.refused(reason);
        let all = self.sidecar.refused_in_all();
        let mut caller = self.sidecar.caller().await;
        caller.send(format!("{bytes}{EVIL}")).await;
        let answer = caller.try_answer().await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {shown:?}"));
        assert_eq!(answer.status, status, "{shown:?}: {answer:?}");
        assert_eq!(answer.head.get("connection"), Some("close"), "{shown:?}");
        caller.expect_end().await;
        assert_eq!(self.sidecar.refused(reason), counted + 1, "{shown:?}");
        assert_eq!(self.sidecar.refused_in_all(), all + 1, "{shown:?}");
        let after = (self.upstream.bytes.get(), self.upstream.connections.get());
        assert_eq!(before, after, "the upstream saw something of {shown:?}");
        let says = match answer.head.has("proxy-status") {
            true => Says::All,
            false => Says::Status,
        };
        if says == Says::All {
            assert_eq!(answer.reason(), reason.word(), "{shown:?}");
        }
        (answer, says)
    }

    /// Refused as a bad request, in whose words ever.
    async fn rejects(&self, bytes: &str) -> Says {
        self.refusal(bytes, Reason::BadRequest, 400).await.1
    }

    async fn serves(&self, bytes: &str) -> Received {
        let before = self.upstream.count();
        let answer = self.sidecar.ask(bytes).await;
        assert_eq!(answer.status, 200, "{bytes:?}: {answer:?}");
        assert_eq!(self.upstream.count(), before + 1, "{bytes:?}");
        self.upstream.last()
    }

    /// A broken body: 400 where nothing was answered, and above nothing but a cut request.
    async fn breaks(&self, bytes: &str) {
        let shown = &bytes[..bytes.len().min(300)];
        let before = self.upstream.count();
        let counted = self.sidecar.refused(Reason::BadRequest);
        let mut caller = self.sidecar.caller().await;
        // It may be refused before all of it is written.
        let _ = caller.try_send(format!("{bytes}{EVIL}")).await;
        let answer = caller.try_answer().await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {shown:?}"));
        assert_eq!(answer.status, 400, "{shown:?}");
        assert_eq!(answer.reason(), "bad_request", "{shown:?}");
        assert_eq!(answer.head.get("connection"), Some("close"), "{shown:?}");
        caller.expect_end().await;
        assert_eq!(self.sidecar.refused(Reason::BadRequest), counted + 1);
        until(|| self.upstream.open.get() == 0).await;
        let requests = self.upstream.requests.borrow();
        for request in &requests[before..] {
            assert_eq!(request.end, End::Cut, "{shown:?}");
            assert!(!request.head.line.contains("evil"), "{shown:?}");
        }
    }
}

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\n{LOCAL}{fields}\r\n")
}

#[test]
fn a_length_beside_chunks_is_refused_in_either_order() {
    real(async {
        let case = case();
        let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        for fields in [
            format!("{length}{chunked}"),
            format!("{chunked}{length}"),
            format!("{length}X: y\r\n{chunked}"),
        ] {
            let head = format!("POST /x HTTP/1.1\r\n{LOCAL}{fields}\r\n");
            for body in ["0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "hello"] {
                let answer = case
                    .refuses(&format!("{head}{body}"), Reason::BadRequest)
                    .await;
                assert!(
                    answer
                        .text()
                        .contains("both Content-Length and Transfer-Encoding")
                );
            }
        }
        let twin = format!("POST /x HTTP/1.1\r\n{LOCAL}{length}\r\nhello");
        assert_eq!(case.serves(&twin).await.body, b"hello");
        let twin = format!("{POST}5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(case.serves(&twin).await.body, b"hello");
    });
}

#[test]
fn a_second_reading_is_not_found_by_waiting_in_between() {
    real(async {
        let case = case();
        let head = format!(
            "POST /x HTTP/1.1\r\n{LOCAL}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let all = format!("{head}0\r\n\r\n{EVIL}");
        for cut in [
            10,
            head.len() - 3,
            head.len(),
            head.len() + 2,
            head.len() + 5,
        ] {
            let mut caller = case.sidecar.caller().await;
            caller.send(&all[..cut]).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            let _ = caller.try_send(&all[cut..]).await;
            let answer = caller.answer().await;
            assert_eq!(
                (answer.status, answer.reason()),
                (400, "bad_request"),
                "{cut}"
            );
            caller.expect_end().await;
        }
        assert_eq!(case.upstream.connections.get(), 0);
        case.serves(&get("")).await;
    });
}

#[test]
fn any_coding_but_one_chunked_is_refused() {
    real(async {
        let case = case();
        for coding in [
            "gzip, chunked",
            "identity, chunked",
            "chunked, chunked",
            ",chunked",
            "chunked\r\nTransfer-Encoding: chunked",
            "identity\r\nTransfer-Encoding: chunked",
            "chunked;x=1",
            "chunked, identity",
            "gzip",
            "xchunked",
            "",
        ] {
            let fields = format!("Transfer-Encoding: {coding}\r\n");
            let request = format!("POST /x HTTP/1.1\r\n{LOCAL}{fields}\r\n0\r\n\r\n");
            case.rejects(&request).await;
        }
        let old = format!("POST /x HTTP/1.0\r\n{LOCAL}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
        case.rejects(&old).await;
        case.serves(&format!("{POST}0\r\n\r\n")).await;
    });
}

#[test]
fn any_length_but_one_plain_number_is_refused() {
    real(async {
        let case = case();
        for length in [
            "1\r\nContent-Length: 2",
            "1\r\nContent-Length: 1",
            "1, 1",
            "1,2",
            "+1",
            "-1",
            "-0",
            "0x1",
            "1_0",
            "1 0",
            "",
            "01",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616",
        ] {
            let request = format!("POST /x HTTP/1.1\r\n{LOCAL}Content-Length: {length}\r\n\r\nx");
            // hyper calls what its buffers could never hold too large.
            if length == "18446744073709551615" {
                case.refusal(&request, Reason::HeadersTooLarge, 431).await;
            } else {
                case.rejects(&request).await;
            }
        }
        let twin = format!("POST /x HTTP/1.1\r\n{LOCAL}Content-Length:  1 \r\n\r\nx");
        let seen = case.serves(&twin).await;
        assert_eq!(seen.head.get("content-length"), Some("1"));
        for name in ["Content_Length", "Content.Length", "Transfer_Encoding"] {
            case.refuses(&get(&format!("{name}: 1\r\n")), Reason::BadRequest)
                .await;
        }
    });
}

#[test]
fn an_old_request_has_a_length_or_no_body() {
    real(async {
        let case = case();
        let seen = case
            .serves(&format!("POST /x HTTP/1.0\r\n{LOCAL}\r\nGET /evil"))
            .await;
        assert_eq!(seen.body, b"");
        let seen = case
            .serves(&format!(
                "POST /x HTTP/1.0\r\n{LOCAL}Content-Length: 2\r\n\r\nhi"
            ))
            .await;
        assert_eq!(seen.body, b"hi");
    });
}

#[test]
fn a_body_stays_with_its_framing_whatever_the_method() {
    real(async {
        let case = case();
        let mut caller = case.sidecar.caller().await;
        for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PATCH"] {
            let head = format!("{method} /x HTTP/1.1\r\n{LOCAL}");
            for framed in [
                "Content-Length: 5\r\n\r\nhello",
                "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            ] {
                caller.send(format!("{head}{framed}{}", get(""))).await;
                let status = match method {
                    "HEAD" => {
                        let head = caller.head().await.expect("an answer");
                        assert!(head.line.contains(" 200 "), "{head:?}");
                        200
                    }
                    _ => caller.answer().await.status,
                };
                assert_eq!(status, 200);
                assert_eq!(caller.answer().await.status, 200, "{method}: the next one");
                let requests = case.upstream.requests.borrow();
                let [.., first, second] = &requests[..] else {
                    panic!("two requests");
                };
                assert_eq!(first.head.line, format!("{method} /x HTTP/1.1"));
                assert_eq!(first.body, b"hello", "{method} {framed}");
                assert_eq!(second.head.line, "GET /x HTTP/1.1");
            }
        }
    });
}

#[test]
fn a_line_that_does_not_end_in_both_is_refused() {
    real(async {
        let case = case();
        for bytes in [
            "GET /x HTTP/1.1\nHost: localhost\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: localhost\n\r\n",
            "GET /x HTTP/1.1\r\nHost: localhost\r\nX: y\nZ: z\r\n\r\n",
            "GET /x HTTP/1.1\nHost: localhost\n\n",
            "GET /x HTTP/1.1\r\nHost: localhost\r\n\n",
            "\nGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\n\r\n",
        ] {
            let answer = case.refuses(bytes, Reason::BadRequest).await;
            assert!(answer.text().contains("CR LF"), "{bytes:?}");
        }
        for bytes in [
            "GET /x HTTP/1.1\rHost: localhost\r\r",
            "GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: localhost\r\nX: a\r\r\n\r\n",
        ] {
            case.rejects(bytes).await;
        }
        case.serves(&format!("\r\n{}", get("X: y\r\n"))).await;
    });
}

#[test]
fn folded_lines_odd_names_and_control_characters_are_refused() {
    real(async {
        let case = case();
        for fields in [
            "X: a\r\n b\r\n",
            "Transfer-Encoding:\r\n chunked\r\n",
            "Content-Length: 1\r\n 0\r\n",
            "Authorization: Bearer\r\n\tx\r\n",
            " X: leading\r\n",
            "Content-Length : 5\r\n",
            "Transfer-Encoding\t: chunked\r\n",
            ": empty\r\n",
            "nocolon\r\n",
            "X(a: b\r\n",
            "X\u{85}: b\r\n",
            "X: a\x00b\r\n",
            "X: a\x01b\r\n",
            "X: a\x7fb\r\n",
        ] {
            case.rejects(&get(fields)).await;
        }
        case.rejects("GET /x HTTP/1.1\r\n Host: localhost\r\n\r\n")
            .await;
        case.rejects("GET /x HTTP/1.1\r\nHost:\r\n localhost\r\n\r\n")
            .await;
        case.serves(&get("X-y.z: a\tb \u{fc}\r\n")).await;
    });
}

#[test]
fn a_broken_chunk_is_a_400_and_never_a_whole_request() {
    real(async {
        let case = case();
        let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(16 * 1024 + 1));
        let longer = format!("1;{}\r\nx\r\n0\r\n\r\n", "x".repeat(64 * 1024));
        let many = format!("{}0\r\n\r\n", "1;x\r\nx\r\n".repeat(100_000));
        let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(8 * 1024));
        for chunks in [
            "0x1\r\nx\r\n0\r\n\r\n",
            "+1\r\nx\r\n0\r\n\r\n",
            "-1\r\nx\r\n0\r\n\r\n",
            "1_\r\nx\r\n0\r\n\r\n",
            " 1\r\nx\r\n0\r\n\r\n",
            "1 \r\nx\r\n0\r\n\r\n",
            "\r\nx\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n",
            "FFFFFFFFFFFFFFFF\r\nx\r\n0\r\n\r\n",
            "1\nx\r\n0\r\n\r\n",
            "1\r\nx\n0\r\n\r\n",
            "1\r\nx\r\n0\n\r\n",
            "1\r\nx\r\n0\r\n\n",
            "2\r\nhix\r\n0\r\n\r\n",
            "3\r\nhi\r\n0\r\n\r\n",
            "2\r\nhi0\r\n\r\n",
            "1;a\nx\r\n0\r\n\r\n",
            "1;a\rb\r\nx\r\n0\r\n\r\n",
            "1;a\x00\r\nx\r\n0\r\n\r\n",
            "1;a=\"\r\nx\r\n\"\r\nx\r\n0\r\n\r\n",
            "0\r\nX: y\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\nX: \x01\r\n\r\n",
            &long,
            &longer,
            &many,
            &trailers,
        ] {
            case.breaks(&format!("{POST}{chunks}")).await;
        }
        let fine = "5;a=\"b;c\"\r\nhello\r\n0;x\r\nX: y\r\n\r\n";
        assert_eq!(case.serves(&format!("{POST}{fine}")).await.body, b"hello");
    });
}

#[test]
fn trailers_are_dropped_and_change_nothing() {
    real(async {
        let case = case();
        let bearer = format!("Bearer {}", case.sidecar.token);
        let post = |name: &str| {
            let fields = format!("\r\nTrailer: {name}\r\nX-Request-Id: 1\r\n\r\n");
            POST.replace("\r\n\r\n", &fields)
        };
        let head = post("x");
        let plain = case.serves(&format!("{head}2\r\nhi\r\n0\r\n\r\n")).await;
        assert_eq!(plain.head.get("authorization"), Some(bearer.as_str()));
        for name in [
            "Authorization",
            "Content-Length",
            "Host",
            "Transfer-Encoding",
            "Connection",
            "X-Auth-User",
            "x-regent-user",
        ] {
            let head = post(name);
            let request = format!("{head}2\r\nhi\r\n0\r\n{name}: 9\r\n\r\n{}", get("X: 1\r\n"));
            let mut caller = case.sidecar.caller().await;
            let answer = caller.ask(&request).await;
            assert_eq!(answer.status, 200, "{name}");
            assert_eq!(caller.answer().await.status, 200, "{name}: the next one");
            let requests = case.upstream.requests.borrow();
            let [.., first, second] = &requests[..] else {
                panic!("two requests");
            };
            // The recorder takes no trailers: one that came would have broken what follows.
            assert_eq!((&first.body[..], first.end), (&b"hi"[..], End::Whole));
            assert_eq!(first.head.fields, plain.head.fields, "{name}");
            assert_eq!(second.head.get("x"), Some("1"), "{name}");
        }
    });
}

#[test]
fn a_target_is_a_path_or_our_own_address() {
    real(async {
        let case = case();
        for target in ["foo", "admin/a", "@evil.com/", "*", "foo:80", "*/x"] {
            case.rejects(&format!("GET {target} HTTP/1.1\r\n{LOCAL}\r\n"))
                .await;
        }
        case.rejects(&format!("OPTIONS */x HTTP/1.1\r\n{LOCAL}\r\n"))
            .await;
        for target in [
            "http://evil.example/",
            "http://localhost:81/",
            "ftp://localhost/",
            "https://localhost/",
            "http://u@localhost/",
            "http:///x",
        ] {
            case.rejects(&format!("GET {target} HTTP/1.1\r\n{LOCAL}\r\n"))
                .await;
        }
        for target in ["http://localhost/x", "HTTP://LOCALHOST/x"] {
            let seen = case
                .serves(&format!("GET {target} HTTP/1.1\r\n{LOCAL}\r\n"))
                .await;
            assert_eq!(seen.head.target(), "/x");
        }
        case.serves(&format!("OPTIONS * HTTP/1.1\r\n{LOCAL}\r\n"))
            .await;
    });
}

#[test]
fn a_target_is_one_word_without_a_fragment_and_is_not_decoded() {
    real(async {
        let case = case();
        for target in ["/x#y", "/#", "/?q#", "http://localhost/#x"] {
            let request = format!("GET {target} HTTP/1.1\r\n{LOCAL}\r\n");
            case.refuses(&request, Reason::AmbiguousPath).await;
        }
        for line in [
            "GET /a b HTTP/1.1",
            "GET /\x01 HTTP/1.1",
            "GET /\x7f HTTP/1.1",
            "GET  /x HTTP/1.1",
            "GET\t/x HTTP/1.1",
            "GET /x\tHTTP/1.1",
        ] {
            case.rejects(&format!("{line}\r\n{LOCAL}\r\n")).await;
        }
        for target in [
            "/%0d%0aX:y",
            "/%00",
            "/%c0%ae%c0%ae/",
            "/%zz",
            "/a%23b",
            "/a%2fb",
            "/a;b",
        ] {
            let seen = case
                .serves(&format!("GET {target} HTTP/1.1\r\n{LOCAL}\r\n"))
                .await;
            assert_eq!(seen.head.target(), target);
            assert!(!seen.head.has("x"));
        }
    });
}

#[test]
fn a_version_is_1_1_or_1_0() {
    real(async {
        let case = case();
        for line in [
            "GET /x",
            "GET /x HTTP/0.9",
            "GET /x HTTP/1.2",
            "GET /x HTTP/1.10",
            "GET /x HTTP/2.0",
            "GET /x HTTP/3",
            "GET /x http/1.1",
            "GET /x HTTP/1.1 ",
            "GET /x  HTTP/1.1",
        ] {
            case.rejects(&format!("{line}\r\n{LOCAL}\r\n")).await;
        }
        for line in ["GET /x HTTP/1.0", "GET /x HTTP/1.1"] {
            case.serves(&format!("{line}\r\n{LOCAL}\r\n")).await;
        }
    });
}

#[test]
fn a_method_is_a_short_word_in_capitals() {
    real(async {
        let case = case();
        let long = "A".repeat(10 * 1024);
        for method in ["get", "Get", "pOST", &long, "G(T", "G\x00T"] {
            case.rejects(&format!("{method} /x HTTP/1.1\r\n{LOCAL}\r\n"))
                .await;
        }
        for method in ["M-SEARCH", "UPDATEREDIRECTREF", "PROPFIND"] {
            let seen = case
                .serves(&format!("{method} /x HTTP/1.1\r\n{LOCAL}\r\n"))
                .await;
            assert_eq!(seen.head.line, format!("{method} /x HTTP/1.1"));
        }
        let seen = case
            .serves(&get("X-HTTP-Method-Override: DELETE\r\n"))
            .await;
        assert_eq!(seen.head.line, "GET /x HTTP/1.1");
    });
}

#[test]
fn connect_trace_and_track_are_never_forwarded_and_end_the_connection() {
    real(async {
        let case = case();
        for method in ["TRACE", "TRACK"] {
            for fields in ["", "Authorization: Bearer x\r\n"] {
                let request = format!("{method} /x HTTP/1.1\r\n{LOCAL}{fields}\r\n");
                let answer = case.refuses(&request, Reason::MethodNotAllowed).await;
                let allow = answer.head.get("allow");
                assert!(allow.is_some_and(|all| all.contains("GET")));
            }
        }
        // Whatever it names: what follows was meant for a tunnel.
        for (target, host) in [
            ("localhost:443", "localhost:443"),
            ("evil.example:443", "evil.example:443"),
            ("evil.example:443", "localhost"),
            ("localhost", "localhost"),
            ("/", "localhost"),
        ] {
            let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            case.refuses(&connect, Reason::MethodNotAllowed).await;
        }
        assert_eq!(case.upstream.connections.get(), 0);
        case.serves(&get("")).await;
    });
}

#[test]
fn a_host_stands_there_once_and_is_one() {
    real(async {
        let case = case();
        for fields in [
            "",
            "Host: localhost\r\nHost: localhost\r\n",
            "Host: localhost\r\nHost: evil.example\r\n",
        ] {
            let request = format!("GET /x HTTP/1.1\r\n{fields}\r\n");
            case.refuses(&request, Reason::BadRequest).await;
        }
        for host in [
            "localhost,evil",
            "u@localhost",
            "localhost/x",
            "a b",
            "",
            "localhost:99999",
        ] {
            let request = format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = case.sidecar.ask(&request).await;
            assert!([400, 403].contains(&answer.status), "{host:?}: {answer:?}");
        }
        assert_eq!(case.upstream.connections.get(), 0);
        case.serves(&get("")).await;
    });
}

#[test]
fn an_expectation_is_100_continue_once_or_refused() {
    real(async {
        let case = case();
        for expect in [
            "y",
            "100-continue, y",
            "y 100-continue",
            "100-continue\r\nExpect: 100-continue",
        ] {
            let request = get(&format!("Expect: {expect}\r\n"));
            let before = case.sidecar.refused(Reason::ExpectationFailed);
            let answer = case.sidecar.ask(&request).await;
            assert_eq!(
                (answer.status, answer.reason()),
                (417, "expectation_failed")
            );
            assert_eq!(case.sidecar.refused(Reason::ExpectationFailed), before + 1);
        }
        assert_eq!(case.upstream.connections.get(), 0);
        case.serves(&get("Expect: 100-Continue\r\n")).await;
    });
}

#[test]
fn pipelined_requests_are_answered_in_order_up_to_the_bad_one() {
    real(async {
        for bad in [
            "GET /bad HTTP/1.1\nHost: localhost\r\n\r\n",
            "POST /bad HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /bad HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
            "POST /bad HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;\x00\r\nx\r\n0\r\n\r\n",
        ] {
            let case = case();
            let mut bytes = String::new();
            for at in 0..50 {
                match at {
                    30 => bytes += bad,
                    _ if at % 2 == 0 => {
                        bytes += &format!("GET /{at} HTTP/1.1\r\n{LOCAL}\r\n");
                    }
                    _ => {
                        let head = POST.replace("/x", &format!("/{at}"));
                        bytes += &format!("{head}2\r\nhi\r\n0\r\n\r\n");
                    }
                }
            }
            let mut caller = case.sidecar.caller().await;
            caller.send(&bytes).await;
            for at in 0..30 {
                let answer = caller.answer().await;
                assert_eq!(answer.status, 200, "{at}");
                assert!(answer.text().contains(&format!(" /{at} ")), "{at}");
            }
            let answer = caller.answer().await;
            assert_eq!(answer.status, 400, "{bad:?}");
            assert_eq!(answer.head.get("connection"), Some("close"), "{bad:?}");
            caller.expect_end().await;
            assert_eq!(case.sidecar.refused_in_all(), 1, "{bad:?}");
            let whole = {
                let requests = case.upstream.requests.borrow();
                let whole = |request: &&Received| request.end == End::Whole;
                requests.iter().filter(whole).count()
            };
            assert_eq!(whole, 30, "{bad:?}");
            case.serves(&get("")).await;
        }
    });
}

/// What hyper's client alone makes of each (hyper 1.12): `taken` as an answer, or an error.
#[test]
fn an_answer_that_can_be_read_in_two_ways_is_a_502() {
    real(async {
        for (bytes, _hyper) in [
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "taken",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                "taken",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx",
                "taken",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\nx", "taken"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 01\r\n\r\nx", "taken"),
            ("HTTP/1.1 200 OK\ncontent-length: 1\r\n\r\nx", "taken"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\n\r\nx", "taken"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\nx", "taken"),
            ("\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx", "taken"),
            ("HTTP/1.1  200 OK\r\ncontent-length: 1\r\n\r\nx", "an error"),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
                "taken",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                "taken",
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nx",
                "taken",
            ),
            (
                "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                "an error",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
                "an error",
            ),
            (
                "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 1\r\n\r\nx",
                "an error",
            ),
            ("HTTP/1.1 200 OK\r\ncontent-length : 1\r\n\r\nx", "an error"),
            (
                "HTTP/1.1 200 OK\r\nx: a\x00\r\ncontent-length: 1\r\n\r\nx",
                "an error",
            ),
            ("HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", "taken"),
            (
                "HTTP/1.1 100 Continue\r\nx: y\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx",
                "taken",
            ),
        ] {
            let world = World::sockets();
            let mut upstream = Upstream::bind(&world);
            let sidecar = Setup::new(&world, upstream.at).start();
            let mut caller = sidecar.caller().await;
            caller.send(get("")).await;
            let mut above = upstream.accept().await;
            above.head().await.expect("a request");
            above.send(bytes).await;
            let answer = caller.answer().await;
            assert_eq!(
                (answer.status, answer.reason()),
                (502, "upstream_protocol"),
                "{bytes:?}"
            );
            assert_eq!(sidecar.refused(Reason::UpstreamProtocol), 1, "{bytes:?}");
            assert_eq!(sidecar.broken_off(Reason::UpstreamProtocol), 1, "{bytes:?}");
            above.expect_end().await;
            // The caller's connection goes on, over a new one above.
            caller.send(get("")).await;
            let mut above = upstream.accept().await;
            above.head().await.expect("a request");
            above.send(ok("fine")).await;
            assert_eq!(caller.answer().await.text(), "fine", "{bytes:?}");
        }
    });
}

#[test]
fn a_broken_chunk_of_an_answer_never_ends_it_well() {
    real(async {
        for chunks in [
            "2\r\nhi\r\n0x0\r\n\r\n",
            "2\r\nhi\r\n 0\r\n\r\n",
            "2\r\nhi\r\n0 \r\n\r\n",
            "2\r\nhi\r\n0\n\r\n",
            "2\r\nhi\n0\r\n\r\n",
            "2\r\nhix\r\n0\r\n\r\n",
            "2\r\nhi\r\n0;\x00\r\n\r\n",
            "2\r\nhi\r\n0;\"\r\n\r\n",
            "2\r\nhi\r\n0\r\nX: y\n\r\n",
            "2\r\nhi\r\n0\r\n X: y\r\n\r\n",
        ] {
            let world = World::sockets();
            let mut upstream = Upstream::bind(&world);
            let sidecar = Setup::new(&world, upstream.at).start();
            let mut caller = sidecar.caller().await;
            caller.send(get("")).await;
            let mut above = upstream.accept().await;
            above.head().await.expect("a request");
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            above.send(format!("{head}{chunks}")).await;
            // Where the break came with the head, it may even be told with a status.
            match caller.try_answer().await {
                Some(answer) if answer.status == 502 => {
                    assert_eq!(answer.reason(), "upstream_protocol");
                }
                Some(answer) => assert_eq!(answer.end, End::Cut, "{chunks:?}"),
                None => {}
            }
            until(|| sidecar.broken_off(Reason::UpstreamProtocol) == 1).await;
            above.expect_end().await;
        }
    });
}

#[test]
fn interim_answers_are_bounded_and_one_after_the_answer_is_ignored() {
    real(async {
        let world = World::sockets();
        let mut upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let mut caller = sidecar.caller().await;
        caller.send(get("")).await;
        let mut above = upstream.accept().await;
        above.head().await.expect("a request");
        let flood = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(2000);
        let _ = above.try_send(flood).await;
        let answer = caller.answer().await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"));

        caller.send(get("")).await;
        let mut above = upstream.accept().await;
        above.head().await.expect("a request");
        let mut bytes = ok("first");
        bytes.extend(b"HTTP/1.1 100 Continue\r\n\r\n");
        above.send(bytes).await;
        assert_eq!(caller.answer().await.text(), "first");
        caller.send(get("")).await;
        let mut above = upstream.accept().await;
        above.head().await.expect("over a new connection");
        above.send(ok("second")).await;
        assert_eq!(caller.answer().await.text(), "second");
    });
}
