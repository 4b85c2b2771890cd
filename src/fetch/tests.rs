//! The real stack against hand-written servers on loopback.

use std::net::SocketAddr;
use std::path::Path;

use http::{HeaderValue, header};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;
use crate::dns::Lookup;

mod proxy;

const CANARY: &str = "canary-4711";

/// A server of raw bytes; it ends with the value.
struct Server {
    address: SocketAddr,
    connections: Arc<std::sync::atomic::AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Gives every connection to `answer`, with a place to note what came.
    async fn start<F, Fut>(answer: F) -> Server
    where
        F: Fn(TcpStream, Arc<Mutex<Vec<String>>>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let connections: Arc<std::sync::atomic::AtomicUsize> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (heads, connections) = (Arc::clone(&heads), Arc::clone(&connections));
            async move {
                let mut running = JoinSet::new();
                while let Ok((stream, _)) = listener.accept().await {
                    connections.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    running.spawn(answer(stream, Arc::clone(&heads)));
                }
            }
        });
        Server {
            address,
            connections,
            heads,
            _tasks: tasks,
        }
    }

    /// Answers every request with these bytes, and closes.
    async fn saying(answer: impl Into<String>) -> Server {
        let answer = answer.into();
        Server::start(move |mut stream, heads| {
            let answer = answer.clone();
            async move {
                let head = read_request(&mut stream).await;
                heads.lock().expect("no panic").push(head);
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address)
            .parse()
            .expect("a URL")
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }

    fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// A whole request, body included.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                return text.into_owned();
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&bytes).into_owned(),
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn get(url: Url) -> Request {
    Request {
        method: Method::GET,
        url,
        headers: HeaderMap::new(),
        form: Vec::new(),
        public_only: false,
    }
}

fn post(url: Url) -> Request {
    Request {
        method: Method::POST,
        form: vec![
            ("refresh", Secret::from(CANARY)),
            ("odd", Secret::from("a b&c=d%\n")),
        ],
        ..get(url)
    }
}

/// The stack, and the name server beneath it. The task ends with the third value.
fn stack_with(settings: &Settings) -> (Service, Arc<dns::fake::Fake>, JoinSet<()>) {
    let fake = dns::fake::Fake::new();
    let (resolver, task) =
        dns::Resolver::new(Arc::clone(&fake) as Arc<dyn Lookup>, Clock::system());
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    let service =
        service(settings, &tls::System::default(), resolver, Clock::system()).expect("a service");
    (service, fake, tasks)
}

async fn call(request: Request) -> Result<Response, Error> {
    let (service, _names, _tasks) = stack_with(&Settings::default());
    let answer = service.oneshot(request).await;
    if let Err(error) = &answer {
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
    }
    answer
}

#[tokio::test]
async fn an_answer_is_read_to_its_end() {
    let server = Server::saying(ok("hello")).await;
    let answer = call(get(server.url("/x"))).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body, "hello");
    let head = server.heads().remove(0).to_lowercase();
    assert!(head.starts_with("get /x http/1.1\r\n"), "{head}");
    assert!(head.contains("user-agent: regent/"), "{head}");
    assert!(!head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn fields_go_as_a_form() {
    let server = Server::saying(ok("")).await;
    call(post(server.url("/auth/"))).await.expect("an answer");
    let request = server.heads().remove(0);
    assert!(request.starts_with("POST /auth/ HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/x-www-form-urlencoded\r\n"));
    assert!(
        request.ends_with(&format!("\r\n\r\nrefresh={CANARY}&odd=a+b%26c%3Dd%25%0A")),
        "{request}"
    );
}

#[tokio::test]
async fn a_redirect_is_handed_back_and_nothing_is_posted_elsewhere() {
    let elsewhere = Server::saying(ok("")).await;
    for status in [301, 302, 303, 307, 308] {
        let server = Server::saying(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url("/steal")
        ))
        .await;
        let answer = call(post(server.url("/auth/refresh/")))
            .await
            .expect("the redirect");
        assert_eq!(answer.status.as_u16(), status);
        let head = server.heads().remove(0).to_lowercase();
        assert!(!head.contains("referer"), "{head}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn nothing_is_sent_twice() {
    for answer in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 2",
    ] {
        let server = Server::saying(answer).await;
        let error = call(post(server.url("/")))
            .await
            .expect_err("no whole answer");
        assert!(matches!(error, Error::Protocol(_)), "{error:?}");
        assert_eq!(server.connections(), 1, "{answer}");
    }
}

#[tokio::test]
async fn every_call_has_its_own_connection() {
    let server = Server::start(|mut stream, heads| async move {
        // Keeps the connection open, as a keep-alive server does.
        loop {
            let head = read_request(&mut stream).await;
            if head.is_empty() {
                return;
            }
            heads.lock().expect("no panic").push(head);
            let _ = stream.write_all(ok("x").as_bytes()).await;
        }
    })
    .await;
    let (service, _names, _tasks) = stack_with(&Settings::default());
    for _ in 0..3 {
        service
            .clone()
            .oneshot(get(server.url("/")))
            .await
            .expect("an answer");
    }
    assert_eq!(server.connections(), 3);
}

#[tokio::test]
async fn a_slow_answer_ends_at_the_total_timeout() {
    // What the server does after the request; none of it ever ends by itself.
    let drips: [&[u8]; 3] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n",
        b"",
    ];
    for first in drips {
        let server = Server::start(move |mut stream, _| async move {
            read_request(&mut stream).await;
            let mut next = first;
            while stream.write_all(next).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(10)).await;
                // The one that began its body goes on with it, a byte at a time.
                next = if first.ends_with(b"x") { b"x" } else { b"" };
            }
        })
        .await;
        let (service, _names, _tasks) = stack_with(&Settings {
            total_timeout: Duration::from_millis(300),
            ..Settings::default()
        });
        let error = service
            .oneshot(post(server.url("/")))
            .await
            .expect_err("too slow");
        assert_eq!(error, Error::Timeout);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_takes_ten_seconds_at_the_most_and_so_does_one_that_waits_its_turn() {
    // The region's calls, and those for an issuer's keys.
    for settings in [
        Settings::default(),
        crate::jwt::keys::fetch_settings(None, None),
    ] {
        let settings = Settings {
            concurrency: 1,
            ..settings
        };
        let service = stack(
            &settings,
            tower::service_fn(|_: Request| std::future::pending::<Result<Response, Error>>()),
        );
        let url: Url = "http://127.0.0.1/".parse().expect("a URL");
        let began = tokio::time::Instant::now();
        let (one, two) = tokio::join!(
            service.clone().oneshot(get(url.clone())),
            service.clone().oneshot(get(url)),
        );
        assert_eq!(one.expect_err("it never ends"), Error::Timeout);
        assert_eq!(two.expect_err("it never begins"), Error::Timeout);
        assert_eq!(began.elapsed(), Duration::from_secs(10));
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_cut() {
    let announced =
        Server::saying("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nxxxx").await;
    assert_eq!(
        call(get(announced.url("/"))).await.expect_err("1 GB"),
        Error::TooLarge(BODY_LIMIT)
    );

    let sent = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let endless = Server::start({
        let sent = Arc::clone(&sent);
        move |mut stream, _| {
            let sent = Arc::clone(&sent);
            async move {
                read_request(&mut stream).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
                // 1 GiB, were it read.
                for _ in 0..65_536 {
                    if stream.write_all(chunk.as_bytes()).await.is_err() {
                        return;
                    }
                    sent.fetch_add(chunk.len(), std::sync::atomic::Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    assert_eq!(
        call(get(endless.url("/"))).await.expect_err("endless"),
        Error::TooLarge(BODY_LIMIT)
    );
    // What fits into the sockets' buffers, and no more.
    assert!(sent.load(std::sync::atomic::Ordering::SeqCst) < 64 * 1024 * 1024);

    let body = "y".repeat(BODY_LIMIT);
    let whole = Server::saying(ok(&body)).await;
    assert_eq!(call(get(whole.url("/"))).await.expect("64 KiB").body, body);
}

#[tokio::test]
async fn a_service_may_be_given_another_limit_of_bodies() {
    let chunked = |length: usize| {
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{}\r\n0\r\n\r\n",
            "y".repeat(length)
        )
    };
    for limit in [100, 4 * BODY_LIMIT] {
        let (service, _names, _tasks) = stack_with(&Settings {
            body_limit: limit,
            ..Settings::default()
        });
        for (length, fits) in [(limit, true), (limit + 1, false)] {
            for answer in [ok(&"y".repeat(length)), chunked(length)] {
                let server = Server::saying(answer).await;
                let got = service.clone().oneshot(get(server.url("/"))).await;
                match got {
                    Ok(answer) => assert!(fits && answer.body.len() == length),
                    Err(error) => assert!(!fits && error == Error::TooLarge(limit), "{error:?}"),
                }
            }
        }
    }
    let said = Error::TooLarge(4 * BODY_LIMIT).to_string();
    assert!(said.contains("256 KiB"), "{said}");
}

#[tokio::test]
async fn a_dropped_call_closes_its_connection() {
    let (got, closed) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let server = Server::start({
        let (got, closed) = (Arc::clone(&got), Arc::clone(&closed));
        move |mut stream, _| {
            let (got, closed) = (Arc::clone(&got), Arc::clone(&closed));
            async move {
                read_request(&mut stream).await;
                got.notify_one();
                let mut byte = [0];
                if !matches!(stream.read(&mut byte).await, Ok(length) if length > 0) {
                    closed.notify_one();
                }
            }
        }
    })
    .await;
    let (service, _names, _tasks) = stack_with(&Settings::default());
    tokio::select! {
        _ = service.oneshot(post(server.url("/"))) => panic!("there is no answer"),
        () = got.notified() => {}
    }
    tokio::time::timeout(Duration::from_secs(30), closed.notified())
        .await
        .expect("the server sees the end of the connection");
}

#[tokio::test]
async fn what_went_wrong_has_a_class_and_a_line() {
    // A port that nothing listens on any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let refused: Url = format!(
        "http://{}/?q={CANARY}",
        gone.local_addr().expect("an address")
    )
    .parse()
    .expect("a URL");
    drop(gone);
    let error = call(post(refused)).await.expect_err("refused");
    assert!(
        matches!(&error, Error::Connect(why) if why.contains("refused")),
        "{error:?}"
    );

    let ssh = Server::saying("SSH-2.0-OpenSSH_9.6\r\n").await;
    let error = call(post(ssh.url(&format!("/?q={CANARY}"))))
        .await
        .expect_err("not HTTP");
    assert!(
        matches!(&error, Error::Protocol(why) if why.contains("no HTTP/1.1")),
        "{error:?}"
    );

    let unknown = format!("http://nowhere.example/?q={CANARY}")
        .parse()
        .expect("a URL");
    let error = call(post(unknown)).await.expect_err("no such name");
    assert!(
        matches!(&error, Error::Dns(why) if why.contains("nowhere.example")),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_name_server_gets_the_blame() {
    let (service, names, _tasks) = stack_with(&Settings::default());
    names.set("slow.example", &["127.0.0.1"], Duration::from_secs(60));
    names.delay(Duration::from_secs(3600));
    let error = service
        .oneshot(get("http://slow.example/".parse().expect("a URL")))
        .await
        .expect_err("no address");
    assert!(
        matches!(&error, Error::Dns(why) if why.contains("in time")),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_name_is_resolved_by_our_resolver_and_keeps_the_urls_port() {
    let server = Server::saying(ok("hello")).await;
    let (service, names, _tasks) = stack_with(&Settings::default());
    names.set("region.example", &["127.0.0.1"], Duration::from_secs(60));
    let url = format!("http://region.example:{}/", server.address.port());
    let answer = service
        .oneshot(get(url.parse().expect("a URL")))
        .await
        .expect("an answer");
    assert_eq!(answer.body, "hello");
    assert!(server.heads()[0].contains(&format!("host: region.example:{}", server.address.port())));
}

#[tokio::test]
async fn an_address_that_does_not_answer_is_passed_over() {
    let server = Server::saying(ok("hello")).await;
    let (service, names, _tasks) = stack_with(&Settings::default());
    // The server listens on neither of the first two; the one of IPv6 may not even have a route.
    let addresses = ["::1", "127.0.0.2", "127.0.0.1"];
    names.set("region.example", &addresses, Duration::from_secs(60));
    let url = format!("http://region.example:{}/", server.address.port());
    let answer = service
        .oneshot(get(url.parse().expect("a URL")))
        .await
        .expect("an answer");
    assert_eq!(answer.body, "hello");
}

/// What a document names is judged when it is called: a name may lead elsewhere by then.
#[tokio::test]
async fn another_s_word_leads_to_no_address_inside_a_network() {
    let server = Server::saying(ok("metadata")).await;
    let (service, names, _tasks) = stack_with(&Settings::default());
    let port = server.address.port();
    let inside = [
        "127.0.0.1",
        "::1",
        "169.254.169.254",
        "10.0.0.1",
        "fd00:ec2::254",
    ];
    names.set("inside.example", &inside, Duration::from_secs(60));
    let call = async |host: &str, public_only: bool| {
        let url = format!("http://{host}:{port}/");
        let request = Request {
            public_only,
            ..get(url.parse().expect("a URL"))
        };
        service.clone().oneshot(request).await
    };
    for host in [
        "inside.example",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let error = call(host, true).await.expect_err(host);
        let refused = |why: &str| why.contains("not on the public internet");
        assert!(
            matches!(&error, Error::Connect(why) if refused(why)),
            "{host}: {error:?}"
        );
    }
    assert!(server.heads().is_empty(), "it was called");
    let answer = call("inside.example", false)
        .await
        .expect("the config's word");
    assert_eq!(answer.body, "metadata");
}

/// Runs other tests in a process whose environment names a proxy that answers nothing, and says that
/// no host has one.
#[test]
fn what_the_environment_says_of_proxies_is_ignored() {
    let output = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "fetch::tests::an_answer_is_read_to_its_end",
            "fetch::tests::proxy::an_https_url_is_reached_by_a_tunnel_that_hides_all_but_host_and_port",
        ])
        .envs(
            [
                "HTTP_PROXY",
                "http_proxy",
                "HTTPS_PROXY",
                "https_proxy",
                "ALL_PROXY",
                "all_proxy",
            ]
            .map(|name| (name, "http://127.0.0.1:1")),
        )
        .envs(["NO_PROXY", "no_proxy"].map(|name| (name, "*")))
        .output()
        .expect("a run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("2 passed"),
        "{said}"
    );
}

#[test]
fn no_secret_is_printed() {
    let mut request = post(
        format!("https://user:{CANARY}@region.example/a?token={CANARY}#{CANARY}")
            .parse()
            .expect("a URL"),
    );
    request
        .headers
        .insert(header::AUTHORIZATION, HeaderValue::from_static(CANARY));
    let response = Response {
        status: StatusCode::OK,
        headers: HeaderMap::new(),
        body: Bytes::from(CANARY),
    };
    let said = format!("{request:?} {response:?}");
    assert!(!said.contains(CANARY), "{said}");
    assert!(said.contains("https://region.example/a"), "{said}");
}

/// A CA and what it signs.
struct Ca(rcgen::CertifiedIssuer<'static, rcgen::KeyPair>);

impl Ca {
    fn new() -> Ca {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        Ca(rcgen::CertifiedIssuer::self_signed(params, key).expect("a CA"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// An acceptor with a certificate for `name`, good until the end of `until`.
    fn acceptor(&self, name: &str, until: i32) -> tokio_rustls::TlsAcceptor {
        let mut params = rcgen::CertificateParams::new(vec![name.into()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .expect("the default versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .expect("a key that fits");
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }

    async fn server(&self, name: &str, until: i32) -> Server {
        let acceptor = self.acceptor(name, until);
        Server::start(move |stream, heads| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    serve_one(&mut stream, &heads).await;
                }
            }
        })
        .await
    }
}

async fn serve_one(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), heads: &Mutex<Vec<String>>) {
    let head = read_request(stream).await;
    heads.lock().expect("no panic").push(head);
    let _ = stream.write_all(ok("hello").as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn https(server: &Server) -> Url {
    format!("https://localhost:{}/?q={CANARY}", server.address.port())
        .parse()
        .expect("a URL")
}

fn trusting(path: &Path) -> Settings {
    Settings {
        ca_file: Some(path.to_owned()),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_named_with_the_remedy() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), ours.pem()).expect("a write");
    let (service, _names, _tasks) = stack_with(&trusting(file.path()));

    let good = ours.server("localhost", 2200).await;
    let answer = service
        .clone()
        .oneshot(post(https(&good)))
        .await
        .expect("an answer");
    assert_eq!(answer.body, "hello");

    let plain = Server::start(|mut stream, _| async move {
        let mut hello = [0; 4096];
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    })
    .await;
    for (server, expected) in [
        (ours.server("localhost", 2021).await, "has expired"),
        (
            ours.server("other.example", 2200).await,
            "not valid for name \"localhost\"",
        ),
        (theirs.server("localhost", 2200).await, "region.ca_file"),
        (plain, "does not speak TLS"),
    ] {
        let error = service
            .clone()
            .oneshot(post(https(&server)))
            .await
            .expect_err(expected);
        assert!(
            matches!(&error, Error::Tls(why) if why.contains(expected)),
            "{error:?}"
        );
        assert!(!format!("{error} {error:?}").contains(CANARY), "{error}");
        // Whatever the server saw, it was no request of ours.
        assert!(!server.heads().concat().contains(CANARY));
    }
}

#[tokio::test]
async fn a_renewed_ca_file_works_without_a_restart() {
    let (old, new) = (Ca::new(), Ca::new());
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), old.pem()).expect("a write");
    let (service, _names, _tasks) = stack_with(&trusting(file.path()));
    let server = new.server("localhost", 2200).await;

    let error = service
        .clone()
        .oneshot(post(https(&server)))
        .await
        .expect_err("unknown CA");
    assert!(matches!(error, Error::Tls(_)), "{error:?}");

    // Half-written: nothing gets better, nothing gets worse.
    std::fs::write(file.path(), &new.pem()[..100]).expect("a write");
    let error = service
        .clone()
        .oneshot(post(https(&server)))
        .await
        .expect_err("unknown CA");
    assert!(matches!(error, Error::Tls(_)), "{error:?}");

    std::fs::write(file.path(), new.pem()).expect("a write");
    service
        .clone()
        .oneshot(post(https(&server)))
        .await
        .expect("the new CA is known");
    let error = service
        .oneshot(post(https(&old.server("localhost", 2200).await)))
        .await;
    assert!(
        matches!(error, Err(Error::Tls(_))),
        "the old CA is gone: {error:?}"
    );
}

#[tokio::test]
async fn a_ca_file_with_a_mistake_is_no_service() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let (resolver, _task) = dns::Resolver::new(dns::fake::Fake::new(), Clock::system());
    let error = service(
        &trusting(file.path()),
        &tls::System::default(),
        resolver,
        Clock::system(),
    )
    .expect_err("an empty file");
    assert!(error.to_string().contains("no certificate"), "{error}");
}

#[test]
fn a_client_of_plain_http_reads_no_roots() {
    for (is_plain, ca_file) in [(true, None), (false, None), (true, Some("/does/not/exist"))] {
        let system = tls::System::default();
        let settings = Settings {
            is_plain,
            ca_file: ca_file.map(Into::into),
            ..Settings::default()
        };
        let (resolver, _lookups) = dns::Resolver::new(dns::fake::Fake::new(), Clock::system());
        let made = service(&settings, &system, resolver, Clock::system());
        // A file that the config names is looked at all the same.
        assert_eq!(made.is_ok(), ca_file.is_none());
        assert_eq!(system.is_read(), !is_plain && ca_file.is_none());
    }
}
