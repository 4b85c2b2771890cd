//! Forged tokens in numbers: each costs a signature, and none costs a verified caller anything.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use regent::reason::Reason;
use tokio::task::spawn_local;

use crate::forge::Forge;
use crate::gate::*;
use crate::issuer::{Issuer, fetched, new_key, signed};
use crate::world::HOME;

#[test]
fn a_flood_of_forged_tokens_does_not_touch_verified_callers() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let gate = Setup::new(&world, workload.at).start(workload.serve(say_identity));
        let home = Forge::home(world.clock.unix());
        let good = get("/", &[("Authorization", &bearer(&home.token()))]);
        gate.passes(&good).await;
        let stop = Rc::new(Cell::new(false));
        let mut flood = Vec::new();
        for caller in 0..50_u8 {
            let mut peer = gate.caller().await;
            let (home, stop) = (home.clone(), Rc::clone(&stop));
            flood.push(spawn_local(async move {
                let mut count = 0_u64;
                while !stop.get() {
                    let mut signature = [caller; 256];
                    signature[..8].copy_from_slice(&count.to_be_bytes());
                    let token = home.with_signature(signature);
                    let value = bearer(&token);
                    let answer = peer.ask(&get("/", &[("Authorization", &value)])).await;
                    assert_eq!(answer.reason(), "bad_signature");
                    count += 1;
                }
                count
            }));
        }
        let mut callers = Vec::new();
        let before = gate.refused(Reason::BadSignature);
        for _ in 0..10 {
            let mut peer = gate.caller().await;
            let good = good.clone();
            callers.push(spawn_local(async move {
                for _ in 0..100 {
                    assert_eq!(peer.ask(&good).await.status, 200);
                }
            }));
        }
        for caller in callers {
            caller.await.expect("nobody is refused");
        }
        // Few signatures in a turn of the loop, and a request of a known token takes few turns.
        let meanwhile = gate.refused(Reason::BadSignature) - before;
        assert!(
            meanwhile < 2_000,
            "{meanwhile} signatures for 1,000 requests"
        );
        // Somebody new gets a turn too.
        let newcomer = home.clone().claim("jti", "new").token();
        let answer = gate.get("/", &newcomer).await;
        assert_eq!(answer.status, 200);
        stop.set(true);
        let mut forged = 0;
        for caller in flood {
            forged += caller.await.expect("no panic");
        }
        assert!(forged > 50, "{forged}");
        assert_eq!(gate.refused(Reason::BadSignature), forged);
        assert_eq!(gate.refused_in_all(), forged);
        assert_eq!(gate.workload.count(), 1002);
    });
}

#[test]
fn too_many_that_wait_for_a_signature_are_told_that_it_is_too_much() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let gate = Setup::new(&world, workload.at).start(workload.serve(say_identity));
        let home = Forge::home(world.clock.unix());
        let good = get("/", &[("Authorization", &bearer(&home.token()))]);
        gate.passes(&good).await;
        let mut peers = Vec::new();
        for _ in 0..1200 {
            peers.push(gate.caller().await);
        }
        let mut known = gate.caller().await;
        settle().await;
        // All at once, and a caller that is known after them.
        for (at, peer) in peers.iter_mut().enumerate() {
            let mut signature = [0; 256];
            signature[..8].copy_from_slice(&at.to_be_bytes());
            let value = bearer(&home.with_signature(signature));
            peer.send(get("/", &[("Authorization", &value)])).await;
        }
        assert_eq!(known.ask(&good).await.status, 200);
        let (mut forged, mut overloaded) = (0, 0);
        for peer in &mut peers {
            let answer = peer.answer().await;
            match answer.reason() {
                "bad_signature" => forged += 1,
                "overloaded" => {
                    assert_eq!(answer.status, 503);
                    assert_eq!(answer.head.get("retry-after"), Some("1"));
                    overloaded += 1;
                }
                other => panic!("{other}"),
            }
        }
        assert!(forged >= 1024 && overloaded > 0, "{forged} {overloaded}");
        assert_eq!(gate.refused(Reason::Overloaded), overloaded);
        assert_eq!(gate.workload.count(), 2);
        gate.passes(&good).await;
    });
}

