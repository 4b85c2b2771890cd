//! Keys that are fetched: rotated, withdrawn, asked for too often, and not to be had (cases.md, C13
//! to C18, P01).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use regent::reason::Reason;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep};

use crate::gate::*;
use crate::issuer::{Issuer, fetched, new_key, signed, stranger};
use crate::signer::Signer;

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    world: World,
    gate: Gate,
}

fn start(issuer: &Issuer, refresh: &str, cooldown: &str, max_stale: &str) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let gate = Setup::new(&world, workload.at)
        .issuer("home", fetched(refresh, cooldown, max_stale))
        .fetch(issuer.service())
        .start(workload.serve(say_identity));
    Case { world, gate }
}

impl Case {
    fn with(&self, kid: &str, signer: &'static Signer) -> String {
        let forge = signed(self.world.clock.unix(), kid, signer);
        get("/", &[("Authorization", &bearer(&forge.token()))])
    }
}

#[test]
fn twenty_rotations_under_load_refuse_nobody_and_end_every_old_key() {
    paused(async {
        let mut keys = vec![("k0".to_owned(), new_key())];
        let issuer = Issuer::with(&[("k0", keys[0].1)]);
        let case = start(&issuer, "60s", "30s", "24h");
        sleep(SECOND).await;
        let request = Rc::new(RefCell::new(case.with("k0", keys[0].1)));
        let stop = Rc::new(Cell::new(false));
        let mut load = Vec::new();
        for at in 0..3 {
            let mut caller = case.gate.caller().await;
            let (request, stop) = (Rc::clone(&request), Rc::clone(&stop));
            load.push(spawn_local(async move {
                let mut count = 0;
                while !stop.get() {
                    let now = request.borrow().clone();
                    let answer = caller.ask(&now).await;
                    assert_eq!(answer.status, 200, "{answer:?}");
                    count += 1;
                    sleep(Duration::from_millis(900 + 70 * at)).await;
                }
                count
            }));
        }
        for round in 1..=20 {
            let (old_kid, old) = keys[round - 1].clone();
            let (kid, new) = (format!("k{round}"), new_key());
            keys.push((kid.clone(), new));
            issuer.publish(&[(&old_kid, old), (&kid, new)]);
            // Half of the issuers wait for caches to expire; half sign with it at once, which an
            // unknown `kid` bears within the cool-down.
            let overlap = if round % 2 == 0 { 61 } else { 31 };
            sleep(overlap * SECOND).await;
            let last = case.with(&old_kid, old);
            *request.borrow_mut() = case.with(&kid, new);
            sleep(2 * SECOND).await;
            assert_eq!(case.gate.ask(&last).await.status, 200);
            issuer.publish(&[(&kid, new)]);
            sleep(61 * SECOND).await;
            // Known as verified a minute ago, and as good as ever by its own words.
            assert_eq!(case.gate.ask(&last).await.reason(), "unknown_key");
        }
        stop.set(true);
        for load in load {
            assert!(load.await.expect("nobody was refused") > 1500);
        }
        assert_eq!(case.gate.refused_in_all(), 20);
        assert_eq!(case.gate.refused(Reason::UnknownKey), 20);
    });
}

#[test]
fn a_key_that_is_new_is_fetched_for_the_first_token_that_names_it() {
    paused(async {
        let (old, new) = (new_key(), new_key());
        let issuer = Issuer::with(&[("old", old)]);
        let case = start(&issuer, "1h", "30s", "24h");
        sleep(31 * SECOND).await;
        issuer.publish(&[("old", old), ("new", new)]);
        let calls = issuer.calls();
        let mut waiting = Vec::new();
        for _ in 0..50 {
            let mut caller = case.gate.caller().await;
            let request = case.with("new", new);
            waiting.push(spawn_local(
                async move { caller.ask(&request).await.status },
            ));
        }
        for request in waiting {
            assert_eq!(request.await.expect("no panic"), 200);
        }
        assert_eq!(issuer.calls(), calls + 1);
    });
}

