//! TLS on the inbound listener: its handshake is bounded, its files may change at any time, and what
//! comes through it is judged like anything else.

use std::io::{Read as _, Write as _};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use regent::lifecycle::Stage;
use regent::net::Io;
use regent::reason::Reason;
use regent::tls::provider;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gate::*;
use crate::kept::Kept;

mod http2;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than a change of a file goes unseen.
const SEEN: Duration = Duration::from_secs(6);

/// A CA of a test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// A certificate and its key.
    fn sign(&self, name: &str) -> (String, String) {
        let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.0).expect("signed");
        (cert.pem(), key.serialize_pem())
    }
}

/// A sidecar that speaks TLS.
struct Case {
    authority: Authority,
    setup: Setup,
    gate: Gate,
}

impl Case {
    fn new(world: &World) -> Case {
        let workload = Upstream::bind(world);
        let setup = Setup::new(world, workload.at);
        Case::start(setup, workload.serve(say_identity))
    }

    fn start(setup: Setup, workload: Rc<Recorder>) -> Case {
        let authority = Authority::new();
        let (cert, key) = authority.sign("svc.example");
        let cert = setup.file("tls.crt", &cert);
        let key = setup.file("tls.key", &key);
        let setup = setup
            .set(&format!("inbound.tls.cert_file={}", cert.display()))
            .set(&format!("inbound.tls.key_file={}", key.display()));
        Case {
            authority,
            gate: setup.start(workload),
            setup,
        }
    }

    fn show(&self, (cert, key): &(String, String)) {
        self.setup.file("tls.crt", cert);
        self.setup.file("tls.key", key);
    }

    fn client(&self) -> Client {
        Client::of(&self.authority)
    }

    /// The certificate that the listener shows, as DER.
    async fn shown(&self, client: &Client) -> Vec<u8> {
        let stream = client.connect(&self.gate).await.expect("a handshake");
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("certificates")[0].to_vec()
    }

    async fn caller(&self, client: &Client) -> Peer {
        let stream = client.connect(&self.gate).await.expect("a handshake");
        Peer::new(Io::Boxed(Box::new(stream)))
    }

    /// No request gets through: in TLS 1.3 a client is done before its certificate is judged.
    async fn refuses(&self, client: &Client) {
        let Ok(stream) = client.connect(&self.gate).await else {
            return;
        };
        let mut caller = Peer::new(Io::Boxed(Box::new(stream)));
        // It may be closed by then.
        let _ = caller.try_send(get("/x", &[])).await;
        caller.expect_end().await;
    }

    async fn get(&self, client: &Client) -> Answer {
        let mut caller = self.caller(client).await;
        let token = token_of(&self.gate.world, "alice");
        let value = bearer(&token);
        caller.ask(&get("/x", &[("Authorization", &value)])).await
    }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).expect("a root");
    roots
}

/// Somebody who calls by TLS.
struct Client(Arc<rustls::ClientConfig>);

impl Client {
    fn with(authority: &Authority, own: Option<(String, String)>, alpn: &[&[u8]]) -> Client {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots(authority));
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM");
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
                builder
                    .with_client_auth_cert(vec![cert], key)
                    .expect("a pair")
            }
        };
        config.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
        Client(Arc::new(config))
    }

    fn of(authority: &Authority) -> Client {
        Client::with(authority, None, &[])
    }

    async fn connect(&self, gate: &Gate) -> std::io::Result<TlsStream<Io>> {
        self.connect_behind(gate, "").await
    }

    /// With this sent first.
    async fn connect_behind(&self, gate: &Gate, header: &str) -> std::io::Result<TlsStream<Io>> {
        let mut caller = gate.caller().await;
        caller.send(header).await;
        let io = caller.io;
        let name = "svc.example".try_into().expect("a name");
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name, io).await
    }
}