#[test]
fn callers_who_wait_for_one_issuers_keys_take_no_place_from_another_issuers() {
    paused(async {
        let (key, new, theirs) = (new_key(), new_key(), new_key());
        let home = Issuer::with(&[("k", key)]);
        let other = Issuer::with(&[("k", theirs)]);
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let keys = fetched("1h", "30s", "24h");
        let gate = Setup::new(&world, workload.at)
            .issuer("home", keys.clone())
            .issuer(
                "other",
                keys.replace(HOME, "other").replace("/jwks", "/other"),
            )
            .fetch(home.beside(&other))
            .start(workload.serve(say_identity));
        tokio::time::sleep(Duration::from_secs(31)).await;
        let now = world.clock.unix();
        let with = |forge: Forge| get("/", &[("Authorization", &bearer(&forge.token()))]);
        let of_other = |kid: &str| signed(now, kid, theirs).claim("iss", "other");
        gate.passes(with(of_other("k"))).await;
        other.slow(Duration::from_secs(3600));
        home.publish(&[("k", key), ("new", new)]);
        let began = tokio::time::Instant::now();
        let mut waiting = Vec::new();
        for at in 0..1100 {
            let mut peer = gate.caller().await;
            peer.send(with(of_other(&format!("unknown-{at}")))).await;
            waiting.push(peer);
            settle().await;
        }
        // Those whose verdict waits for nothing, and those who need a fetch of their own.
        gate.passes(with(of_other("k").claim("jti", "another")))
            .await;
        gate.passes(with(signed(now, "k", key))).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        let answer = gate.ask(with(signed(now, "new", new))).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{:?}",
            began.elapsed()
        );
        let (mut unavailable, mut overloaded) = (0, 0);
        for peer in &mut waiting {
            let answer = peer.answer().await;
            assert_eq!(answer.status, 503);
            match answer.reason() {
                "issuer_keys_unavailable" => unavailable += 1,
                "overloaded" => overloaded += 1,
                other => panic!("{other}"),
            }
        }
        assert_eq!(
            (unavailable, overloaded),
            (1024, 76),
            "what waits is bounded"
        );
        assert_eq!(gate.workload.count(), 4);
    });
}

#[test]
fn whatever_callers_say_makes_no_series_of_metrics() {
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let gate = Setup::new(&world, workload.at).start(workload.serve(say_identity));
        let home = Forge::home(world.clock.unix());
        let mut caller = gate.caller().await;
        let mut word = {
            let mut dice = fastrand::Rng::with_seed(1);
            move || -> String { (0..12).map(|_| dice.uppercase()).collect() }
        };
        let mut round = async || {
            let unsigned = |forge: Forge| bearer(&forge.with_signature([7; 256]));
            let tokens = [
                bearer(&home.token()),
                unsigned(home.clone()),
                unsigned(home.clone().header("kid", word())),
                unsigned(home.clone().claim("iss", word())),
                unsigned(home.clone().header("alg", word())),
                bearer(&word()),
                word(),
            ];
            for token in tokens {
                let (method, path, host) = (word(), word(), word());
                let head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}.example\r\n");
                let request = format!("{head}Authorization: {token}\r\nX-{path}: {method}\r\n\r\n");
                caller.ask(&request).await;
            }
        };
        let series = async || {
            let metrics = gate.admin("/metrics").await.text();
            let samples = metrics.lines().filter(|line| !line.starts_with('#'));
            let names = samples.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        round().await;
        let before = series().await;
        for _ in 0..500 {
            round().await;
        }
        assert_eq!(series().await, before);
        assert_eq!(gate.refused(Reason::UnknownIssuer), 501);
    });
}
