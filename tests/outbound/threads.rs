//! Several data threads with one acceptor before them: caps and the way down are those of one.

use std::io::Write as _;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use regent::app::Exit;
use regent::lifecycle::Stage;
use regent::telemetry::counters::Side;
use tokio::time::Instant;

use super::drain::caller_at;
use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn start(world: &World, sets: &[&str]) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at).set("threads=4");
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    let sidecar = setup.start();
    (upstream, sidecar)
}

/// The connections of each thread.
fn open(sidecar: &Sidecar) -> Vec<u64> {
    let threads = sidecar.remote.counters.iter();
    let sides = threads.map(|counters| counters.of(Side::Outbound));
    sides.map(|side| side.connections.load(Relaxed)).collect()
}

#[test]
fn connections_go_to_the_thread_that_has_the_fewest() {
    paused(async {
        let world = World::pipes();
        let (upstream, sidecar) = start(&world, &[]);
        let recorder = upstream.echo();
        let mut callers = Vec::new();
        for _ in 0..8 {
            let mut caller = sidecar.caller().await;
            assert_eq!(caller.ask(GET).await.status, 200);
            callers.push(caller);
        }
        assert_eq!(open(&sidecar), [2; 4]);
        // The second and the sixth were neighbours.
        drop((callers.remove(5), callers.remove(1)));
        settle().await;
        let mut left = open(&sidecar);
        left.sort_unstable();
        assert_eq!(left, [0, 2, 2, 2]);
        for _ in 0..2 {
            callers.push(sidecar.caller().await);
        }
        settle().await;
        assert_eq!(open(&sidecar), [2; 4]);
        assert_eq!(recorder.count(), 8);
    });
}

#[test]
fn the_cap_is_that_of_the_listener_over_all_threads() {
    real(async {
        let world = World::sockets();
        let (upstream, sidecar) = start(&world, &["limits.connections=6"]);
        let _recorder = upstream.echo();
        let mut callers = Vec::new();
        for _ in 0..10 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            callers.push(caller);
        }
        for caller in &mut callers[..6] {
            assert_eq!(caller.answer().await.status, 200);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(open(&sidecar).iter().sum::<u64>(), 6);
        for at in 6..10 {
            drop(callers.remove(0));
            let served = &mut callers[5];
            assert_eq!(served.answer().await.status, 200, "{at}");
        }
    });
}

#[test]
fn with_nothing_in_flight_all_threads_end_at_once() {
    paused(async {
        let world = World::pipes();
        let (upstream, mut sidecar) = start(&world, &[]);
        let _recorder = upstream.echo();
        let mut callers = Vec::new();
        for _ in 0..4 {
            let mut caller = sidecar.caller().await;
            caller.ask(GET).await;
            callers.push(caller);
        }
        let began = Instant::now();
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn who_stands_in_the_queue_at_the_drain_is_served() {
    real(async {
        let world = World::sockets();
        let (upstream, mut sidecar) = start(&world, &[]);
        let recorder = upstream.echo();
        sidecar.ask(GET).await;
        // The runtime gets no turn: nobody has accepted any of them when the end comes.
        let mut callers: Vec<_> = (0..100).map(|_| caller_at(sidecar.at)).collect();
        for (_, socket) in &mut callers {
            socket.write_all(GET.as_bytes()).expect("room");
        }
        sidecar.remote.stop.advance(Stage::Finish);
        for (peer, _) in &mut callers {
            let answer = peer.answer().await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.head.get("connection"), Some("close"));
            peer.expect_end().await;
        }
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert_eq!(recorder.count(), 101);
    });
}