#[test]
fn a_request_through_tls_is_judged_and_told_like_any_other() {
    for world in [World::sockets(), World::pipes()] {
        let run = async |world: World| {
            let case = Case::new(&world);
            let answer = case.get(&case.client()).await;
            assert_eq!(answer.status, 200);
            let told = answer.text();
            assert!(told.contains("x-regent-user=alice"), "{told}");
            let seen = case.gate.workload.last();
            assert_eq!(seen.head.get("x-forwarded-for"), Some("127.0.0.1"));
            let mut caller = case.caller(&case.client()).await;
            let answer = caller.ask(&get("/x", &[])).await;
            assert_eq!(answer.reason(), "missing_token");
        };
        match world.address().port() {
            0 => real(run(world)),
            _ => paused(run(world)),
        }
    }
}

/// As in `framing`: what stands there holds for the bytes within TLS.
#[test]
fn what_can_be_read_in_two_ways_is_refused_through_tls_too() {
    real(async {
        let case = Case::new(&World::sockets());
        let client = case.client();
        let good = bearer(&token_of(&case.gate.world, "alice"));
        let (length, chunked) = ("Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n");
        for fields in [
            format!("{length}{chunked}"),
            format!("{chunked}{length}"),
            "Transfer-Encoding: identity, chunked\r\n".to_owned(),
            "X: y\nTransfer-Encoding: chunked\r\n".to_owned(),
        ] {
            let all = (
                case.gate.refused(Reason::BadRequest),
                case.gate.refused_in_all(),
            );
            let mut caller = case.caller(&client).await;
            let head = "POST /x HTTP/1.1\r\nHost: svc.example\r\n";
            let evil = get("/evil", &[("Authorization", &good)]);
            let bytes = format!("{head}Authorization: {good}\r\n{fields}\r\n0\r\n\r\n{evil}");
            caller.send(bytes).await;
            let answer = caller.answer().await;
            assert_eq!(
                (answer.status, answer.reason()),
                (400, "bad_request"),
                "{fields:?}"
            );
            assert_eq!(answer.head.get("connection"), Some("close"), "{fields:?}");
            caller.expect_end().await;
            let now = (
                case.gate.refused(Reason::BadRequest),
                case.gate.refused_in_all(),
            );
            assert_eq!(now, (all.0 + 1, all.1 + 1), "{fields:?}");
        }
        assert_eq!(case.gate.workload.connections.get(), 0);
        assert_eq!(case.get(&client).await.status, 200);
    });
}

#[test]
fn plain_http_is_told_to_speak_tls() {
    real(async {
        let case = Case::new(&World::sockets());
        let (log, _guard) = Kept::new();
        let answer = case.gate.ask(get("/x", &[])).await;
        assert_eq!((answer.status, answer.reason()), (400, "bad_request"));
        assert!(answer.text().contains("https://"), "{answer:?}");
        assert_eq!(case.gate.workload.count(), 0);
        until(|| case.gate.refused(Reason::BadRequest) == 1).await;
        assert_eq!(log.lines_with("plain HTTP; call it with https://"), 1);
    });
}

#[test]
fn a_proxy_header_before_tls_that_is_not_expected_is_said() {
    real(async {
        let case = Case::new(&World::sockets());
        let (log, _guard) = Kept::new();
        for (turn, header) in (1..).zip([
            &b"PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\r\n"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x02\xdc\x04\x01\xbb",
        ]) {
            let mut caller = case.gate.caller().await;
            caller.send(header).await;
            until(|| case.gate.refused(Reason::BadRequest) == turn).await;
            let next = "name it in inbound.proxy_protocol";
            assert_eq!(log.lines_with(next), turn as usize, "{}", log.text());
        }
    });
}

