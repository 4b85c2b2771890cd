//! An upstream's 401: one forced refresh, one replay of any request whose body fits, and the 401
//! itself where nothing better can be had (guard R2, cases.md O21 and O22).

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use regent::demo::region::{Fault, Kind, Outage, Region};
use tokio::task::spawn_local;

use super::support::*;

struct Case {
    world: World,
    region: Region,
    sidecar: Sidecar,
    upstream: Upstream,
}

impl Case {
    fn new(sets: &[&str]) -> Case {
        let world = World::pipes();
        let region = region(&world);
        let upstream = Upstream::bind(&world);
        let setup = Setup::new(&world, upstream.at).region(&region);
        let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
        Case {
            sidecar: setup.start(),
            world,
            region,
            upstream,
        }
    }

    fn refreshes(&self) -> u64 {
        self.region.count(Kind::Refresh)
    }

    fn dialled(&self) -> usize {
        self.world.dialled.load(Relaxed)
    }
}

fn unauthorized() -> Vec<u8> {
    answer(401, &[("www-authenticate", "Bearer")], "no")
}

fn post(length: usize) -> String {
    format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
}

fn bearer(received: &Received) -> String {
    let value = received.head.get("authorization").expect("a token");
    value.to_owned()
}

/// Says 401 to the first token that it meets, 200 to all others.
fn revoked_once(upstream: Upstream) -> Rc<Recorder> {
    let revoked = std::cell::OnceCell::new();
    upstream.serve(move |request| {
        let bearer = bearer(request);
        if revoked.get_or_init(|| bearer.clone()) == &bearer {
            return unauthorized();
        }
        ok(&format!("{} {}", request.head.line, request.body.len()))
    })
}

