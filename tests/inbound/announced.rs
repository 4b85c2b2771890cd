//! `inbound.proxy_protocol`: peers that say whom they speak for, before all else.

use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;
use regent::lifecycle::Stage;
use regent::net::Io;
use regent::reason::Reason;
use tokio::net::UnixStream;

use crate::announced_model;
use crate::gate::*;
use crate::kept::Kept;
use crate::seeds;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("short enough");
    let fixed = [version_command, family];
    [SIGNATURE, &fixed, &length.to_be_bytes(), rest].concat()
}

fn v2_of_192_0_2_7() -> Vec<u8> {
    v2(
        0x21,
        0x11,
        &[192, 0, 2, 7, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb, 4, 0, 2, 0, 0],
    )
}

/// Where peers of these networks announce.
fn start(world: &World, networks: &str) -> (Setup, Gate) {
    let workload = Upstream::bind(world);
    let setup = Setup::new(world, workload.at).line(&format!("proxy_protocol = {networks}"));
    let gate = setup.start(workload.serve(say_identity));
    (setup, gate)
}

fn good(gate: &Gate) -> String {
    get(
        "/x",
        &[("Authorization", &bearer(&token_of(&gate.world, "alice")))],
    )
}

/// The answer to a good request behind this header, and who called as the workload has it.
async fn behind(gate: &Gate, header: &[u8]) -> String {
    let request = [header, good(gate).as_bytes()].concat();
    let answer = gate.ask(request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = gate.workload.last();
    seen.head.get("x-forwarded-for").expect("told").to_owned()
}

#[test]
fn whoever_is_announced_is_the_caller() {
    for world in [World::sockets(), World::pipes()] {
        let run = async |world: World| {
            let (_, gate) = start(&world, "['127.0.0.0/8', '10.0.0.0/8']");
            assert_eq!(behind(&gate, V1).await, "192.0.2.7");
            assert_eq!(behind(&gate, &v2_of_192_0_2_7()).await, "192.0.2.7");
            let six = b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n";
            assert_eq!(behind(&gate, six).await, "2001:db8::7");
            let mapped = b"PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n";
            assert_eq!(behind(&gate, mapped).await, "192.0.2.7");
            // For all that comes over the connection, and behind what the caller says itself.
            let mut caller = gate.caller().await;
            caller.send(V1).await;
            for _ in 0..2 {
                let good = good(&gate);
                let (start, rest) = good.split_once("\r\n").expect("a line");
                let request = format!("{start}\r\nX-Forwarded-For: 198.51.100.1\r\n{rest}");
                assert_eq!(caller.ask(&request).await.status, 200);
                let told = gate.workload.last();
                let told = told.head.get("x-forwarded-for").map(str::to_owned);
                assert_eq!(told.as_deref(), Some("198.51.100.1, 192.0.2.7"));
            }
            assert_eq!(gate.refused_in_all(), 0);
        };
        match world.address().port() {
            0 => real(run(world)),
            _ => paused(run(world)),
        }
    }
}

#[test]
fn a_peer_of_a_unix_socket_announces_where_127_0_0_1_does() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("in.sock");
        let setup = Setup::new(&world, workload.at)
            .forward_auth()
            .set(&format!("inbound.listen=unix:{}", path.display()));
        let announcing = setup.clone().line("proxy_protocol = ['127.0.0.1']");
        let gate = announcing.start(workload.serve(say_identity));
        let ask = async |header: &[u8]| {
            let stream = UnixStream::connect(&path).await.expect("it listens");
            let mut caller = Peer::new(Io::Unix(stream));
            caller.send([header, good(&gate).as_bytes()].concat()).await;
            assert_eq!(caller.answer().await.status, 200);
            let seen = gate.workload.last().head;
            seen.get("x-forwarded-for").expect("told").to_owned()
        };
        assert_eq!(ask(V1).await, "192.0.2.7");
        assert_eq!(ask(&v2_of_192_0_2_7()).await, "192.0.2.7");
        gate.reload(&setup).await;
        assert_eq!(ask(b"").await, "127.0.0.1");
    });
}

#[test]
fn a_header_without_a_source_leaves_the_peer() {
    paused(async {
        let (_, gate) = start(&World::pipes(), "['127.0.0.1']");
        for header in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN 192.0.2.7 192.0.2.2 1 2\r\n".to_vec(),
            v2(0x20, 0x00, &[]),
            v2(0x20, 0x11, &[192, 0, 2, 7, 192, 0, 2, 2, 0, 1, 0, 2]),
            v2(0x21, 0x00, &[1, 2, 3]),
            v2(0x21, 0x31, &[b'/'; 216]),
        ] {
            assert_eq!(behind(&gate, &header).await, "127.0.0.1", "{header:?}");
        }
    });
}