#[test]
fn a_changed_certificate_is_shown_and_a_broken_one_is_not() {
    paused(async {
        let case = Case::new(&World::pipes());
        let client = case.client();
        let first = case.shown(&client).await;
        // A connection that is open outlives the change.
        let mut open = case.caller(&client).await;

        let next = case.authority.sign("svc.example");
        case.setup.file("tls.crt", &next.0);
        tokio::time::sleep(SEEN).await;
        assert_eq!(case.shown(&client).await, first, "half a change");
        let (status, said) = case.gate.probe("/readyz").await;
        assert_eq!(status, 200);
        let degraded = said["degraded"].to_string();
        assert!(degraded.contains("inbound.tls.key_file"), "{said}");

        case.show(&next);
        tokio::time::sleep(SEEN).await;
        assert_ne!(case.shown(&client).await, first);
        let (_, said) = case.gate.probe("/readyz").await;
        assert_eq!(said["degraded"], serde_json::json!([]));
        assert_eq!(open.ask(&get("/x", &[])).await.status, 401);
    });
}

#[test]
fn a_client_certificate_is_required_where_a_ca_is_named() {
    let clients = Authority::new();
    real(async {
        let world = World::sockets();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let ca = setup.file("clients.crt", &clients.0.pem());
        let setup = setup.set(&format!("inbound.tls.client_ca_file={}", ca.display()));
        let case = Case::start(setup, workload.serve(say_identity));
        case.refuses(&case.client()).await;
        let stranger = Authority::new().sign("caller");
        let stranger = Client::with(&case.authority, Some(stranger), &[]);
        case.refuses(&stranger).await;
        let own = Client::with(&case.authority, Some(clients.sign("caller")), &[]);
        assert_eq!(case.get(&own).await.status, 200);
        // It is no token.
        let mut caller = case.caller(&own).await;
        assert_eq!(caller.ask(&get("/x", &[])).await.status, 401);
        assert_eq!(case.gate.workload.count(), 1);
    });
}

#[test]
fn a_session_of_the_old_client_ca_is_not_resumed_under_the_new_one() {
    let (old, new) = (Authority::new(), Authority::new());
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let ca = setup.file("clients.crt", &old.0.pem());
        let setup = setup.set(&format!("inbound.tls.client_ca_file={}", ca.display()));
        let case = Case::start(setup, workload.serve(say_identity));
        let client = Client::with(&case.authority, Some(old.sign("caller")), &[]);
        assert_eq!(case.get(&client).await.status, 200);
        let stream = client.connect(&case.gate).await.expect("TLS");
        let kind = stream.get_ref().1.handshake_kind();
        assert_eq!(kind, Some(rustls::HandshakeKind::Resumed));
        case.setup.file("clients.crt", &new.0.pem());
        tokio::time::sleep(SEEN).await;
        case.refuses(&client).await;
    });
}

#[test]
fn a_handshake_has_the_time_of_a_head() {
    paused(async {
        let case = Case::new(&World::pipes());
        let mut silent = case.gate.caller().await;
        tokio::time::sleep(9 * SECOND).await;
        assert_eq!(case.gate.refused(Reason::Timeout), 0);
        tokio::time::sleep(2 * SECOND).await;
        silent.expect_end().await;
        assert_eq!(case.gate.refused(Reason::Timeout), 1);
        assert_eq!(case.gate.counted(|side| &side.connections), 0);
    });
}

