//! The verifier's table of bad tokens, each sent to a listener, and its good twin after it.

use regent::reason::Reason;

use crate::cases;
use crate::gate::*;
use crate::issuer::Issuer;
use crate::world::entries;

#[test]
fn every_bad_token_is_refused_at_the_door_and_its_twin_passes() {
    paused(async {
        // Some signatures are verified on a thread of its own, which paused time would run past.
        let still = stand_still();
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let issuer = Issuer::with(&[]);
        issuer.down(true);
        let mut setup = Setup::bare(&world, &format!("http://{}", workload.at))
            .set("limits.header_bytes=128KiB")
            .fetch(issuer.service());
        for entry in entries() {
            setup = setup.entry(&entry);
        }
        let gate = setup.start(workload.serve(say_identity));
        let mut sent = 0;
        for case in cases::all(world.clock.unix()) {
            // Spaces around a field's value and the end of its line are not part of it.
            if case.token.trim_end_matches("\r\n").trim_matches(' ') == case.twin {
                continue;
            }
            let attack = get("/", &[("Authorization", &bearer(&case.token))]);
            if case.token.chars().any(|char| char.is_ascii_control()) {
                // No field's value at all: the request does not get so far.
                let before = gate.workload.bytes.get();
                let answer = gate.ask(attack).await;
                assert!([400, 401].contains(&answer.status), "{}", case.name);
                assert_eq!(gate.workload.bytes.get(), before, "{}", case.name);
            } else {
                let reason = match case.token.contains(',') {
                    // One field with a comma may be two that were joined.
                    true => Reason::MultipleTokens,
                    false => case.reason,
                };
                let answer = gate.refuses(attack, reason).await;
                let may_retry = reason == Reason::IssuerKeysUnavailable;
                assert_eq!(answer.head.has("retry-after"), may_retry, "{}", case.name);
                sent += 1;
            }
            let twin = get("/", &[("Authorization", &bearer(&case.twin))]);
            gate.passes(twin).await;
        }
        assert!(sent >= 150, "{sent}");
        drop(still);
    });
}