#[test]
fn without_a_header_that_is_sound_a_connection_that_must_announce_is_closed_and_counted() {
    paused(async {
        let (_, gate) = start(&World::pipes(), "['127.0.0.1']");
        let good = good(&gate);
        for (turn, bytes) in (1..).zip([
            good.as_bytes(),
            b"PROXY TCP4 192.0.2.7 192.0.2.2 56324\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            &v2(0x21, 0x11, &[1, 2, 3]),
            &[&v2(0x21, 0x11, &[0; 0xffff])[..16], good.as_bytes()].concat(),
        ]) {
            let mut caller = gate.caller().await;
            caller.send(bytes).await;
            caller.expect_end().await;
            assert_eq!(gate.refused(Reason::BadRequest), turn, "{bytes:?}");
        }
        // A second header is no request.
        let twice = [V1, V1, good.as_bytes()].concat();
        let (log, _guard) = Kept::new();
        assert_eq!(gate.ask(twice).await.status, 400);
        assert_eq!(log.lines_with("a second PROXY protocol header came"), 1);
        // Cut short, by a peer that stays to hear what comes of it.
        let mut caller = gate.caller().await;
        caller.send(&V1[..20]).await;
        caller.finish().await;
        caller.expect_end().await;
        assert_eq!(gate.refused(Reason::BadRequest), 8);
        assert_eq!(gate.refused_in_all(), 8);
        assert_eq!(gate.workload.connections.get(), 0);
        // Whoever says nothing at all only looked whether the port is open.
        drop(gate.caller().await);
        settle().await;
        assert_eq!(gate.counted(|side| &side.connections), 0);
        assert_eq!(gate.refused_in_all(), 8);
    });
}

#[test]
fn from_all_others_a_header_is_a_bad_request() {
    paused(async {
        let (_, gate) = start(&World::pipes(), "['10.0.0.0/8', '::1', '128.0.0.0/1']");
        for header in [V1.to_vec(), v2_of_192_0_2_7(), v2(0x20, 0, &[])] {
            let request = [&header, good(&gate).as_bytes()].concat();
            assert_eq!(gate.ask(request).await.status, 400, "{header:?}");
        }
        assert_eq!(gate.refused(Reason::BadRequest), 3);
        assert_eq!(gate.workload.count(), 0);
        assert_eq!(behind(&gate, b"").await, "127.0.0.1");
    });
}

#[test]
fn a_header_or_tls_that_is_not_expected_is_said_with_the_next_step() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at)
            .forward_auth()
            .line("proxy_protocol = ['10.0.0.0/8']");
        let gate = setup.start(workload.serve(say_identity));
        let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
        let header = "which inbound.listen alone takes";
        for (bytes, here, there) in [
            (V1.to_vec(), "name it in inbound.proxy_protocol", header),
            (
                v2_of_192_0_2_7(),
                "name it in inbound.proxy_protocol",
                header,
            ),
            (
                tls,
                "http://, or set inbound.tls",
                "speaks TLS; call it with http:// ",
            ),
        ] {
            let asked = get("/verify", &[]);
            for (listener, next) in [("inbound", here), ("inbound.forward_auth", there)] {
                let (log, _guard) = Kept::new();
                let mut caller = match listener {
                    "inbound" => gate.caller().await,
                    _ => gate.asker().await,
                };
                caller.send([&bytes, asked.as_bytes()].concat()).await;
                assert_eq!(caller.answer().await.status, 400);
                caller.expect_end().await;
                let said = log.text();
                let mut lines = said.lines().filter(|line| line.contains(" INFO "));
                let line = lines.next().unwrap_or_default();
                for part in [
                    next,
                    &format!("listener=\"{listener}.listen\""),
                    "reason=\"bad_request\"",
                    "peer=\"127.0.0.1\"",
                ] {
                    assert!(line.contains(part), "{part}: {said}");
                }
                assert_eq!(lines.next(), None);
            }
        }
        assert_eq!(gate.refused(Reason::BadRequest), 6);
        assert_eq!(gate.refused_in_all(), 6);
    });
}