#[test]
fn a_thousand_first_requests_cost_one_fetch() {
    paused(async {
        let key = new_key();
        let issuer = Issuer::with(&[("k", key)]);
        issuer.slow(2 * SECOND);
        let case = start(&issuer, "1h", "30s", "24h");
        let mut crowd = Vec::new();
        for at in 0..1_000 {
            let mut caller = case.gate.caller().await;
            let request = case.with("k", key);
            crowd.push(spawn_local(async move {
                // Before the fetch ends, while it ends, and after.
                sleep(Duration::from_millis(at * 3)).await;
                let answer = caller.ask(&request).await;
                match answer.status {
                    200 => true,
                    _ => {
                        assert_eq!(answer.reason(), "issuer_keys_unavailable");
                        assert!(answer.head.has("retry-after"));
                        false
                    }
                }
            }));
        }
        let mut passed = 0;
        for caller in crowd {
            passed += usize::from(caller.await.expect("no panic"));
        }
        assert!((300..=340).contains(&passed), "{passed}");
        assert_eq!(issuer.calls(), 1);
    });
}

#[test]
fn a_flood_of_unknown_kids_costs_one_fetch_in_a_cool_down_and_nobody_else_anything() {
    paused(async {
        let key = new_key();
        let issuer = Issuer::with(&[("k", key)]);
        let case = start(&issuer, "1h", "30s", "24h");
        sleep(31 * SECOND).await;
        issuer.slow(5 * SECOND);
        let calls = issuer.calls();
        let stop = Rc::new(Cell::new(false));
        let mut flood = Vec::new();
        for caller in 0..10 {
            let mut peer = case.gate.caller().await;
            let forge = signed(case.world.clock.unix(), "k", stranger());
            let stop = Rc::clone(&stop);
            flood.push(spawn_local(async move {
                let mut count = 0;
                while !stop.get() {
                    let token = forge.clone().header("kid", format!("{caller}-{count}"));
                    let value = bearer(&token.token());
                    let answer = peer.ask(&get("/", &[("Authorization", &value)])).await;
                    assert_eq!(answer.reason(), "unknown_key");
                    count += 1;
                    sleep(Duration::from_millis(100)).await;
                }
                count
            }));
        }
        let mut good = case.gate.caller().await;
        let began = Instant::now();
        let mut at = 0;
        while began.elapsed() < 90 * SECOND {
            // Some that are known, some that are not.
            let forge = signed(case.world.clock.unix(), "k", key).claim("jti", at / 2);
            let value = bearer(&forge.token());
            let asked = Instant::now();
            let answer = good.ask(&get("/", &[("Authorization", &value)])).await;
            assert_eq!(answer.status, 200);
            assert_eq!(asked.elapsed(), Duration::ZERO, "it waited for a fetch");
            at += 1;
            sleep(Duration::from_millis(250)).await;
        }
        stop.set(true);
        let mut refused = 0;
        for flood in flood {
            refused += flood.await.expect("no panic");
        }
        assert!(refused > 5_000, "{refused}");
        let fetches = issuer.calls() - calls;
        assert!((1..=4).contains(&fetches), "{fetches}");
        assert_eq!(case.gate.refused_in_all(), refused);
    });
}

#[test]
fn a_start_without_keys_says_so_and_recovers_by_itself() {
    paused(async {
        let key = new_key();
        let issuer = Issuer::with(&[("k", key)]);
        issuer.down(true);
        let case = start(&issuer, "5m", "30s", "24h");
        let request = case.with("k", key);
        sleep(SECOND).await;
        for _ in 0..3 {
            let answer = case
                .gate
                .refuses(&request, Reason::IssuerKeysUnavailable)
                .await;
            let retry: u64 = answer
                .head
                .get("retry-after")
                .and_then(|text| text.parse().ok())
                .expect("seconds");
            assert!((1..=120).contains(&retry), "{retry}");
            assert_eq!(case.gate.probe("/livez").await.0, 200);
            for probe in ["/startupz", "/readyz"] {
                let (status, said) = case.gate.probe(probe).await;
                assert_eq!(status, 503, "{probe}");
                assert_eq!(said["waiting_for"], serde_json::json!(["issuer_keys"]));
            }
            sleep(5 * SECOND).await;
        }
        // Who has no token is not told of our troubles.
        case.gate.refuses(get("/", &[]), Reason::MissingToken).await;
        issuer.down(false);
        let began = Instant::now();
        while case.gate.ask(&request).await.status != 200 {
            assert!(began.elapsed() < 130 * SECOND, "it does not come back");
            sleep(SECOND).await;
        }
        for probe in ["/startupz", "/readyz", "/livez"] {
            assert_eq!(case.gate.probe(probe).await.0, 200, "{probe}");
        }
    });
}

