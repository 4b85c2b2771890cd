//! Both sides in one process: two listeners, two kinds of token, and neither meets the other.

use std::net::SocketAddr;
use std::rc::Rc;

use regent::reason::Reason;

use crate::forge::Forge;
use crate::gate::*;

struct Case {
    gate: Gate,
    outbound: SocketAddr,
    region: Rc<Recorder>,
    /// What outbound sends.
    token: String,
    home: Forge,
}

/// `None`: outbound leads back to the inbound side of the same process.
fn case(with_region: bool) -> Case {
    let world = World::pipes();
    let (workload, region) = (Upstream::bind(&world), Upstream::bind(&world));
    let home = Forge::home(world.clock.unix());
    let token = home.clone().claim("jti", "outbound").token();
    let setup = Setup::new(&world, workload.at);
    let file = setup.file("token", &token);
    let outbound = world.address();
    let upstream = match with_region {
        true => region.at.to_string(),
        false => setup.listen().to_owned(),
    };
    let gate = setup
        .set(&format!(
            "region.credential.access_token_file={}",
            file.display()
        ))
        .set(&format!("outbound.listen={outbound}"))
        .set(&format!("outbound.upstream=http://{upstream}"))
        .start(workload.serve(say_identity));
    Case {
        gate,
        outbound,
        region: region.echo(),
        token,
        home,
    }
}

impl Case {
    async fn call_out(&self, fields: &str) -> Answer {
        let mut caller = self.gate.world.connect(self.outbound).await;
        let request = format!("GET /out HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        caller.ask(&request).await
    }
}

#[test]
fn each_side_forwards_to_its_own_with_its_own() {
    paused(async {
        let case = case(true);
        for _ in 0..3 {
            assert_eq!(case.call_out("").await.status, 200);
            let seen = case.region.last().head;
            assert_eq!(seen.get("authorization"), Some(&*bearer(&case.token)));
            assert!(identity(&seen).is_empty());
            let theirs = bearer(&case.home.token());
            let request = get("/in", &[("Authorization", &theirs)]);
            let seen = case.gate.passes(request).await.head;
            assert!(!seen.has("authorization"));
            assert_eq!(identity(&seen), alice());
        }
        assert_eq!((case.region.count(), case.gate.workload.count()), (3, 3));
        // Inbound, nobody is lent our own token.
        case.gate
            .refuses(get("/in", &[]), Reason::MissingToken)
            .await;
    });
}

#[test]
fn outbound_may_lead_to_inbound_of_the_same_process_and_is_no_loop() {
    paused(async {
        let case = case(false);
        let answer = case.call_out("X-Regent-User: mallory\r\n").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = case.gate.workload.last().head;
        assert_eq!(identity(&seen), alice());
        assert_eq!(seen.all("x-regent-hop").len(), 2);
        assert!(!seen.has("authorization"));
        assert_eq!(case.region.count(), 0);
    });
}
