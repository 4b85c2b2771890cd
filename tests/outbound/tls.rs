//! TLS to the upstream: the right certificate or not one byte of a request (cases.md, K06 and K13).

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use regent::reason::Reason;
use regent::tls::provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{HandshakeKind, ServerConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;

use super::support::*;

/// A CA of our own, and what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Authority { issuer, folder }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// A certificate for these names, made different by `change`.
    pub(crate) fn sign(
        &self,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertifiedKey {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        certified(&certificate, &key)
    }
}

/// A certificate for localhost that nobody but itself vouches for.
fn self_signed() -> CertifiedKey {
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    certified(&certificate, &key)
}

fn certified(certificate: &Certificate, key: &KeyPair) -> CertifiedKey {
    let der = PrivateKeyDer::try_from(key.serialize_der()).expect("PKCS#8");
    let key = provider().key_provider.load_private_key(der);
    CertifiedKey::new(vec![certificate.der().clone()], key.expect("a key"))
}

/// What a TLS server met.
#[derive(Debug, Default)]
struct Met {
    names: Vec<Option<String>>,
    handshakes: Vec<Option<HandshakeKind>>,
    bytes: Vec<u8>,
    ended: usize,
}

#[derive(Debug)]
struct OneKey(Arc<CertifiedKey>, Arc<Mutex<Met>>);

impl ResolvesServerCert for OneKey {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_owned);
        self.1.lock().expect("no panic").names.push(name);
        Some(Arc::clone(&self.0))
    }
}

/// A TLS server that answers 200 to everything; its port, and what it met.
async fn server(key: CertifiedKey) -> (u16, Arc<Mutex<Met>>) {
    server_that_says(key, ok("over TLS")).await
}

async fn server_that_says(key: CertifiedKey, says: Vec<u8>) -> (u16, Arc<Mutex<Met>>) {
    let met = Arc::new(Mutex::new(Met::default()));
    let resolver = Arc::new(OneKey(Arc::new(key), Arc::clone(&met)));
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let shared = Arc::clone(&met);
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, met, says) = (acceptor.clone(), Arc::clone(&shared), says.clone());
            spawn_local(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let kind = stream.get_ref().1.handshake_kind();
                    met.lock().expect("no panic").handshakes.push(kind);
                    let mut room = vec![0; 4096];
                    while let Ok(read @ 1..) = stream.read(&mut room).await {
                        met.lock()
                            .expect("no panic")
                            .bytes
                            .extend_from_slice(&room[..read]);
                        let _ = stream.write_all(&says).await;
                        let _ = stream.flush().await;
                    }
                }
                met.lock().expect("no panic").ended += 1;
            });
        }
    });
    (port, met)
}

fn sidecar(port: u16, ca_file: Option<&Path>) -> Sidecar {
    let world = World::sockets();
    let setup = Setup::at(&world, &format!("https://localhost:{port}"));
    match ca_file {
        Some(file) => setup
            .set(format!("outbound.ca_file={}", file.display()))
            .start(),
        None => setup.start(),
    }
}

#[test]
fn a_ca_file_makes_an_upstream_trusted() {
    real(async {
        let authority = Authority::new();
        let (port, met) = server(authority.sign(&["localhost"], |_| {})).await;
        let sidecar = sidecar(port, Some(&authority.file()));
        let mut caller = sidecar.caller().await;
        for _ in 0..3 {
            let request = "GET /x HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n";
            assert_eq!(caller.ask(request).await.text(), "over TLS");
        }
        let met = met.lock().expect("no panic");
        // The name is the upstream's, and one connection served all.
        assert_eq!(met.names, [Some("localhost".to_owned())]);
        let text = String::from_utf8_lossy(&met.bytes).into_owned();
        assert!(text.contains(&format!("Bearer {}", sidecar.token)));
        assert!(
            text.contains(&format!("host: localhost:{port}\r\n")),
            "{text}"
        );
    });
}

#[test]
fn a_certificate_that_is_not_right_gets_no_byte_of_a_request() {
    real(async {
        let authority = Authority::new();
        let stranger = Authority::new();
        let past = |params: &mut CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        };
        let future = |params: &mut CertificateParams| {
            params.not_before = rcgen::date_time_ymd(2200, 1, 1);
            params.not_after = rcgen::date_time_ymd(2201, 1, 1);
        };
        let named_in_the_subject_alone = |params: &mut CertificateParams| {
            let name = rcgen::DnType::CommonName;
            params.distinguished_name.push(name, "localhost");
        };
        let ours = authority.file();
        let cases = [
            (
                "a stranger's",
                stranger.sign(&["localhost"], |_| {}),
                Some(&ours),
            ),
            ("its own", self_signed(), Some(&ours)),
            ("unknown", authority.sign(&["localhost"], |_| {}), None),
            ("over", authority.sign(&["localhost"], past), Some(&ours)),
            (
                "not yet",
                authority.sign(&["localhost"], future),
                Some(&ours),
            ),
            (
                "another's",
                authority.sign(&["other.example"], |_| {}),
                Some(&ours),
            ),
            (
                "an address's",
                authority.sign(&["127.0.0.1"], |_| {}),
                Some(&ours),
            ),
            ("wide", authority.sign(&["*"], |_| {}), Some(&ours)),
            (
                "nameless",
                authority.sign(&[], named_in_the_subject_alone),
                Some(&ours),
            ),
        ];
        for (what, key, ca_file) in cases {
            let (port, met) = server(key).await;
            let sidecar = sidecar(port, ca_file.map(PathBuf::as_path));
            let request = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nsecret";
            let answer = sidecar.ask(request).await;
            assert_eq!(answer.status, 502, "{what}");
            assert_eq!(answer.reason(), "upstream_tls", "{what}");
            let text = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(!text.contains(&sidecar.token), "{what}");
            assert_eq!(sidecar.broken_off(Reason::UpstreamTls), 1, "{what}");
            until(|| met.lock().expect("no panic").ended > 0).await;
            let met = met.lock().expect("no panic");
            assert!(met.bytes.is_empty(), "{what}: {:?}", met.bytes);
            assert_eq!(met.names.len(), 1, "{what}: not tried again");
        }
    });
}

