//! What an HTTP/2 upstream is asked, and what its answers come to.

use http::{HeaderMap, HeaderValue, Response, Version};

use super::server::{Asked, serve};
use super::{GET, POST, start};
use crate::support::*;

fn fine(asked: Asked<'_>) {
    let body = format!("{} {}", asked.head.method(), asked.body.len());
    asked.answer(Response::new(()), body);
}

#[test]
fn a_request_has_the_head_that_http_2_asks_for() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        let at = upstream.at;
        let seen = serve(upstream, fine);
        let request = "POST /a/b?c=d HTTP/1.1\r\nHost: localhost:99\r\nConnection: keep-alive, x-own\r\n\
             X-Own: 1\r\nKeep-Alive: timeout=5\r\nTE: gzip\r\nAccept: */*\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let answer = sidecar.ask(request).await;
        assert_eq!(answer.text(), "POST 3");
        let head = seen.head(0);
        assert_eq!(head.version(), Version::HTTP_2);
        assert_eq!(head.uri().to_string(), format!("http://{at}/a/b?c=d"));
        let mut names: Vec<_> = head.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept", "authorization", "x-regent-hop", "x-request-id"]
        );
        let token = head.headers()["authorization"].to_str().expect("text");
        assert_eq!(token, format!("Bearer {}", sidecar.token));
        assert_eq!(seen.body(0), b"abc");
    });
}

#[test]
fn a_length_that_is_known_is_told() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        let seen = serve(upstream, fine);
        assert_eq!(sidecar.ask(POST).await.text(), "POST 2");
        assert_eq!(seen.head(0).headers()["content-length"], "2");
        assert_eq!(sidecar.ask(GET).await.text(), "GET 0");
        assert!(!seen.head(1).headers().contains_key("content-length"));
        let empty = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(sidecar.ask(empty).await.text(), "POST 0");
        assert_eq!(seen.head(2).headers()["content-length"], "0");
    });
}

#[test]
fn a_prefix_and_the_asterisk_are_targets_here_too() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let at = upstream.at;
        let setup = Setup::at(&world, &format!("http://{at}/pre"));
        let sidecar = setup.set("outbound.upstream_protocol=h2c").start();
        let seen = serve(upstream, fine);
        sidecar.get("/x?y").await;
        assert_eq!(
            seen.head(0).uri().to_string(),
            format!("http://{at}/pre/x?y")
        );
        let (upstream, sidecar) = start(&world, &[]);
        let seen = serve(upstream, fine);
        let options = "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(sidecar.ask(options).await.text(), "OPTIONS 0");
        assert_eq!(seen.head(0).uri().path(), "*");
    });
}

#[test]
fn a_token_of_sixteen_kib_arrives() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["outbound.authorization=keep"]);
        let seen = serve(upstream, fine);
        let token = "t".repeat(16 << 10);
        let request =
            format!("GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
        assert_eq!(sidecar.ask(&request).await.text(), "GET 0");
        let value = seen.head(0).headers()["authorization"].clone();
        assert_eq!(value.as_bytes().len(), "Bearer ".len() + token.len());
    });
}

#[test]
fn who_takes_trailers_says_so_to_the_upstream_and_gets_the_body_before_them() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        let seen = serve(upstream, |asked| {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            asked.answer_with("body", trailers);
        });
        for (fields, told) in [
            ("Connection: TE\r\nTE: gzip, Trailers\r\n", true),
            ("Connection: keep-alive, te\r\nTE: trailers\r\n", true),
            // Not this caller's own.
            ("TE: trailers\r\n", false),
            ("Connection: TE\r\nTE: gzip\r\n", false),
            ("", false),
        ] {
            let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
            let mut caller = sidecar.caller().await;
            caller.send(request).await;
            let head = caller.head().await.expect("an answer");
            assert_eq!(head.get("transfer-encoding"), Some("chunked"));
            assert_eq!(caller.chunk().await.as_deref(), Some(&b"body"[..]));
            let headers = seen.head(seen.count() - 1).headers().clone();
            let te = headers.get("te").map(HeaderValue::as_bytes);
            assert_eq!(te, told.then_some(&b"trailers"[..]), "{fields}");
        }
    });
}

#[test]
fn answers_pass_with_their_status_their_fields_and_their_lengths() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        serve(upstream, |asked| {
            let path = asked.head.uri().path().to_owned();
            let response = Response::builder()
                .header("x-twice", "1")
                .header("x-twice", "2");
            match &*path {
                "/none" => asked.answer(response.status(204).body(()).expect("it"), ""),
                "/head" => {
                    let response = response.header("content-length", "7");
                    asked.answer(response.body(()).expect("it"), "");
                }
                "/long" => {
                    let response = response.status(418).header("content-length", "4");
                    asked.answer(response.body(()).expect("it"), "four");
                }
                _ => asked.answer(response.body(()).expect("it"), "open"),
            }
        });
        let mut caller = sidecar.caller().await;
        let mut ask = async |method: &str, path: &str| {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            caller.send(request).await;
            if method == "HEAD" {
                let head = caller.head().await.expect("a head");
                return (head, String::new());
            }
            let answer = caller.answer().await;
            (answer.head.clone(), answer.text())
        };
        let (head, body) = ask("GET", "/long").await;
        assert_eq!(head.line, "HTTP/1.1 418 I'm a teapot");
        assert_eq!(head.all("x-twice"), ["1", "2"]);
        assert_eq!((head.get("content-length"), &*body), (Some("4"), "four"));
        let (head, _) = ask("HEAD", "/head").await;
        assert_eq!(head.get("content-length"), Some("7"));
        let (head, body) = ask("GET", "/open").await;
        assert_eq!(
            (head.get("transfer-encoding"), &*body),
            (Some("chunked"), "open")
        );
        let (head, _) = ask("GET", "/none").await;
        assert!(head.line.starts_with("HTTP/1.1 204"), "{head:?}");
    });
}

#[test]
fn a_head_of_an_answer_has_room_for_two_large_tokens_and_not_for_anything() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        serve(upstream, |asked| {
            let large = match asked.head.uri().path() {
                "/fits" => 32 << 10,
                _ => 128 << 10,
            };
            let response = Response::builder().header("x-large", "l".repeat(large));
            asked.answer(response.body(()).expect("it"), "body");
        });
        let answer = sidecar.get("/fits").await;
        assert_eq!(answer.head.get("x-large").map(str::len), Some(32 << 10));
        let answer = sidecar.get("/fits-not").await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"));
        assert_eq!(sidecar.get("/fits").await.status, 200);
    });
}

#[test]
fn an_upgrade_cannot_be_had_and_the_answer_says_what_to_write() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &[]);
        let seen = serve(upstream, fine);
        let request = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        let answer = sidecar.ask(request).await;
        assert_eq!((answer.status, answer.reason()), (502, "upstream_protocol"));
        assert!(
            answer.text().contains("upstream_protocol = \\\"auto\\\""),
            "{}",
            answer.text()
        );
        assert_eq!(seen.count(), 0);
        // What is no upgrade that could be passed on is a request like any other.
        let h2c = "GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n\
             Upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
        assert_eq!(sidecar.ask(h2c).await.text(), "GET 0");
    });
}
