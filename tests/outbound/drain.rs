//! The way down (promise 9): what is in flight ends, nothing is cut before the deadline, and with
//! nothing in flight it is over at once.

use std::io::Write as _;
use std::time::Duration;

use regent::app::Exit;
use regent::lifecycle::Stage;
use regent::reason::Reason;
use tokio::time::Instant;

use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn start(world: &World, sets: &[&str]) -> (Upstream, Sidecar) {
    let upstream = Upstream::bind(world);
    let setup = Setup::new(world, upstream.at);
    let setup = sets.iter().fold(setup, |setup, set| setup.set(*set));
    let sidecar = setup.start();
    (upstream, sidecar)
}

#[test]
fn with_nothing_in_flight_it_is_over_at_once() {
    paused(async {
        let world = World::pipes();
        let (upstream, mut sidecar) = start(&world, &[]);
        let _recorder = upstream.echo();
        // One that was used, one that never was.
        let mut used = sidecar.caller().await;
        used.ask(GET).await;
        let mut fresh = sidecar.caller().await;
        settle().await;
        let began = Instant::now();
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(began.elapsed() < Duration::from_secs(1));
        used.expect_end().await;
        fresh.expect_end().await;
    });
}

#[test]
fn what_is_in_flight_ends_and_its_connection_with_it() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, mut sidecar) = start(&world, &[]);
        // One waits for its answer, one is in the middle of it, one still sends.
        let mut waiting = sidecar.caller().await;
        waiting.send(GET).await;
        let mut above_waiting = upstream.accept().await;
        above_waiting.request().await.expect("a request");
        let mut reading = sidecar.caller().await;
        reading.send(GET).await;
        let mut above_reading = upstream.accept().await;
        above_reading.request().await.expect("a request");
        above_reading
            .send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n01")
            .await;
        reading.head().await.expect("a head");
        let mut sending = sidecar.caller().await;
        sending
            .send("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n01")
            .await;
        let mut above_sending = upstream.accept().await;
        let head = above_sending.head().await.expect("a head");

        sidecar.drain();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(sidecar.is_running());
        above_reading.send("23").await;
        reading.expect("0123").await;
        reading.expect_end().await;
        sending.send("23").await;
        assert_eq!(above_sending.body(&head).await.0, b"0123");
        above_sending.send(ok("done")).await;
        let answer = sending.answer().await;
        assert_eq!(answer.head.get("connection"), Some("close"));
        assert_eq!(answer.text(), "done");
        sending.expect_end().await;
        assert!(sidecar.is_running());
        let began = Instant::now();
        above_waiting.send(ok("last")).await;
        let answer = waiting.answer().await;
        assert_eq!(answer.head.get("connection"), Some("close"));
        assert_eq!(answer.text(), "last");
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(began.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn for_the_delay_it_serves_on_and_asks_callers_to_leave() {
    real(async {
        let world = World::sockets();
        let (upstream, mut sidecar) = start(&world, &["drain.delay=1s"]);
        let recorder = upstream.echo();
        let mut old = sidecar.caller().await;
        assert!(!old.ask(GET).await.head.has("connection"));
        sidecar.drain();
        until(|| sidecar.remote.stop.stage() >= regent::lifecycle::Stage::Drain).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        for caller in [&mut old, &mut sidecar.caller().await] {
            let answer = caller.ask(GET).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.head.get("connection"), Some("close"));
            caller.expect_end().await;
        }
        assert_eq!(recorder.count(), 3);
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert!(world.net.connect(sidecar.at).await.is_err());
    });
}

#[test]
fn what_lasts_beyond_the_deadline_is_cut_and_not_before() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, mut sidecar) = start(&world, &["drain.timeout=7s"]);
        let mut caller = sidecar.caller().await;
        caller.send(GET).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        let began = Instant::now();
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        assert_eq!(began.elapsed().as_secs(), 7);
    });
}

/// The next head had begun to arrive: it is not what was too slow.
#[test]
fn nothing_is_written_into_an_answer_that_is_cut() {
    paused(async {
        let world = World::pipes();
        let (mut upstream, mut sidecar) = start(&world, &["drain.timeout=7s"]);
        let mut caller = sidecar.caller().await;
        caller.send(format!("{GET}GET /next HT")).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        above
            .send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun")
            .await;
        assert!(caller.head().await.expect("a head").line.contains("200"));
        caller.expect("begun").await;
        sidecar.drain();
        assert_eq!(sidecar.ended().await, Exit::Stopped);
        caller.expect_end().await;
        assert_eq!(sidecar.refused(Reason::Timeout), 0);
    });
}

