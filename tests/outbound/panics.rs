//! A fault of our own: it ends the connection that met it, and is counted.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use regent::config::Listen;
use regent::net::{Io, Listener, Local, Net};
use regent::reason::Reason;

use super::support::*;

const GET: &str = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

thread_local! {
    static PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Connects, or panics.
struct Faulty(Arc<dyn Net>);

impl Net for Faulty {
    fn bind(&self, at: &Listen) -> io::Result<Listener> {
        self.0.bind(at)
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, io::Result<Io>> {
        Box::pin(async move {
            tokio::task::yield_now().await;
            assert!(!PANICS.get(), "this panic is a part of the test");
            self.0.connect(to).await
        })
    }
}

#[test]
fn a_panic_ends_its_own_connection_and_nothing_else() {
    paused(async {
        let world = World::pipes();
        let mut upstream = Upstream::bind(&world);
        let sidecar = Setup::new(&world, upstream.at)
            .dials(Arc::new(Faulty(Arc::clone(&world.net))))
            .start();
        let mut other = sidecar.caller().await;
        other.send(GET).await;
        let mut above = upstream.accept().await;
        above.request().await.expect("a request");
        PANICS.set(true);
        for count in 1..4 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            caller.expect_end().await;
            assert_eq!(sidecar.refused(Reason::InternalError), count);
            assert_eq!(sidecar.connections(), 1);
        }
        PANICS.set(false);
        above.send(ok("unharmed")).await;
        assert_eq!(other.answer().await.text(), "unharmed");
        drop(above);
        let recorder = upstream.echo();
        assert_eq!(sidecar.get("/y").await.status, 200);
        assert_eq!(recorder.count(), 1);
        assert!(sidecar.is_running());
    });
}