#[test]
fn a_revoked_token_costs_one_refresh_and_no_request_fails() {
    paused(async {
        let case = Case::new(&[]);
        let recorder = revoked_once(case.upstream);
        let mut caller = case.sidecar.caller().await;
        let answer = caller
            .ask("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(answer.text(), "GET /x HTTP/1.1 0");
        assert_eq!(recorder.count(), 2);
        assert_eq!(case.region.count(Kind::Refresh), 2);
        assert_eq!(case.sidecar.recovered(), 1);
        let again = caller
            .ask("GET /y HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert_eq!(again.text(), "GET /y HTTP/1.1 0");
        assert_eq!(case.region.count(Kind::Refresh), 2);
    });
}

#[test]
fn any_method_is_replayed_with_its_whole_body() {
    paused(async {
        let body: String = ('a'..='z').cycle().take(32 * 1024).collect();
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "QUERY"] {
            for chunked in [false, true] {
                let case = Case::new(&[]);
                let recorder = revoked_once(case.upstream);
                let framed = match chunked {
                    true => format!(
                        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                        body.len()
                    ),
                    false => format!("Content-Length: {}\r\n\r\n{body}", body.len()),
                };
                let request = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n{framed}");
                let mut caller = case.sidecar.caller().await;
                let answer = caller.ask(&request).await;
                assert_eq!(answer.status, 200, "{method} {chunked}");
                let requests = recorder.requests.borrow().clone();
                assert_eq!(requests.len(), 2);
                assert_ne!(bearer(&requests[0]), bearer(&requests[1]));
                for request in &requests {
                    assert_eq!(request.body, body.as_bytes());
                    let coding = request.head.get("transfer-encoding");
                    assert_eq!(coding.is_some(), chunked);
                }
                assert_eq!(caller.ask(&post(0)).await.status, 200);
            }
        }
    });
}

#[test]
fn a_replay_of_chunks_without_data_ends_too() {
    paused(async {
        let case = Case::new(&[]);
        let recorder = revoked_once(case.upstream);
        let mut caller = case.sidecar.caller().await;
        let request = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = caller.ask(&format!("{request}0\r\n\r\n")).await;
        assert_eq!(answer.text(), "POST /x HTTP/1.1 0");
        assert_eq!(recorder.count(), 2);
        // Or the next request would be a part of it.
        assert_eq!(caller.ask(&post(0)).await.text(), "POST /x HTTP/1.1 0");
        assert_eq!(recorder.count(), 3);
    });
}

#[test]
fn there_is_one_replay_and_no_more() {
    paused(async {
        let case = Case::new(&[]);
        let recorder = case.upstream.serve(|_| unauthorized());
        let answer = case.sidecar.get("/x").await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
        assert_eq!(answer.head.get("www-authenticate"), Some("Bearer"));
        assert_eq!(recorder.count(), 2);
        assert_eq!(case.region.count(Kind::Refresh), 2);
        assert_eq!(case.sidecar.recovered(), 0);
    });
}

#[test]
fn a_storm_of_401s_forces_one_refresh_in_half_a_minute_and_passes_them_on() {
    paused(async {
        let case = Case::new(&[]);
        let recorder = case.upstream.serve(|_| unauthorized());
        case.sidecar.get("/x").await;
        assert_eq!(case.region.count(Kind::Refresh), 2);
        let mut callers = Vec::new();
        for _ in 0..20 {
            callers.push(case.sidecar.caller().await);
        }
        for _ in 0..10 {
            for caller in &mut callers {
                caller
                    .send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .await;
            }
            for caller in &mut callers {
                assert_eq!(caller.answer().await.status, 401);
            }
        }
        assert_eq!(case.region.count(Kind::Refresh), 2);
        assert_eq!(recorder.count(), 202, "none of them was replayed");
        tokio::time::sleep(Duration::from_secs(31)).await;
        for _ in 0..5 {
            assert_eq!(case.sidecar.get("/x").await.status, 401);
        }
        assert_eq!(case.region.count(Kind::Refresh), 3);
    });
}

#[test]
fn requests_that_were_sent_with_the_old_token_share_one_refresh() {
    paused(async {
        let mut case = Case::new(&[]);
        let mut callers = Vec::new();
        let mut above = Vec::new();
        for at in 0..10 {
            let mut caller = case.sidecar.caller().await;
            caller
                .send(format!("GET /{at} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                .await;
            let mut peer = case.upstream.accept().await;
            peer.request().await.expect("a request");
            callers.push(caller);
            above.push(peer);
        }
        // One by one, so that most of them find the new token already there.
        let recorder = case.upstream.echo();
        for (at, (mut caller, mut peer)) in callers.into_iter().zip(above).enumerate() {
            peer.send(unauthorized()).await;
            let answer = caller.answer().await;
            assert_eq!(answer.text(), format!("GET /{at} HTTP/1.1 0"));
        }
        assert_eq!(recorder.count(), 10);
        assert_eq!(case.region.count(Kind::Refresh), 2);
    });
}

#[test]
fn a_401_is_the_callers_where_recovery_is_off_or_the_token_is_its_own() {
    paused(async {
        for (set, field) in [
            ("outbound.retry_unauthorized=false", ""),
            ("outbound.authorization=keep", "Authorization: Basic x\r\n"),
        ] {
            let case = Case::new(&[set]);
            let recorder = case.upstream.serve(|_| unauthorized());
            let request = format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{field}\r\n");
            assert_eq!(case.sidecar.ask(&request).await.status, 401, "{set}");
            assert_eq!(recorder.count(), 1, "{set}");
            assert!(case.region.count(Kind::Refresh) < 2, "{set}");
        }
    });
}

#[test]
fn a_body_above_the_limit_is_not_replayed_but_the_token_is_refreshed() {
    paused(async {
        for chunked in [false, true] {
            let case = Case::new(&["outbound.replay_body_limit=1KiB"]);
            let recorder = revoked_once(case.upstream);
            let body = "x".repeat(1025);
            let framed = match chunked {
                true => format!("Transfer-Encoding: chunked\r\n\r\n401\r\n{body}\r\n0\r\n\r\n"),
                false => format!("Content-Length: 1025\r\n\r\n{body}"),
            };
            let request = format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framed}");
            // The first login is over; the next answer of the region takes its time.
            until(|| case.region.count(Kind::Refresh) == 1).await;
            settle().await;
            let latency = Duration::from_secs(3);
            case.region.change(|settings| settings.latency = latency);
            let began = tokio::time::Instant::now();
            assert_eq!(case.sidecar.ask(&request).await.status, 401);
            assert!(began.elapsed() < Duration::from_secs(1), "it need not wait");
            assert_eq!(recorder.count(), 1, "it was sent once");
            tokio::time::sleep(Duration::from_secs(4)).await;
            assert_eq!(case.region.count(Kind::Refresh), 2);
            assert_eq!(case.sidecar.ask(&request).await.status, 200);
        }
    });
}

#[test]
fn a_body_at_the_limit_is_replayed() {
    paused(async {
        let case = Case::new(&["outbound.replay_body_limit=1KiB"]);
        let recorder = revoked_once(case.upstream);
        let request = format!("{}{}", post(1024), "x".repeat(1024));
        assert_eq!(case.sidecar.ask(&request).await.status, 200);
        assert_eq!(recorder.last().body.len(), 1024);
    });
}

#[test]
fn a_replay_is_what_was_recorded_and_then_what_is_still_to_come() {
    paused(async {
        for closes in [false, true] {
            let mut case = Case::new(&[]);
            let mut caller = case.sidecar.caller().await;
            caller.send(post(10)).await;
            caller.send("01234").await;
            let mut first = case.upstream.accept().await;
            let head = first.head().await.expect("a head");
            first.expect("01234").await;
            let fields: &[_] = if closes {
                &[("connection", "close")]
            } else {
                &[]
            };
            first.send(answer(401, fields, "no")).await;
            if closes {
                first.finish().await;
            }
            let mut second = case.upstream.accept().await;
            let again = second.head().await.expect("a head");
            assert_ne!(head.get("authorization"), again.get("authorization"));
            second.expect("01234").await;
            // The first connection ends though its request never did.
            first.expect_end().await;
            caller.send("56789").await;
            second.expect("56789").await;
            second.send(ok("done")).await;
            assert_eq!(caller.answer().await.text(), "done");
            settle().await;
            assert_eq!(case.dialled(), 1, "the first connection is gone");
            caller.send(post(0)).await;
            second
                .request()
                .await
                .expect("the second one is used again");
            second.send(ok("again")).await;
            assert_eq!(caller.answer().await.text(), "again");
            assert_eq!(case.refreshes(), 2);
        }
    });
}

/// The first few pieces are kept as they came, and the others in one.
#[test]
fn a_replay_is_whole_in_however_many_pieces_the_body_came() {
    paused(async {
        for (before, after) in [(1, 40), (15, 40), (16, 40), (17, 1), (40, 40), (40, 0)] {
            let mut case = Case::new(&[]);
            let mut caller = case.sidecar.caller().await;
            let whole: Vec<u8> = (0..before + after).map(|at| b'0' + at).collect();
            let (early, late) = whole.split_at(usize::from(before));
            caller.send(post(whole.len())).await;
            let mut first = case.upstream.accept().await;
            first.head().await.expect("a head");
            for piece in early {
                caller.send([*piece]).await;
                first.expect([*piece]).await;
            }
            first.send(answer(401, &[], "no")).await;
            let mut second = case.upstream.accept().await;
            second.head().await.expect("a head");
            second.expect(early).await;
            for piece in late {
                caller.send([*piece]).await;
                second.expect([*piece]).await;
            }
            second.send(ok("done")).await;
            assert_eq!(caller.answer().await.text(), "done", "{before} {after}");
        }
    });
}

#[test]
fn a_connection_whose_upstream_stopped_reading_ends_with_the_replay() {
    paused(async {
        let mut case = Case::new(&["outbound.replay_body_limit=4MiB"]);
        let mut caller = case.sidecar.caller().await;
        let body = vec![b'x'; 1024 * 1024];
        caller.send(post(body.len())).await;
        let mut first = case.upstream.accept().await;
        first.head().await.expect("a head");
        let sent = body.clone();
        let uploading = spawn_local(async move {
            caller.send(sent).await;
            caller
        });
        // The pipes are full: nobody reads the body.
        tokio::time::sleep(Duration::from_secs(1)).await;
        first.send(unauthorized()).await;
        let mut second = case.upstream.accept().await;
        let request = second.request().await.expect("a request");
        assert!(request.body == body);
        second.send(ok("done")).await;
        let mut caller = uploading.await.expect("no panic");
        assert_eq!(caller.answer().await.text(), "done");
        settle().await;
        assert_eq!(case.dialled(), 1);
    });
}

#[test]
fn a_body_that_outgrows_the_limit_during_the_refresh_gets_the_401() {
    paused(async {
        let mut case = Case::new(&["outbound.replay_body_limit=8B"]);
        let mut caller = case.sidecar.caller().await;
        caller.send(post(12)).await;
        caller.send("0123").await;
        let mut above = case.upstream.accept().await;
        above.head().await.expect("a head");
        above.expect("0123").await;
        case.region
            .change(|settings| settings.latency = Duration::from_secs(3));
        above.send(unauthorized()).await;
        settle().await;
        caller.send("456789ab").await;
        above.expect("456789ab").await;
        assert_eq!(caller.answer().await.text(), "no");
        // The exchange is whole: both connections go on.
        caller.send(post(0)).await;
        above.request().await.expect("used again");
        above.send(ok("")).await;
        assert_eq!(caller.answer().await.status, 200);
        assert_eq!(case.refreshes(), 2);
    });
}

#[test]
fn a_region_that_is_away_leaves_the_401_as_it_is() {
    paused(async {
        for outage in [Outage::Refuse, Outage::Silent] {
            let case = Case::new(&["outbound.token_wait=5s"]);
            let region = case.region.clone();
            let recorder = case.upstream.serve(move |_| {
                region.down(outage);
                unauthorized()
            });
            let began = tokio::time::Instant::now();
            let answer = case.sidecar.get("/x").await;
            assert_eq!((answer.status, answer.text().as_str()), (401, "no"));
            assert!(began.elapsed() <= Duration::from_secs(5));
            assert_eq!(recorder.count(), 1);
            // Nor does it make later ones wait once it is known to be away.
            tokio::time::sleep(Duration::from_secs(10)).await;
            let began = tokio::time::Instant::now();
            assert_eq!(case.sidecar.get("/x").await.status, 401);
            assert!(began.elapsed() < Duration::from_secs(1), "{outage:?}");
        }
    });
}

#[test]
fn a_caller_that_leaves_cancels_no_refresh() {
    paused(async {
        let mut case = Case::new(&[]);
        let mut caller = case.sidecar.caller().await;
        caller
            .send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        case.region
            .change(|settings| settings.latency = Duration::from_secs(3));
        above.send(unauthorized()).await;
        settle().await;
        drop(caller);
        above.expect_end().await;
        let recorder = case.upstream.echo();
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(case.region.count(Kind::Refresh), 2);
        assert_eq!(case.sidecar.get("/x").await.status, 200);
        assert_eq!(recorder.count(), 1);
        assert_eq!(case.region.count(Kind::Refresh), 2);
    });
}

#[test]
fn a_replay_that_meets_nobody_is_a_502() {
    paused(async {
        let mut case = Case::new(&[]);
        let mut caller = case.sidecar.caller().await;
        caller.send(post(2)).await;
        caller.send("hi").await;
        let mut above = case.upstream.accept().await;
        above.request().await.expect("a request");
        drop(case.upstream);
        above
            .send(answer(401, &[("connection", "close")], "no"))
            .await;
        drop(above);
        let answer = caller.answer().await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.reason(), "upstream_unreachable");
    });
}

#[test]
fn a_token_in_a_file_that_nobody_refreshes_leaves_the_401_at_once() {
    paused(async {
        let world = World::pipes();
        let upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at).start();
        let recorder = upstream.serve(|_| unauthorized());
        let began = tokio::time::Instant::now();
        for _ in 0..3 {
            assert_eq!(sidecar.get("/x").await.status, 401);
        }
        assert!(began.elapsed() < Duration::from_secs(1));
        assert_eq!(recorder.count(), 3);
        // Whoever owns the file writes a new one.
        let next = access_token(&world.clock, "the-second");
        std::fs::write(sidecar.token_file(), &next).expect("a file");
        tokio::time::sleep(Duration::from_secs(10)).await;
        sidecar.get("/x").await;
        assert_eq!(bearer(&recorder.last()), format!("Bearer {next}"));
    });
}

#[test]
fn a_region_that_answers_a_forced_refresh_with_an_error_leaves_the_401_at_once() {
    paused(async {
        let case = Case::new(&[]);
        let region = case.region.clone();
        let _recorder = case.upstream.serve(move |_| {
            let busy = Fault::Status(503, "{}".to_owned(), Vec::new());
            region.fail_next_of(Kind::Refresh, 1, busy);
            unauthorized()
        });
        let began = tokio::time::Instant::now();
        assert_eq!(case.sidecar.get("/x").await.status, 401);
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}