#[test]
fn a_tunnel_is_in_flight_until_it_ends_or_the_deadline_does() {
    paused(async {
        for ends in [true, false] {
            let world = World::pipes();
            let (mut upstream, mut sidecar) = start(&world, &["drain.timeout=7s"]);
            let mut caller = sidecar.caller().await;
            caller
                .send("GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await;
            let mut above = upstream.accept().await;
            above.request().await.expect("a request");
            above
                .send("HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                .await;
            assert!(caller.head().await.expect("a head").line.contains("101"));
            let began = Instant::now();
            sidecar.drain();
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                caller.send("ping").await;
                above.expect("ping").await;
                above.send("pong").await;
                caller.expect("pong").await;
            }
            if ends {
                drop((caller, above));
            }
            assert_eq!(sidecar.ended().await, Exit::Stopped);
            assert_eq!(began.elapsed().as_secs(), if ends { 5 } else { 7 });
        }
    });
}

/// A connection, and its socket to be used without a turn of the runtime.
pub(crate) fn caller_at(at: std::net::SocketAddr) -> (Peer, std::net::TcpStream) {
    let socket = std::net::TcpStream::connect(at).expect("it listens");
    socket.set_nonblocking(true).expect("a socket");
    let shared = socket.try_clone().expect("a socket");
    let stream = tokio::net::TcpStream::from_std(socket).expect("a runtime");
    (Peer::new(regent::net::Io::Tcp(stream)), shared)
}

#[test]
fn a_request_in_the_socket_or_a_caller_in_the_queue_is_answered_not_reset() {
    real(async {
        let world = World::sockets();
        let (upstream, mut sidecar) = start(&world, &[]);
        let _recorder = upstream.echo();
        let mut callers = Vec::new();
        for at in 0..40 {
            let (mut peer, socket) = caller_at(sidecar.at);
            // Some have been used, some have only been accepted.
            if at % 2 == 0 {
                peer.ask(GET).await;
            }
            callers.push((peer, socket));
        }
        settle().await;
        // From here on the runtime gets no turn.
        callers.extend((0..200).map(|_| caller_at(sidecar.at)));
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
    });
}

#[test]
fn a_half_sent_head_on_a_used_connection_is_answered() {
    real(async {
        let world = World::sockets();
        let (upstream, mut sidecar) = start(&world, &[]);
        let _recorder = upstream.echo();
        let mut caller = sidecar.caller().await;
        caller.ask(GET).await;
        caller.send(&GET[..20]).await;
        // One whose first half came with the request before.
        let mut eager = sidecar.caller().await;
        eager.ask(&format!("{GET}{}", &GET[..20])).await;
        settle().await;
        sidecar.drain();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for mut caller in [caller, eager] {
            caller.send(&GET[20..]).await;
            assert_eq!(caller.answer().await.status, 200);
            caller.expect_end().await;
        }
        assert_eq!(sidecar.ended().await, Exit::Stopped);
    });
}

#[test]
fn no_request_of_a_load_fails_that_was_sent_before_the_close() {
    real(async {
        let world = World::sockets();
        for _ in 0..5 {
            let (upstream, mut sidecar) = start(&world, &[]);
            let _recorder = upstream.echo();
            let mut load = tokio::task::JoinSet::new();
            for at in 0..64 {
                let (mut peer, socket) = caller_at(sidecar.at);
                load.spawn_local(async move {
                    let mut answered = 0;
                    // Until it is closed: nobody else has a turn between the look and the sending.
                    while socket.peek(&mut [0]).is_err() {
                        (&socket).write_all(GET.as_bytes()).expect("room");
                        let answer = peer.answer().await;
                        assert_eq!(answer.status, 200);
                        answered += 1;
                        if answer.head.get("connection") == Some("close") {
                            break;
                        }
                        tokio::time::sleep(Duration::from_micros(100 * (at % 7))).await;
                    }
                    answered
                });
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
            sidecar.drain();
            let answered: u32 = load.join_all().await.into_iter().sum();
            assert!(answered > 64, "{answered}");
            assert_eq!(sidecar.ended().await, Exit::Stopped);
        }
    });
}