#[test]
fn a_ca_that_is_replaced_at_a_reload_is_not_trusted_over_the_connections_that_are_open() {
    real(async {
        let (before, after) = (Authority::new(), Authority::new());
        let (port, met) = server(before.sign(&["localhost"], |_| {})).await;
        let sidecar = sidecar(port, Some(&before.file()));
        let mut caller = sidecar.caller().await;
        let request = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
        assert_eq!(caller.ask(request).await.status, 200);
        std::fs::copy(after.file(), before.file()).expect("rewritten");
        let bytes = met.lock().expect("no panic").bytes.len();
        // Until the reload the connection in the pool serves.
        assert_eq!(caller.ask(request).await.status, 200);
        let served = met.lock().expect("no panic").bytes.len();
        assert!(served > bytes);
        sidecar.remote.reread().await.expect("a good config");
        for _ in 0..3 {
            let answer = caller.ask(request).await;
            assert_eq!((answer.status, answer.reason()), (502, "upstream_tls"));
        }
        assert_eq!(sidecar.get("/x").await.reason(), "upstream_tls");
        let met = met.lock().expect("no panic");
        assert_eq!(met.handshakes.len(), 1, "the one of before");
        assert_eq!(met.bytes.len(), served, "not a byte since");
    });
}

#[test]
fn an_upstream_that_speaks_no_tls_is_a_502_and_learns_no_token() {
    real(async {
        let world = World::sockets();
        let upstream = Upstream::bind(&world);
        let at = format!("https://127.0.0.1:{}", upstream.at.port());
        let sidecar = Setup::at(&world, &at).start();
        let mut upstream = upstream;
        let token = sidecar.token.clone();
        let above = Rc::new(std::cell::RefCell::new(Vec::new()));
        let seen = Rc::clone(&above);
        spawn_local(async move {
            let mut peer = upstream.accept().await;
            peer.fill().await;
            peer.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let rest = peer.rest().await;
            seen.borrow_mut().extend(rest);
        });
        let answer = sidecar.get("/x").await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.reason(), "upstream_tls");
        until(|| !above.borrow().is_empty()).await;
        let text = String::from_utf8_lossy(&above.borrow()).into_owned();
        assert!(!text.contains(&token) && !text.contains("GET"), "{text}");
    });
}

#[test]
fn the_session_is_resumed_where_an_upstream_is_connected_to_again() {
    real(async {
        let authority = Authority::new();
        let key = authority.sign(&["localhost"], |_| {});
        let says = answer(200, &[("connection", "close")], "over TLS");
        let (port, met) = server_that_says(key, says).await;
        let sidecar = sidecar(port, Some(&authority.file()));
        for _ in 0..3 {
            assert_eq!(sidecar.get("/x").await.text(), "over TLS");
        }
        let met = met.lock().expect("no panic");
        let [full, resumed] = [HandshakeKind::Full, HandshakeKind::Resumed].map(Some);
        assert_eq!(met.handshakes, [full, resumed, resumed]);
    });
}

#[test]
fn through_a_proxy_the_certificate_must_be_the_upstreams() {
    real(async {
        let authority = Authority::new();
        for (name, status) in [("upstream.example", 200), ("localhost", 502)] {
            let (port, met) = server(authority.sign(&[name], |_| {})).await;
            let world = World::sockets();
            let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let proxy_at = proxy.local_addr().expect("a port");
            let asked = Rc::new(std::cell::RefCell::new(Vec::new()));
            let heard = Rc::clone(&asked);
            spawn_local(async move {
                let (mut stream, _) = proxy.accept().await.expect("a connection");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.expect("a head"));
                }
                heard.borrow_mut().extend(head);
                let upstream = ("127.0.0.1", port);
                let mut upstream = TcpStream::connect(upstream).await.expect("it listens");
                let open = b"HTTP/1.1 200 Connection established\r\n\r\n";
                stream.write_all(open).await.expect("a reader");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream).await;
            });
            let sidecar = Setup::at(&world, "https://upstream.example")
                .set(format!("outbound.ca_file={}", authority.file().display()))
                .set(format!("outbound.proxy=http://{proxy_at}"))
                .start();
            let answered = sidecar.get("/x").await;
            assert_eq!(answered.status, status, "{answered:?}");
            let asked = String::from_utf8(asked.borrow().clone()).expect("text");
            assert!(
                asked.starts_with("CONNECT upstream.example:443 "),
                "{asked}"
            );
            assert!(!asked.contains(&sidecar.token), "{asked}");
            let met = met.lock().expect("no panic");
            assert_eq!(met.names, [Some("upstream.example".to_owned())]);
            if status == 502 {
                assert_eq!(answered.reason(), "upstream_tls");
                assert!(met.bytes.is_empty());
            }
        }
    });
}