#[test]
fn a_flood_of_handshakes_meets_itself() {
    paused(async {
        let case = Case::new(&World::pipes());
        let mut silent = Vec::new();
        for _ in 0..10_000 {
            silent.push(case.gate.caller().await);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(case.gate.refused(Reason::Overloaded), 9_488);
        assert_eq!(case.gate.counted(|side| &side.connections), 512);
        assert_eq!(case.get(&case.client()).await.status, 200);
        silent[0].expect_end().await;
        assert_eq!(case.gate.refused(Reason::Overloaded), 9_489);
    });
}

/// Puts every byte of a caller's first flight into a record of its own.
struct Fragmented {
    io: Io,
    rest: Vec<u8>,
    is_done: bool,
}

impl AsyncRead for Fragmented {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Fragmented {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.is_done {
            return Pin::new(&mut self.io).poll_write(cx, buf);
        }
        self.is_done = true;
        let (kind, hello) = (&buf[..3], &buf[5..]);
        for byte in hello {
            self.rest.extend_from_slice(kind);
            self.rest.extend_from_slice(&[0, 1, *byte]);
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.rest.is_empty() {
            let Fragmented { io, rest, .. } = &mut *self;
            let written = std::task::ready!(Pin::new(io).poll_write(cx, rest))?;
            rest.drain(..written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[test]
fn a_client_hello_in_pieces_is_read_and_one_that_trickles_has_no_more_time() {
    paused(async {
        let case = Case::new(&World::pipes());
        let io = Fragmented {
            io: case.gate.caller().await.io,
            rest: Vec::new(),
            is_done: false,
        };
        let connector = TlsConnector::from(Arc::clone(&case.client().0));
        let name = "svc.example".try_into().expect("a name");
        let stream = connector.connect(name, io).await.expect("a handshake");
        let token = token_of(&case.gate.world, "alice");
        let request = get("/x", &[("Authorization", &bearer(&token))]);
        let mut caller = Peer::new(Io::Boxed(Box::new(stream)));
        assert_eq!(caller.ask(&request).await.status, 200);
        // A hello of 16 KiB, a byte in a record a second.
        let mut slow = case.gate.caller().await;
        let began = tokio::time::Instant::now();
        let hello = [1, 0, 0x40, 0].into_iter().chain(std::iter::repeat(3));
        for byte in hello {
            if slow.try_send([0x16, 3, 1, 0, 1, byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(SECOND).await;
        }
        let took = began.elapsed().as_secs();
        assert!((10..13).contains(&took), "{took}");
        assert_eq!(case.gate.refused(Reason::Timeout), 1);
    });
}

#[test]
fn a_reload_switches_tls_on_and_off() {
    paused(async {
        let case = Case::new(&World::pipes());
        let plain = Setup::clone(&case.setup).plain();
        assert_eq!(case.get(&case.client()).await.status, 200);
        case.gate.reload(&plain).await;
        let token = token_of(&case.gate.world, "alice");
        assert_eq!(case.gate.get("/x", &token).await.status, 200);
        case.gate.reload(&case.setup).await;
        assert_eq!(case.get(&case.client()).await.status, 200);
    });
}

/// A caller's TLS, with its socket in hand: each flight is sent when the test says so.
struct Hand {
    session: rustls::ClientConnection,
    socket: std::net::TcpStream,
}

impl Hand {
    fn new(case: &Case, version: &'static rustls::SupportedProtocolVersion) -> Hand {
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .expect("a version")
            .with_root_certificates(roots(&case.authority))
            .with_no_client_auth();
        let name = "svc.example".try_into().expect("a name");
        let socket = std::net::TcpStream::connect(case.gate.at).expect("it listens");
        socket.set_nonblocking(true).expect("a socket");
        Hand {
            session: rustls::ClientConnection::new(Arc::new(config), name).expect("a session"),
            socket,
        }
    }

    fn say(&mut self) {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket).expect("room");
        }
    }

    /// What came of an answer.
    async fn hear(&mut self) -> String {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let mut room = [0; 16 * 1024];
        if let Ok(read) = self.socket.read(&mut room) {
            assert!(read > 0, "it was closed");
            let mut came = &room[..read];
            while !came.is_empty() {
                self.session.read_tls(&mut came).expect("room");
                self.session.process_new_packets().expect("TLS");
            }
        }
        let read = self.session.reader().read(&mut room).unwrap_or(0);
        String::from_utf8_lossy(&room[..read]).into_owned()
    }
}

/// The caller's last word of the handshake comes after the drain has begun, and then its request.
#[test]
fn whoever_shakes_hands_during_a_drain_is_answered() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        real(async {
            let case = Case::new(&World::sockets());
            let mut hand = Hand::new(&case, version);
            hand.say();
            while !hand.session.wants_write() {
                hand.hear().await;
            }
            case.gate.remote.stop.advance(Stage::Drain);
            for _ in 0..10 {
                hand.hear().await;
            }
            hand.say();
            for _ in 0..10 {
                hand.hear().await;
            }
            let value = bearer(&token_of(&case.gate.world, "alice"));
            let request = get("/x", &[("Authorization", &value)]);
            let mut writer = hand.session.writer();
            writer.write_all(request.as_bytes()).expect("room");
            hand.say();
            let mut answer = String::new();
            while !answer.contains("x-regent-user=alice") {
                answer += &hand.hear().await;
            }
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        });
    }
}

/// Half a record may hold half a request, which is answered where it is not encrypted.
#[test]
fn a_request_that_is_half_there_at_the_drain_is_answered() {
    real(async {
        let case = Case::new(&World::sockets());
        let mut hand = Hand::new(&case, &rustls::version::TLS13);
        let value = bearer(&token_of(&case.gate.world, "alice"));
        let request = get("/x", &[("Authorization", &value)]);
        for half in [false, true] {
            let mut writer = hand.session.writer();
            writer.write_all(request.as_bytes()).expect("room");
            if half {
                let mut record = Vec::new();
                hand.session.write_tls(&mut record).expect("room");
                let (first, second) = record.split_at(record.len() / 2);
                hand.socket.write_all(first).expect("room");
                hand.hear().await;
                case.gate.remote.stop.advance(Stage::Drain);
                for _ in 0..10 {
                    hand.hear().await;
                }
                hand.socket.write_all(second).expect("room");
            }
            let mut answer = String::new();
            while !answer.contains("x-regent-user=alice") {
                hand.say();
                answer += &hand.hear().await;
            }
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
        assert_eq!(case.gate.workload.count(), 2);
    });
}

/// Many a client closes its socket, or a half of it, without TLS's close.
#[test]
fn a_caller_that_closes_its_sending_half_gets_its_answer() {
    real(async {
        let world = World::sockets();
        let mut workload = Upstream::bind(&world);
        let case = Case::start(Setup::new(&world, workload.at), Rc::default());
        let mut hand = Hand::new(&case, &rustls::version::TLS13);
        let value = bearer(&token_of(&world, "alice"));
        let request = get("/x", &[("Authorization", &value)]);
        let mut writer = hand.session.writer();
        writer.write_all(request.as_bytes()).expect("room");
        while hand.session.is_handshaking() {
            hand.say();
            hand.hear().await;
        }
        hand.say();
        let mut behind = workload.accept().await;
        behind.request().await.expect("a request");
        hand.socket
            .shutdown(std::net::Shutdown::Write)
            .expect("open");
        settle().await;
        behind.send(ok("done")).await;
        let mut answer = String::new();
        while !answer.contains("done") {
            answer += &hand.hear().await;
        }
    });
}

#[test]
fn a_failed_handshake_is_counted_and_a_caller_that_leaves_is_not() {
    let clients = Authority::new();
    real(async {
        let world = World::sockets();
        let setup = Setup::new(&world, world.address());
        let ca = setup.file("clients.crt", &clients.0.pem());
        let setup = setup.set(&format!("inbound.tls.client_ca_file={}", ca.display()));
        let case = Case::start(setup, Rc::default());
        drop(case.gate.caller().await);
        case.refuses(&case.client()).await;
        until(|| case.gate.refused(Reason::BadRequest) == 1).await;
        until(|| case.gate.counted(|side| &side.connections) == 0).await;
        assert_eq!(case.gate.refused_in_all(), 1);
    });
}

#[test]
fn plain_http_is_told_no_reason_where_reasons_are_not_revealed() {
    real(async {
        let world = World::sockets();
        let setup = Setup::new(&world, world.address()).line("reveal_reasons = false");
        let case = Case::start(setup, Rc::default());
        let answer = case.gate.ask(get("/x", &[])).await;
        assert_eq!(answer.head.get("proxy-status"), Some("regent"));
        assert!(!answer.text().contains("bad_request"), "{answer:?}");
    });
}

#[test]
fn who_has_said_nothing_holds_up_no_drain() {
    real(async {
        let case = Case::new(&World::sockets());
        let mut silent = case.gate.caller().await;
        until(|| case.gate.counted(|side| &side.connections) == 1).await;
        case.gate.remote.stop.advance(Stage::Drain);
        // Long before limits.header_timeout, as nothing is refused for being slow.
        silent.expect_end().await;
        assert_eq!(case.gate.refused(Reason::Timeout), 0);
    });
}

#[test]
fn a_body_that_is_cut_without_a_close_is_not_taken_for_whole() {
    real(async {
        let world = World::sockets();
        let mut workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let case = Case::start(setup, Rc::default());
        let mut caller = case.caller(&case.client()).await;
        let value = bearer(&token_of(&world, "alice"));
        let head = request(
            "POST",
            "/x",
            &[("Authorization", &value), ("Transfer-Encoding", "chunked")],
        );
        caller.send(head + "4\r\nhalf\r\n").await;
        let mut behind = workload.accept().await;
        let head = behind.head().await.expect("a head");
        // Dropped: the socket closes without TLS's close.
        drop(caller);
        let (_, end) = behind.body(&head).await;
        assert_eq!(end, End::Cut);
    });
}

#[test]
fn what_is_wrong_with_the_files_is_a_mistake_at_its_key() {
    let world = World::pipes();
    let setup = Setup::new(&world, world.address());
    let authority = Authority::new();
    let (cert, _) = authority.sign("svc.example");
    let (_, other) = authority.sign("svc.example");
    let cert = setup.file("tls.crt", &cert);
    let key = setup.file("tls.key", &other);
    let problem = setup
        .set(&format!("inbound.tls.cert_file={}", cert.display()))
        .set(&format!("inbound.tls.key_file={}", key.display()))
        .problem();
    assert!(problem.contains("inbound.tls.key_file"), "{problem}");
    assert!(problem.contains("replace both together"), "{problem}");
}

#[test]
fn a_peer_that_speaks_for_others_says_so_before_tls() {
    for world in [World::sockets(), World::pipes()] {
        let run = async |world: World| {
            let workload = Upstream::bind(&world);
            let setup = Setup::new(&world, workload.at).line("proxy_protocol = ['127.0.0.1']");
            let case = Case::start(setup, workload.serve(say_identity));
            let client = case.client();
            let header = "PROXY TCP4 192.0.2.7 192.0.2.2 56324 443\r\n";
            let stream = client.connect_behind(&case.gate, header).await;
            let mut caller = Peer::new(Io::Boxed(Box::new(stream.expect("a handshake"))));
            let value = bearer(&token_of(&case.gate.world, "alice"));
            let answer = caller.ask(&get("/x", &[("Authorization", &value)])).await;
            assert_eq!(answer.status, 200);
            let seen = case.gate.workload.last();
            assert_eq!(seen.head.get("x-forwarded-for"), Some("192.0.2.7"));
            client.connect(&case.gate).await.expect_err("no header");
            until(|| case.gate.refused(Reason::BadRequest) == 1).await;
            // What comes behind the header must be TLS; a pipe's first byte cannot be looked at.
            if world.address().port() == 0 {
                let plain = format!("{header}{}", get("/x", &[]));
                let answer = case.gate.ask(plain).await;
                assert!(answer.text().contains("https://"), "{answer:?}");
            }
        };
        match world.address().port() {
            0 => real(run(world)),
            _ => paused(run(world)),
        }
    }
}
