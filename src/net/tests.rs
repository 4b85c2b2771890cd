use std::io::Write as _;

use super::*;
use tokio::io::AsyncWriteExt as _;

#[tokio::test(start_paused = true)]
async fn memory_carries_bytes_to_what_is_bound_and_nowhere_else() {
    let net = Memory::default();
    let at: SocketAddr = "127.0.0.1:80".parse().expect("an address");
    assert!(net.dial(at).is_err());
    let mut accept = net
        .bind(&Listen::Tcp(at))
        .and_then(Listener::start)
        .expect("memory binds");
    let mut client = net.dial(at).expect("bound");
    client.write_all(b"hi").await.expect("open");
    let mut server = accept.accept().await.expect("dialled");
    let mut buf = [0; 2];
    server.read_exact(&mut buf).await.expect("sent");
    assert_eq!(&buf, b"hi");
    net.unbind(at);
    assert!(net.dial(at).is_err());
}

/// Nothing else tells that a caller is gone while both sides are silent.
#[tokio::test]
async fn callers_that_vanish_are_noticed() {
    let at = Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = System.bind(&at).expect("a port");
    let at = listener.address().tcp().expect("TCP");
    let mut accept = listener.start().expect("a listener");
    let _client = TcpStream::connect(at).await.expect("it listens");
    let Io::Tcp(server) = accept.accept().await.expect("a caller") else {
        panic!("TCP");
    };
    assert!(sockopt::socket_keepalive(&server).expect("an option"));
    let idle = sockopt::tcp_keepidle(&server).expect("an option");
    assert_eq!(idle, Duration::from_secs(60));
}

/// The same of an upstream: a tunnel that is quiet by nature would wait for it for ever.
#[tokio::test]
async fn upstreams_that_vanish_are_noticed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let at = listener.local_addr().expect("a port");
    let Io::Tcp(client) = System.connect(at).await.expect("it listens") else {
        panic!("TCP");
    };
    assert!(sockopt::socket_keepalive(&client).expect("an option"));
    let idle = sockopt::tcp_keepidle(&client).expect("an option");
    assert_eq!(idle, Duration::from_secs(60));
}

/// The config takes a path of 103 bytes and no longer one.
#[test]
fn a_unix_socket_with_the_longest_path_is_bound() {
    let dir = tempfile::tempdir().expect("a folder");
    let name = "s".repeat(103 - dir.path().as_os_str().len() - 1);
    let path = dir.path().join(name);
    let at = Listen::Unix { path, mode: 0o600 };
    System.bind(&at).expect("bound");
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_a_dead_one_is_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("r.sock");
    let at = Listen::Unix {
        path: path.clone(),
        mode: 0o600,
    };
    let first = System.bind(&at).expect("bound");
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let taken = System.bind(&at).expect_err("in use");
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    drop(first);
    System.bind(&at).expect("the dead socket is replaced");
    std::fs::remove_file(&path).expect("there");
    std::fs::write(&path, "precious").expect("written");
    assert!(System.bind(&at).is_err(), "a file is left alone");
}

/// A caller's end in hand, so that nothing of it needs a turn of the runtime, and ours.
async fn tls_pair() -> (rustls::ClientConnection, std::net::TcpStream, Io) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let at = listener.local_addr().expect("bound");
    let mut caller = std::net::TcpStream::connect(at).expect("it listens");
    // What is written is there at once.
    caller.set_nodelay(true).expect("a socket");
    let (ours, _) = listener.accept().expect("a connection");
    ours.set_nonblocking(true).expect("a socket");
    let ours = Io::Tcp(TcpStream::from_std(ours).expect("a runtime"));

    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec!["svc.example".to_owned()]);
    let cert = params
        .and_then(|params| params.self_signed(&key))
        .expect("signed");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let server = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            key.serialize_der().try_into().expect("PKCS#8"),
        )
        .expect("a pair");
    let client = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "svc.example".try_into().expect("a name");
    let mut session = rustls::ClientConnection::new(Arc::new(client), name).expect("a session");
    let shake = std::thread::spawn(move || {
        session.complete_io(&mut caller).expect("a handshake");
        (session, caller)
    });
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let stream = Secured::agree(acceptor, ours).await.expect("a handshake");
    let (session, caller) = shake.join().expect("no panic");
    (session, caller, Io::Tls(Box::new(stream)))
}

#[tokio::test]
async fn what_is_in_a_socket_is_read_through_tls_without_a_turn() {
    let (mut session, mut caller, mut ours) = tls_pair().await;
    let mut record = |text: &[u8]| {
        session.writer().write_all(text).expect("room");
        let mut record = Vec::new();
        session.write_tls(&mut record).expect("room");
        record
    };
    let mut room = [0; 64];
    let mut buf = ReadBuf::new(&mut room);
    assert!(!ours.read_now(&mut buf), "nothing came");
    let (whole, cut, long) = (record(b"whole"), record(b" and cut"), record(&[b'x'; 9000]));
    caller.write_all(&whole).expect("room");
    assert!(ours.read_now(&mut buf));
    assert_eq!(buf.filled(), b"whole");
    caller.write_all(&cut[..9]).expect("room");
    assert!(!ours.is_midway(), "all of it was whole");
    assert!(!ours.read_now(&mut buf), "half a record");
    assert!(ours.is_midway());
    caller.write_all(&cut[9..]).expect("room");
    let mut rest = [0; 8];
    ours.read_exact(&mut rest).await.expect("it goes on");
    assert_eq!(&rest, b" and cut");
    assert!(!ours.is_midway());
    // One that needs more than a read.
    caller.write_all(&long).expect("room");
    assert!(ours.read_now(&mut ReadBuf::new(&mut [0; 9000])));
}

#[tokio::test]
async fn the_first_bytes_stay_to_be_read() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut caller = TcpStream::connect(listener.local_addr().expect("bound"))
        .await
        .expect("it listens");
    let (ours, _) = listener.accept().expect("a connection");
    ours.set_nonblocking(true).expect("a socket");
    let mut ours = Io::Tcp(TcpStream::from_std(ours).expect("a runtime"));
    let mut room = [0; 2];
    let (first, sent) = tokio::join!(ours.first_bytes(&mut room), caller.write_all(b"GET"));
    sent.expect("room");
    assert_eq!(first.expect("they came"), b"GE");
    let mut all = [0; 3];
    ours.read_exact(&mut all).await.expect("all of it");
    assert_eq!(&all, b"GET");
    drop(caller);
    assert_eq!(ours.first_bytes(&mut room).await.expect("the end"), b"");
}

#[tokio::test]
async fn a_socket_that_holds_little_takes_little_for_a_reader_that_takes_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let mut taken = [0; 2];
    for (holds_little, taken) in [false, true].into_iter().zip(&mut taken) {
        let _reader = std::net::TcpStream::connect(listener.local_addr().expect("bound"));
        let (ours, _) = listener.accept().expect("a connection");
        ours.set_nonblocking(true).expect("a socket");
        let io = Io::Tcp(TcpStream::from_std(ours).expect("a runtime"));
        if holds_little {
            io.holds_little();
        }
        let Io::Tcp(stream) = &io else { unreachable!() };
        stream.writable().await.expect("room");
        while let Ok(written) = stream.try_write(&[0; 8192]) {
            *taken += written;
        }
    }
    let [plain, little] = taken;
    assert!(little > 0 && little < plain, "{little} of {plain}");
}
