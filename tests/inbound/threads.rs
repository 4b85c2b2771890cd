//! Several data threads and a control plane of its own: each judges alike, and a reload holds on all
//! of them when it is answered.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;

use regent::telemetry::counters::Side;
use tokio::task::spawn_local;

use crate::forge::Forge;
use crate::gate::*;

#[test]
fn every_thread_judges_alike_and_a_reload_holds_on_all() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at).set("threads=2");
        let threads = setup.start_threads(workload.serve(say_identity));
        let gate = &threads.gate;
        let home = Forge::home(world.clock.unix());
        let good = get("/", &[("Authorization", &bearer(&home.token()))]);
        let forged = home.with_signature([0; 256]);
        let bad = get("/", &[("Authorization", &bearer(&forged))]);
        let busy = || {
            let threads = gate.remote.counters.iter();
            let side = threads.map(|counters| counters.of(Side::Inbound));
            side.filter(|side| side.requests[2].load(Relaxed) > 0)
                .count()
        };
        let mut callers = Vec::new();
        // Until both threads have some.
        while callers.len() < 20 || busy() < 2 {
            assert!(callers.len() < 1000, "one thread has them all");
            let mut caller = gate.caller().await;
            assert_eq!(caller.ask(&good).await.status, 200);
            assert_eq!(caller.ask(&bad).await.reason(), "bad_signature");
            assert_eq!(caller.ask(&get("/", &[])).await.reason(), "missing_token");
            callers.push(caller);
        }
        for _ in 0..5 {
            let admins = setup.clone();
            let admins = admins.rule("path = '/', claims = { role = ['admin'] }");
            gate.reload(&admins).await;
            let asked = callers.iter_mut().map(|caller| caller.ask(&good));
            for answer in asked {
                assert_eq!(answer.await.reason(), "claims_not_met");
            }
            gate.reload(&setup).await;
            for caller in &mut callers {
                assert_eq!(caller.ask(&good).await.status, 200);
            }
        }
        // All at once.
        let good = Rc::new(good);
        let mut running = Vec::new();
        for mut caller in callers {
            let good = Rc::clone(&good);
            running.push(spawn_local(async move {
                for _ in 0..20 {
                    assert_eq!(caller.ask(&good).await.status, 200);
                }
            }));
        }
        for caller in running {
            caller.await.expect("no refusal");
        }
    });
}
