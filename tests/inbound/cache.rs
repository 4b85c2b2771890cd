//! Verdicts that are kept: for one token each, and never past its end (cases.md, group F).

use std::time::Duration;

use regent::reason::Reason;
use tokio::task::spawn_local;

use crate::forge::Forge;
use crate::gate::*;

/// Requests over all connections: 100,000 where this is set when the test is built.
const REQUESTS: usize = match option_env!("REGENT_TEST_LONG") {
    Some(_) => 100_000,
    None => 6_000,
};

fn gate(world: &World, change: impl FnOnce(Setup) -> Setup) -> Gate {
    let workload = Upstream::bind(world);
    let setup = change(Setup::new(world, workload.at));
    setup.start(workload.serve(say_identity))
}

#[test]
fn a_known_token_ends_when_it_says() {
    paused(async {
        let world = World::pipes();
        let gate = gate(&world, |setup| setup);
        let now = world.clock.unix();
        let token = Forge::home(now).claim("exp", now + 5).token();
        let ends = (now + 5 + 30) * 1000;
        let mut caller = gate.caller().await;
        let request = get("/", &[("Authorization", &bearer(&token))]);
        let mut last = 0;
        while world.clock.unix_ms() < ends + 2000 {
            let at = world.clock.unix_ms();
            let answer = caller.ask(&request).await;
            match answer.status {
                200 => last = at,
                _ => assert_eq!((answer.reason(), at >= ends), ("expired", true), "{at}"),
            }
            assert_eq!(at < ends, answer.status == 200, "{} ms", at - ends);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(last, ends - 100);
    });
}

#[test]
fn a_clock_that_is_set_right_ends_it_too() {
    paused(async {
        let world = World::pipes();
        let gate = gate(&world, |setup| setup);
        let token = token_of(&world, "alice");
        let request = get("/", &[("Authorization", &bearer(&token))]);
        gate.passes(&request).await;
        world.clock.shift_wall(329);
        gate.passes(&request).await;
        world.clock.shift_wall(1);
        gate.refuses(&request, Reason::Expired).await;
        world.clock.suspend(Duration::from_secs(1));
        gate.refuses(&request, Reason::Expired).await;
    });
}

#[test]
fn only_the_very_token_that_was_verified_is_known() {
    paused(async {
        let world = World::pipes();
        let gate = gate(&world, |setup| setup);
        let genuine = Forge::home(world.clock.unix());
        let other = genuine.clone().claim("username", "bob");
        let whole = genuine.sign(&genuine.input());
        let [first, second] = [genuine.token(), other.token()];
        for token in [&first, &second] {
            gate.passes(get("/", &[("Authorization", &bearer(token))]))
                .await;
        }
        let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
        let (one, two) = (parts(&first), parts(&second));
        let flip = |part: &str, at: usize| {
            let mut bytes = part.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).expect("ASCII")
        };
        let middle = |part: &str| flip(part, part.len() / 2);
        let bad = [
            // Header and payload of one, signature of the other.
            (
                format!("{}.{}.{}", one[0], one[1], two[2]),
                Reason::BadSignature,
            ),
            (
                format!("{}.{}.{}", two[0], two[1], one[2]),
                Reason::BadSignature,
            ),
            // The first and last 64 bytes are the same.
            (
                format!("{}.{}.{}", one[0], one[1], middle(&one[2])),
                Reason::BadSignature,
            ),
            (
                format!(
                    "{}.{}",
                    genuine.clone().claim("username", "alicf").input(),
                    one[2]
                ),
                Reason::BadSignature,
            ),
            // A prefix, and more behind it.
            (format!("{first}AAAA"), Reason::BadSignature),
            (genuine.with_signature(&whole[..253]), Reason::BadSignature),
            (format!("{first}.{}", one[2]), Reason::MalformedToken),
        ];
        for (token, reason) in bad {
            for _ in 0..2 {
                let attack = get("/", &[("Authorization", &bearer(&token))]);
                gate.refuses(attack, reason).await;
            }
        }
        let seen = gate.passes(get("/", &[("Authorization", &bearer(&second))]));
        assert_eq!(seen.await.head.get("x-regent-user"), Some("bob"));
    });
}

#[test]
fn a_verdict_is_not_a_rule_that_was_met_elsewhere() {
    paused(async {
        let world = World::pipes();
        let gate = gate(&world, |setup| {
            setup
                .rule("path = '/users', claims = { role = ['user'] }")
                .rule("path = '/admin', claims = { role = ['admin'] }")
                .rule("path = '/open', anonymous = true")
        });
        let value = bearer(&token_of(&world, "alice"));
        let mut caller = gate.caller().await;
        for _ in 0..3 {
            for (path, status) in [
                ("/users", 200),
                ("/admin", 403),
                ("/open", 200),
                ("/else", 200),
                ("/admin/x", 403),
            ] {
                let answer = caller.ask(&get(path, &[("Authorization", &value)])).await;
                assert_eq!(answer.status, status, "{path}");
            }
        }
    });
}

#[test]
fn of_many_users_over_few_connections_each_arrives_as_itself() {
    let (users, connections) = (50, 20);
    paused(async {
        let world = World::pipes();
        let gate = gate(&world, |setup| {
            setup.rule("path = '/open', anonymous = true")
        });
        let users: std::rc::Rc<Vec<(String, String)>> = std::rc::Rc::new(
            (0..users)
                .map(|at| format!("user-{at}"))
                .map(|user| (bearer(&token_of(&world, &user)), user))
                .collect(),
        );
        let mut running = Vec::new();
        for seed in 0..connections {
            let mut caller = gate.caller().await;
            let users = std::rc::Rc::clone(&users);
            running.push(spawn_local(async move {
                let mut dice = fastrand::Rng::with_seed(seed);
                for _ in 0..REQUESTS / 20 {
                    let (value, user) = &users[dice.usize(..users.len())];
                    let token = ("Authorization", &**value);
                    let (request, expected) = match dice.u8(..10) {
                        0 => (get("/", &[]), None),
                        1 => (get("/open", &[]), Some(String::new())),
                        2 => {
                            let spoof = ("X-Regent-User", "user-0");
                            (get("/open", &[spoof]), Some(String::new()))
                        }
                        _ => {
                            let spoof = ("X_Regent_User", "user-0");
                            let told = format!(
                                "x-regent-issuer=home x-regent-user={user} x-regent-user-id=1"
                            );
                            (get("/", &[spoof, token]), Some(told))
                        }
                    };
                    let answer = caller.ask(&request).await;
                    match expected {
                        None => assert_eq!(answer.status, 401),
                        Some(told) => assert_eq!((answer.status, answer.text()), (200, told)),
                    }
                }
            }));
        }
        for caller in running {
            caller.await.expect("no mix-up");
        }
        assert_eq!(
            gate.workload.count() as u64 + gate.refused_in_all(),
            REQUESTS as u64
        );
        assert!(gate.workload.count() > REQUESTS / 2);
    });
}
