//! Trailers of answers reach callers, but for what a trailer must not say; those of requests end here.

use crate::caller::*;
use crate::support::*;

const ANSWER: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\
    trailer: x-sum, authorization, content-length, set-cookie\r\n\r\n\
    2\r\nhi\r\n0\r\nx-sum: 1\r\nauthorization: Bearer x\r\ncontent-length: 9\r\nset-cookie: a=b\r\n\
    transfer-encoding: x\r\nhost: evil\r\nx-regent-user: mallory\r\nx-late: 2\r\n\r\n";

#[test]
fn a_caller_of_http_2_gets_the_trailers_that_may_be_trailers() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut caller = sidecar.h2().await;
        let (asked, _) = caller.begin(get("http://localhost/x"), true).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above.send(ANSWER).await;
        let answer = whole(asked).await;
        assert_eq!(answer.text(), "hi");
        let trailers = answer.trailers.expect("trailers");
        let names: Vec<_> = trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum", "x-late"]);
    });
}

#[test]
fn a_caller_of_http_1_gets_them_where_it_asked_and_they_were_announced() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, sidecar) = outbound(&world, &[]);
        let mut above = None;
        for (te, trailers) in [("TE: trailers\r\n", "x-sum: 1\r\n"), ("", "")] {
            let mut caller = sidecar.caller().await;
            caller
                .send(format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{te}\r\n"))
                .await;
            let above = match &mut above {
                Some(above) => above,
                none => none.insert(upstream.accept().await),
            };
            let request = above.request().await.expect("a request");
            assert!(!request.head.has("te"));
            above.send(ANSWER).await;
            let head = caller.head().await.expect("an answer");
            assert!(head.has("trailer"));
            caller
                .expect(format!("2\r\nhi\r\n0\r\n{trailers}\r\n"))
                .await;
            // Nothing is left over of it.
            caller
                .send("GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .await;
            above.request().await.expect("a request");
            above.send(ok("next")).await;
            assert_eq!(caller.answer().await.text(), "next");
        }
    });
}

#[test]
fn trailers_of_a_request_are_dropped() {
    real(async {
        let world = World::sockets();
        let (recorder, sidecar) = echoing(&world, &[]);
        let mut caller = sidecar.h2().await;
        let posted = request(
            "POST",
            "http://localhost/x",
            &[("trailer", "x-regent-user")],
        );
        let (answer, mut body) = caller.begin(posted, false).await;
        body.send_data(bytes::Bytes::from_static(b"abc"), false)
            .expect("room");
        let mut trailers = http::HeaderMap::new();
        trailers.insert("authorization", "Bearer x".parse().expect("a value"));
        trailers.insert("x-regent-user", "mallory".parse().expect("a value"));
        body.send_trailers(trailers).expect("trailers");
        assert_eq!(whole(answer).await.status, 200);
        let seen = recorder.last();
        assert_eq!(seen.body, b"abc");
        for name in ["trailer", "x-regent-user"] {
            assert!(!seen.head.has(name), "{seen:?}");
        }
        assert_ne!(seen.head.get("authorization"), Some("Bearer x"));
    });
}