#[test]
fn keys_that_were_good_stay_in_use_up_to_their_limit() {
    paused(async {
        let key = new_key();
        let issuer = Issuer::with(&[("k", key)]);
        let case = start(&issuer, "10s", "30s", "120s");
        sleep(SECOND).await;
        case.gate.passes(case.with("k", key)).await;
        issuer.down(true);
        let began = Instant::now();
        let mut ended = None;
        while began.elapsed() < 200 * SECOND {
            let answer = case.gate.ask(case.with("k", key)).await;
            let (ready, said) = case.gate.probe("/readyz").await;
            match answer.status {
                200 => {
                    assert!(ended.is_none(), "it came back from the dead");
                    assert_eq!(ready, 200, "{said}");
                }
                _ => {
                    assert_eq!(answer.reason(), "issuer_keys_unavailable");
                    assert!(answer.head.has("retry-after"));
                    assert_eq!(ready, 503, "{said}");
                    ended.get_or_insert(began.elapsed());
                }
            }
            assert_eq!(case.gate.probe("/livez").await.0, 200);
            sleep(SECOND).await;
        }
        let ended = ended.expect("they grow too old");
        assert!(ended <= 120 * SECOND && ended > 105 * SECOND, "{ended:?}");
        issuer.down(false);
        sleep(121 * SECOND).await;
        case.gate.passes(case.with("k", key)).await;
        assert_eq!(case.gate.probe("/readyz").await.0, 200);
        assert_eq!(case.gate.probe("/startupz").await.0, 200);
    });
}

#[test]
fn a_set_that_says_the_same_again_voids_nothing() {
    paused(async {
        let key = new_key();
        let issuer = Issuer::with(&[("k", key)]);
        let case = start(&issuer, "10s", "30s", "24h");
        sleep(SECOND).await;
        let request = case.with("k", key);
        for _ in 0..20 {
            case.gate.passes(&request).await;
            sleep(10 * SECOND).await;
        }
        assert!(issuer.calls() >= 20, "{}", issuer.calls());
    });
}

#[test]
fn a_fetch_that_takes_long_is_no_unknown_key() {
    paused(async {
        let (old, new) = (new_key(), new_key());
        let issuer = Issuer::with(&[("old", old)]);
        let case = start(&issuer, "1h", "30s", "24h");
        sleep(31 * SECOND).await;
        issuer.publish(&[("old", old), ("new", new)]);
        issuer.slow(14 * SECOND);
        let answer = case.gate.ask(&case.with("new", new)).await;
        assert_eq!(
            (answer.status, answer.reason()),
            (503, "issuer_keys_unavailable")
        );
        assert!(answer.head.get("retry-after").is_some(), "{answer:?}");
        sleep(5 * SECOND).await;
        assert_eq!(case.gate.ask(&case.with("new", new)).await.status, 200);
    });
}

/// The keys that a caller waits for may be another plane's by the time that they come.
#[test]
fn a_reload_while_a_caller_waits_for_a_key_makes_it_no_unknown_one() {
    paused(async {
        let (old, new) = (new_key(), new_key());
        let issuer = Issuer::with(&[("old", old)]);
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let first = Setup::new(&world, workload.at)
            .issuer("home", fetched("1h", "30s", "24h"))
            .fetch(issuer.service());
        let second = first.clone().issuer("home", fetched("2h", "30s", "24h"));
        let gate = first.start(Rc::default());
        let case = Case {
            world: world.clone(),
            gate,
        };
        sleep(31 * SECOND).await;
        issuer.slow(3600 * SECOND);
        let mut caller = case.gate.caller().await;
        caller.send(case.with("new", new)).await;
        sleep(SECOND).await;
        case.gate.reload(&second).await;
        let answer = caller.answer().await;
        assert_eq!(
            (answer.status, answer.reason()),
            (503, "issuer_keys_unavailable")
        );
    });
}

#[test]
fn a_key_without_a_name_in_the_set_does_not_hide_that_a_kid_is_unknown() {
    paused(async {
        let (old, nameless, new) = (new_key(), new_key(), new_key());
        let issuer = Issuer::with(&[("old", old)]);
        issuer.publish_beside(nameless, &[("old", old)]);
        let case = start(&issuer, "1h", "30s", "24h");
        sleep(31 * SECOND).await;
        issuer.publish_beside(nameless, &[("old", old), ("new", new)]);
        assert_eq!(case.gate.ask(&case.with("new", new)).await.status, 200);
        assert_eq!(
            case.gate.ask(&case.with("any", nameless)).await.status,
            200,
            "a key without a name may have signed what names one"
        );
    });
}
