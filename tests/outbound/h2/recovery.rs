//! The token of a request over HTTP/2: judged when there is a connection, and replaced after a 401.

use std::time::Duration;

use http::Response;
use regent::demo::region::Kind;

use super::frames::*;
use super::server::serve;
use super::{GET, POST};
use crate::support::*;

#[test]
fn a_revoked_token_costs_one_refresh_and_the_request_is_sent_again_with_its_body() {
    paused(async {
        for request in [GET, POST] {
            let world = World::pipes();
            let region = region(&world);
            let upstream = Upstream::bind(&world);
            let setup = Setup::new(&world, upstream.at).set("outbound.upstream_protocol=h2c");
            let sidecar = setup.region(&region).start();
            let revoked = std::cell::OnceCell::new();
            let seen = serve(upstream, move |asked| {
                let token = asked.head.headers()["authorization"].clone();
                let body = format!("{} bytes", asked.body.len());
                let status = match revoked.get_or_init(|| token.clone()) == token {
                    true => 401,
                    false => 200,
                };
                let response = Response::builder().status(status).body(());
                asked.answer(response.expect("it"), body);
            });
            let answer = sidecar.ask(request).await;
            let length = if request == POST { 2 } else { 0 };
            assert_eq!(
                (answer.status, answer.text()),
                (200, format!("{length} bytes"))
            );
            assert_eq!(sidecar.recovered(), 1);
            assert_eq!(region.count(Kind::Refresh), 2);
            assert_eq!((seen.count(), seen.connections.get()), (2, 1));
        }
    });
}

#[test]
fn a_replay_is_what_was_recorded_and_then_what_is_still_to_come_over_a_stream_of_its_own() {
    paused(async {
        let world = World::pipes();
        let region = region(&world);
        let mut upstream = Upstream::bind(&world);
        let setup = Setup::new(&world, upstream.at).set("outbound.upstream_protocol=h2c");
        let sidecar = setup.region(&region).start();
        let mut caller = sidecar.caller().await;
        caller
            .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
            .await;
        let mut wire = Wire::accept(&mut upstream, &[]).await;
        let first = wire.request().await;
        let came = wire.frame().await.expect("data");
        assert_eq!((came.kind, &*came.payload), (DATA, &b"abc"[..]));
        // 401, by a literal.
        wire.send(HEADERS, END_HEADERS, first, b"\x08\x03401").await;
        let second = wire.request().await;
        assert_eq!(wire.expect_reset(first).await, CANCEL);
        caller.send("def").await;
        assert_eq!(wire.body(second).await, b"abcdef");
        wire.ok(second, "fine").await;
        assert_eq!(caller.answer().await.text(), "fine");
        assert_eq!(sidecar.recovered(), 1);
    });
}

#[test]
fn a_body_above_the_limit_is_not_replayed_though_it_was_kept_for_an_upstream_that_did_nothing() {
    paused(async {
        let world = World::pipes();
        let region = region(&world);
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at)
            .set("outbound.upstream_protocol=h2c")
            .set("outbound.replay_body_limit=1B")
            .region(&region)
            .start();
        let seen = serve(upstream, |asked| {
            let response = Response::builder().status(401).body(());
            asked.answer(response.expect("it"), "no");
        });
        assert_eq!(sidecar.ask(POST).await.status, 401);
        assert_eq!(seen.count(), 1);
    });
}

#[test]
fn a_token_that_ended_while_another_one_dialed_is_not_sent() {
    paused(async {
        let world = World::pipes();
        let mut upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at)
            .set("outbound.upstream_protocol=h2c")
            .set("limits.connect_timeout=48h")
            .set("outbound.token_wait=1s")
            .start();
        let mut first = sidecar.caller().await;
        first.send(GET).await;
        let mut wire = Wire::silent(&mut upstream).await;
        let stream = wire.request().await;
        let mut second = sidecar.caller().await;
        second.send(GET).await;
        settle().await;
        world.clock.suspend(Duration::from_secs(86_500));
        wire.settings(&[]).await;
        let answer = second.answer().await;
        assert_eq!((answer.status, answer.reason()), (503, "no_access_token"));
        wire.ok(stream, "fine").await;
        assert_eq!(first.answer().await.text(), "fine");
    });
}
