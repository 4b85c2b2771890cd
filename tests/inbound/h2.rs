//! A workload that speaks HTTP/2, without TLS: a gRPC server, as a rule.

use std::rc::Rc;

use http::{HeaderValue, Response, Version};
use regent::config::Listen;
use regent::net::{Listener, Net as _, System};
use regent::reason::Reason;

use crate::forge::Forge;
use crate::frames::*;
use crate::gate::*;
use crate::h2_server::{connection, serve};

const H2C: &str = "upstream_protocol = 'h2c'";

fn fine(asked: crate::h2_server::Asked<'_>) {
    asked.answer(Response::new(()), "fine");
}

#[test]
fn the_workload_is_asked_with_the_callers_host_and_the_identity() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at).line(H2C);
        let gate = setup.start(Rc::default());
        let seen = serve(workload, fine);
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let more = [("Authorization", &*good), ("X-Regent-User", "mallory")];
        assert_eq!(gate.ask(get("/x?y", &more)).await.text(), "fine");
        let head = seen.head(0);
        assert_eq!(head.version(), Version::HTTP_2);
        assert_eq!(head.uri().to_string(), "http://svc.example/x?y");
        let headers = head.headers();
        assert_eq!(headers["x-regent-user"], "alice");
        assert_eq!(headers["x-regent-issuer"], "home");
        assert!(headers.get("authorization").is_none());
        assert!(headers.get("host").is_none());
        // Nothing of a refused request.
        gate.refuses(get("/x", &[]), Reason::MissingToken).await;
        assert_eq!(seen.count(), 1);
    });
}

#[test]
fn a_workload_may_speak_it_on_a_unix_socket() {
    real(async {
        let world = World::sockets();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("workload.sock");
        let listen = Listen::Unix {
            path: path.clone(),
            mode: 0o600,
        };
        let mut accept = System
            .bind(&listen)
            .and_then(Listener::start)
            .expect("a socket");
        let nobody = Setup::new(&world, "127.0.0.1:1".parse().expect("an address"));
        let setup = nobody.upstream(&format!("unix:{}", path.display()));
        let gate = setup.line(H2C).start(Rc::default());
        let seen = Rc::new(crate::h2_server::Seen::default());
        let shared = Rc::clone(&seen);
        tokio::task::spawn_local(async move {
            let io = accept.accept().await.expect("a connection");
            connection(io, shared, Rc::new(fine)).await;
        });
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let request = get("/x", &[("Authorization", &good)]);
        assert_eq!(gate.ask(&request).await.text(), "fine");
        assert_eq!(gate.ask(&request).await.text(), "fine");
        assert_eq!((seen.count(), seen.connections.get()), (2, 1));
    });
}

#[test]
fn a_body_is_sent_again_to_a_workload_that_did_nothing_with_it() {
    real(async {
        let world = World::sockets();
        let mut workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at).line(H2C);
        let gate = setup.start(Rc::default());
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let mut caller = gate.caller().await;
        caller
            .send(format!(
                "POST /x HTTP/1.1\r\nHost: svc.example\r\nAuthorization: {good}\r\n\
                 Content-Length: 2\r\n\r\nhi"
            ))
            .await;
        let mut wire = Wire::accept(&mut workload, &[]).await;
        let stream = wire.request().await;
        assert_eq!(wire.body(stream).await, b"hi");
        // It is about to end, as servers are whose version changes.
        wire.go_away(0, NO_ERROR).await;
        let mut next = Wire::accept(&mut workload, &[]).await;
        let stream = next.request().await;
        assert_eq!(next.body(stream).await, b"hi");
        next.ok(stream, "done").await;
        assert_eq!(caller.answer().await.text(), "done");
    });
}

#[test]
fn who_takes_trailers_says_so_to_the_workload() {
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at).line(H2C);
        let gate = setup.start(Rc::default());
        let seen = serve(workload, fine);
        let good = bearer(&Forge::home(world.clock.unix()).token());
        let fields = [
            ("Authorization", &*good),
            ("TE", "trailers"),
            ("Connection", "TE"),
        ];
        assert_eq!(gate.ask(get("/x", &fields)).await.text(), "fine");
        let te = seen.head(0).headers().get("te").cloned();
        assert_eq!(te, Some(HeaderValue::from_static("trailers")));
    });
}
