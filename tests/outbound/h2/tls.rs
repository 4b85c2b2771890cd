//! What TLS picks, and what is spoken then.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Response;
use regent::tls::provider;
use rustls::{HandshakeKind, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::GET;
use super::server::{Asked, Seen, connection};
use crate::support::*;
use crate::tls::Authority;

const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
const WEBSOCKET: &str = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// What a TLS server met.
#[derive(Default)]
struct Met {
    picked: RefCell<Vec<Option<Vec<u8>>>>,
    kinds: RefCell<Vec<HandshakeKind>>,
    over_h2: Rc<Seen>,
}

struct Case {
    world: World,
    authority: Authority,
    upstream: Upstream,
    acceptor: TlsAcceptor,
}

impl Case {
    /// With a server that knows these protocols, the best first.
    fn new(world: World, protocols: &[&[u8]]) -> Case {
        let authority = Authority::new();
        let key = authority.sign(&["localhost"], |_| {});
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)));
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Case {
            upstream: Upstream::bind(&world),
            authority,
            world,
            acceptor: TlsAcceptor::from(Arc::new(config)),
        }
    }

    fn sidecar(&self, protocol: &str) -> Sidecar {
        let port = self.upstream.at.port();
        Setup::at(&self.world, &format!("https://localhost:{port}"))
            .set(format!(
                "outbound.ca_file={}",
                self.authority.file().display()
            ))
            .set(format!("outbound.upstream_protocol={protocol}"))
            .start()
    }

    /// Serves whatever comes, in what was picked.
    fn serve(self) -> Rc<Met> {
        let met = Rc::new(Met::default());
        let shared = Rc::clone(&met);
        let Case {
            mut upstream,
            acceptor,
            authority,
            ..
        } = self;
        spawn_local(async move {
            let _folder = authority;
            loop {
                let io = upstream.accept().await.io;
                let (acceptor, met) = (acceptor.clone(), Rc::clone(&shared));
                spawn_local(async move {
                    if let Ok(stream) = acceptor.accept(io).await {
                        one(stream, &met).await;
                    }
                });
            }
        });
        met
    }
}