#[test]
fn a_header_has_the_time_of_a_head_and_holds_up_nobody() {
    paused(async {
        let (_, gate) = start(&World::pipes(), "['127.0.0.1']");
        let second = Duration::from_secs(1);
        let (mut slow, mut slower) = (gate.caller().await, gate.caller().await);
        let mut silent = gate.caller().await;
        for (at, byte) in V1.iter().enumerate() {
            slow.send([*byte]).await;
            // The last one comes after 10 s.
            let late = at + 1 < V1.len();
            if late {
                slower.send([*byte]).await;
            }
            tokio::time::sleep(second / 5).await;
            assert_eq!(behind(&gate, V1).await, "192.0.2.7");
        }
        assert_eq!(slow.ask(&good(&gate)).await.status, 200);
        assert_eq!(gate.refused(Reason::Timeout), 0);
        tokio::time::sleep(3 * second).await;
        slower.expect_end().await;
        silent.expect_end().await;
        assert_eq!(gate.refused(Reason::Timeout), 2);
        assert_eq!(gate.refused_in_all(), 2);
    });
}

#[test]
fn who_has_announced_nothing_holds_up_no_drain_and_who_has_is_answered() {
    paused(async {
        let (_, gate) = start(&World::pipes(), "['127.0.0.1']");
        let mut silent = gate.caller().await;
        let (mut begun, mut idle) = (gate.caller().await, gate.caller().await);
        begun.send(&V1[..10]).await;
        idle.send(V1).await;
        settle().await;
        gate.remote.stop.advance(Stage::Drain);
        let began = tokio::time::Instant::now();
        silent.expect_end().await;
        idle.expect_end().await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        begun
            .send([&V1[10..], good(&gate).as_bytes()].concat())
            .await;
        let answer = begun.answer().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.head.get("connection"), Some("close"));
        assert_eq!(gate.refused_in_all(), 0);
    });
}

#[test]
fn a_reload_changes_who_announces() {
    paused(async {
        let (setup, gate) = start(&World::pipes(), "['127.0.0.1']");
        let off = setup.clone().set("inbound.proxy_protocol=[]");
        // A connection that is open stays what it is.
        let mut caller = gate.caller().await;
        caller.send(V1).await;
        assert_eq!(caller.ask(&good(&gate)).await.status, 200);
        gate.reload(&off).await;
        assert_eq!(behind(&gate, b"").await, "127.0.0.1");
        assert_eq!(caller.ask(&good(&gate)).await.status, 200);
        let told = gate.workload.last();
        assert_eq!(told.head.get("x-forwarded-for"), Some("192.0.2.7"));
        gate.reload(&setup).await;
        assert_eq!(behind(&gate, V1).await, "192.0.2.7");
    });
}

/// nginx, Traefik and Envoy ask by plain HTTP, from wherever they are.
#[test]
fn a_proxy_that_asks_announces_nobody() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at)
            .forward_auth()
            .line("proxy_protocol = ['127.0.0.1']");
        let gate = setup.start(Rc::default());
        let mut asker = gate.asker().await;
        let value = bearer(&token_of(&world, "alice"));
        let fields = [
            ("Authorization", &*value),
            ("X-Original-URI", "/x"),
            ("X-Original-Method", "GET"),
        ];
        assert_eq!(asker.ask(&get("/verify", &fields)).await.status, 200);
    });
}

proptest! {
    #[test]
    fn a_second_reading_takes_the_same_headers(
        start in prop::sample::select(vec![
            &b""[..], b"PROXY ", b"PROXY TCP4 1.1.1.1 ", b"PROXY TCP6 ::1 ", b"PROXY UNKNOWN", SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24",
        ]),
        rest in prop::collection::vec(prop_oneof![
            any::<u8>(), prop::sample::select(b" .:1290af\r\n".to_vec()),
        ], 0..250),
        end in prop::sample::select(vec![&b""[..], b"\r\n", b" 1 2\r\n", b"\n"]),
    ) {
        announced_model::judge(&[start, &rest, end].concat());
    }

    #[test]
    fn a_second_reading_takes_what_is_nearly_right(
        header in prop::sample::select(vec![V1.to_vec(), v2_of_192_0_2_7(), b"PROXY TCP6 ::1 ::2 1 2\r\n".to_vec()]),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        is_insert in any::<bool>(),
    ) {
        let mut bytes = header;
        let at = at.index(bytes.len());
        match is_insert {
            true => bytes.insert(at, byte),
            false => bytes[at] = byte,
        }
        announced_model::judge(&bytes);
    }
}

#[test]
fn every_seed_of_the_fuzz_target_passes() {
    seeds::each("announced", announced_model::judge);
}