async fn one(mut stream: tokio_rustls::server::TlsStream<regent::net::Io>, met: &Met) {
    let session = stream.get_ref().1;
    let picked = session.alpn_protocol().map(<[u8]>::to_vec);
    met.kinds.borrow_mut().extend(session.handshake_kind());
    met.picked.borrow_mut().push(picked.clone());
    if picked.as_deref() == Some(H2) {
        let fine = |asked: Asked<'_>| asked.answer(Response::new(()), "over h2");
        connection(stream, Rc::clone(&met.over_h2), Rc::new(fine)).await;
        return;
    }
    let mut room = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut room).await {
        let text = String::from_utf8_lossy(&room[..read]).into_owned();
        let bytes = match () {
            () if text.contains("/ws") => SWITCHING.as_bytes().to_vec(),
            () if text.contains("/last") => answer(200, &[("connection", "close")], "over h1"),
            () => ok("over h1"),
        };
        let _ = stream.write_all(&bytes).await;
        let _ = stream.flush().await;
        if text.contains("/last") {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

#[test]
fn what_the_server_picks_is_spoken() {
    real(async {
        for (known, text) in [
            (&[H2, HTTP1][..], "over h2"),
            (&[H2], "over h2"),
            (&[HTTP1, H2], "over h1"),
            (&[HTTP1], "over h1"),
            (&[], "over h1"),
        ] {
            let case = Case::new(World::sockets(), known);
            let sidecar = case.sidecar("auto");
            let met = case.serve();
            let mut caller = sidecar.caller().await;
            for _ in 0..3 {
                assert_eq!(caller.ask(GET).await.text(), text, "{known:?}");
            }
            assert_eq!(met.picked.borrow().len(), 1, "one connection served all");
        }
    });
}

#[test]
fn what_the_config_asks_for_is_spoken_and_nothing_else() {
    real(async {
        for (protocol, known, text) in [
            ("h1", &[H2, HTTP1][..], Ok("over h1")),
            ("h2", &[HTTP1, H2], Ok("over h2")),
            ("h2", &[HTTP1], Err("upstream_tls")),
            ("h2", &[], Err("upstream_protocol")),
            ("h1", &[H2], Err("upstream_tls")),
        ] {
            let case = Case::new(World::sockets(), known);
            let sidecar = case.sidecar(protocol);
            case.serve();
            let answer = sidecar.get("/x").await;
            match text {
                Ok(text) => assert_eq!(answer.text(), text, "{protocol} {known:?}"),
                Err(reason) => assert_eq!(answer.reason(), reason, "{protocol} {known:?}"),
            }
        }
    });
}

#[test]
fn the_first_connection_to_be_http_2_serves_those_who_dial_too() {
    real(async {
        let case = Case::new(World::sockets(), &[H2, HTTP1]);
        let sidecar = case.sidecar("auto");
        let world = case.world.clone();
        let met = case.serve();
        let mut callers = Vec::new();
        for _ in 0..20 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            callers.push(caller);
        }
        for caller in &mut callers {
            assert_eq!(caller.answer().await.text(), "over h2");
        }
        let carriers = met.over_h2.carriers.borrow().clone();
        assert_eq!(carriers.len(), 20);
        assert!(carriers.iter().all(|carrier| *carrier == carriers[0]));
        until(|| world.dialled.load(Relaxed) == 1).await;
    });
}

#[test]
fn before_it_is_known_what_is_spoken_nobody_waits_for_the_handshake_of_another() {
    paused(async {
        let mut case = Case::new(World::pipes(), &[HTTP1]);
        let sidecar = case.sidecar("auto");
        let met = Met::default();
        let mut callers = Vec::new();
        for _ in 0..3 {
            let mut caller = sidecar.caller().await;
            caller.send(GET).await;
            callers.push(caller);
        }
        let _hangs = case.upstream.accept().await;
        for caller in &mut callers[1..] {
            let io = case.upstream.accept().await.io;
            let stream = case.acceptor.accept(io).await.expect("a handshake");
            tokio::select! {
                () = one(stream, &met) => panic!("it ended"),
                answer = caller.answer() => assert_eq!(answer.text(), "over h1"),
            }
        }
    });
}

#[test]
fn a_websocket_has_a_connection_of_its_own_and_the_rest_goes_on_over_http_2() {
    real(async {
        let case = Case::new(World::sockets(), &[H2, HTTP1]);
        let sidecar = case.sidecar("auto");
        let met = case.serve();
        assert_eq!(sidecar.get("/x").await.text(), "over h2");
        let mut caller = sidecar.caller().await;
        caller.send(WEBSOCKET).await;
        let head = caller.head().await.expect("an answer");
        assert_eq!(head.line, "HTTP/1.1 101 Switching Protocols");
        // A second one, which the upstream does not upgrade: its connection is not for others.
        let plain = WEBSOCKET.replace("/ws", "/x");
        assert_eq!(sidecar.ask(&plain).await.text(), "over h1");
        assert_eq!(sidecar.get("/x").await.text(), "over h2");
        assert_eq!(met.over_h2.connections.get(), 1);
        let picked = met.picked.borrow().clone();
        assert_eq!(picked[0].as_deref(), Some(H2));
        assert!(
            picked[1..]
                .iter()
                .all(|picked| picked.as_deref() == Some(HTTP1))
        );
    });
}

#[test]
fn a_second_connection_resumes_the_session_of_the_first() {
    real(async {
        for (known, path) in [(&[HTTP1][..], "/last"), (&[H2, HTTP1], "/x")] {
            let case = Case::new(World::sockets(), known);
            let sidecar = case.sidecar("auto");
            let world = case.world.clone();
            let met = case.serve();
            assert_eq!(sidecar.get(path).await.status, 200);
            if path == "/x" {
                // Over HTTP/1.1, beside the first one, and with its session.
                let mut caller = sidecar.caller().await;
                caller.send(WEBSOCKET).await;
                caller.head().await.expect("an answer");
            } else {
                until(|| world.dialled.load(Relaxed) == 0).await;
                assert_eq!(sidecar.get(path).await.status, 200);
            }
            let kinds = met.kinds.borrow().clone();
            assert_eq!(
                kinds,
                [HandshakeKind::Full, HandshakeKind::Resumed],
                "{path}"
            );
        }
    });
}

#[test]
fn the_next_connection_of_http_2_resumes_the_session_of_the_one_before() {
    paused(async {
        let case = Case::new(World::pipes(), &[H2]);
        let sidecar = case.sidecar("h2");
        let world = case.world.clone();
        let met = case.serve();
        for _ in 0..3 {
            assert_eq!(sidecar.get("/x").await.text(), "over h2");
            // Unused for so long, it is closed.
            tokio::time::sleep(Duration::from_secs(25)).await;
            assert_eq!(world.dialled.load(Relaxed), 0);
        }
        let kinds = met.kinds.borrow().clone();
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed]);
    });
}
