use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::fake::Fate::{Accepts, Fails, Silent};
use super::fake::Fates;
use super::*;
use crate::clock::Clock;
use crate::config::Listen;
use crate::dns::fake::Fake;
use crate::dns::{self, Resolver};
use crate::net::{Accept, Listener, Memory};

const HOST: &str = "upstream.example";
const LONG: Duration = Duration::from_secs(60);

/// A resolver, and the name server behind it, whose task ends with the third.
fn names() -> (Resolver, Arc<Fake>, JoinSet<()>) {
    let fake = Fake::new();
    let lookup = Arc::clone(&fake) as Arc<dyn dns::Lookup>;
    let (resolver, task) = Resolver::new(lookup, Clock::manual(1_800_000_000));
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    (resolver, fake, tasks)
}

fn upstream(address: Address) -> Upstream {
    Upstream {
        origin: format!("http://{HOST}"),
        host: http::HeaderValue::from_static(HOST),
        address,
        tls: None,
        protocol: Protocol::H1,
        prefix: String::new(),
        connect_timeout: Duration::from_secs(5),
        response_timeout: None,
    }
}

async fn dial(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    let dialed = super::dial(net, upstream, Protocol::H1).await;
    dialed.map(|(io, _)| io)
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_of_two_costs_a_quarter_of_a_second_and_asks_nobody_again() {
    let (resolver, fake, _tasks) = names();
    fake.set(HOST, &["2001:db8::1", "192.0.2.1"], LONG);
    let net = Fates::new([
        (at("[2001:db8::1]:80"), Silent),
        (at("192.0.2.1:80"), Accepts(Duration::ZERO)),
    ]);
    let upstream = upstream(Address::Tcp(resolver.name(HOST, 80)));
    dial(&net, &upstream).await.expect("the second one");
    assert_eq!(net.began.elapsed(), Duration::from_millis(250));
    pass(2).await;
    assert_eq!(fake.asked(), [HOST]);
}

#[tokio::test(start_paused = true)]
async fn where_all_addresses_are_dead_the_time_is_the_limit_and_the_name_is_asked_for_again() {
    let (resolver, fake, _tasks) = names();
    fake.set(HOST, &["192.0.2.1", "192.0.2.2"], LONG);
    let net = Fates::new([(at("192.0.2.1:80"), Silent), (at("192.0.2.2:80"), Silent)]);
    let upstream = upstream(Address::Tcp(resolver.name(HOST, 80)));
    let refusal = dial(&net, &upstream).await.expect_err("nobody answers");
    assert_eq!(net.began.elapsed(), upstream.connect_timeout);
    assert_eq!(refusal.reason, Reason::UpstreamTimeout);
    assert!(
        refusal.detail.contains("limits.connect_timeout"),
        "{refusal:?}"
    );
    assert_eq!(*net.under_way.lock().expect("no panic"), 0);
    pass(1).await;
    assert_eq!(fake.asked(), [HOST, HOST]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_has_moved_is_found_at_its_new_address() {
    let (resolver, fake, _tasks) = names();
    fake.set(HOST, &["192.0.2.1"], LONG);
    let refused = Fails(Duration::ZERO, std::io::ErrorKind::ConnectionRefused);
    let net = Fates::new([
        (at("192.0.2.1:80"), refused),
        (at("192.0.2.2:80"), Accepts(Duration::ZERO)),
    ]);
    let upstream = upstream(Address::Tcp(resolver.name(HOST, 80)));
    resolver
        .name(HOST, 80)
        .resolved()
        .await
        .expect("an address");
    fake.set(HOST, &["192.0.2.2"], LONG);
    pass(2).await;
    let refusal = dial(&net, &upstream).await.expect_err("nobody is there");
    assert_eq!(refusal.reason, Reason::UpstreamUnreachable);
    pass(1).await;
    dial(&net, &upstream).await.expect("it has moved");
    assert_eq!(fake.asked(), [HOST, HOST]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_not_there_is_said() {
    let (resolver, _fake, _tasks) = names();
    let upstream = upstream(Address::Tcp(resolver.name(HOST, 80)));
    let refusal = dial(&Fates::new([]), &upstream).await.expect_err("no name");
    assert_eq!(refusal.reason, Reason::UpstreamUnreachable);
    assert!(refusal.detail.contains("does not exist"), "{refusal:?}");
}

/// A proxy that says this to the first CONNECT, and what it heard.
struct Proxied {
    net: Memory,
    upstream: Upstream,
    accept: Accept,
    names: Arc<Fake>,
    _tasks: JoinSet<()>,
}

const PROXY: &str = "proxy.example";

impl Proxied {
    fn new(authorization: Option<&'static str>) -> Proxied {
        let (resolver, names, tasks) = names();
        names.set(PROXY, &["192.0.2.9"], LONG);
        let net = Memory::default();
        let listener = net.bind(&Listen::Tcp(at("192.0.2.9:3128")));
        let accept = listener.and_then(Listener::start).expect("pipes");
        let via = Via {
            shown: format!("http://{PROXY}:3128"),
            name: resolver.name(PROXY, 3128),
            target: format!("{HOST}:443"),
            authorization: authorization.map(http::HeaderValue::from_static),
        };
        Proxied {
            net,
            upstream: upstream(Address::Behind(via)),
            accept,
            names,
            _tasks: tasks,
        }
    }

    /// What comes of it where the proxy answers this and ends.
    async fn dial(&mut self, answer: &[u8]) -> (Result<Io, Refusal>, String) {
        let proxy = async {
            let mut io = self.accept.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(io.read_u8().await.expect("a head"));
            }
            io.write_all(answer).await.expect("room");
            io.shutdown().await.expect("open");
            (io, String::from_utf8(head).expect("text"))
        };
        let (outcome, (io, head)) = tokio::join!(dial(&self.net, &self.upstream), proxy);
        drop(io);
        (outcome, head)
    }

    async fn refusal(&mut self, answer: &[u8]) -> Refusal {
        let (outcome, _) = self.dial(answer).await;
        outcome.expect_err("no way")
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_is_asked_for_a_way_and_all_behind_its_answer_is_the_upstreams() {
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nVia: 1.0 tinyproxy\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 204 \n\n",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let mut proxied = Proxied::new(None);
        let whole = format!("{answer}hello");
        let (outcome, head) = proxied.dial(whole.as_bytes()).await;
        let mut said = String::new();
        let mut io = outcome.expect("a way");
        io.read_to_string(&mut said).await.expect("the rest");
        assert_eq!(said, "hello", "{answer}");
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            head,
            format!(
                "CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\nUser-Agent: regent/{version}\r\n\r\n"
            )
        );
        // The upstream's name is the proxy's to look up.
        assert_eq!(proxied.names.asked(), [PROXY]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_we_are_is_told_to_the_proxy_and_shown_to_nobody() {
    let mut proxied = Proxied::new(Some("Basic Y2FuYXJ5"));
    let (outcome, head) = proxied.dial(b"HTTP/1.1 200 OK\r\n\r\n").await;
    outcome.expect("a way");
    assert!(
        head.contains("\r\nProxy-Authorization: Basic Y2FuYXJ5\r\n"),
        "{head}"
    );
    let refusal = proxied.refusal(b"HTTP/1.1 401 x\r\n\r\n").await;
    assert!(!format!("{refusal:?}").contains("Y2Fu"), "{refusal:?}");
    assert!(
        refusal
            .detail
            .contains("does not take the user and password"),
        "{refusal:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_proxy_refuses_names_it_its_status_and_the_next_step() {
    for (answer, next) in [
        (
            "HTTP/1.1 407 Who?\r\nProxy-Authenticate: Basic\r\n\r\n",
            "http://USER:PASSWORD@HOST:PORT",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
            "must allow CONNECT",
        ),
        ("HTTP/1.0 405 x\r\n\r\n", "must allow CONNECT"),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login/\r\n\r\n",
            "must allow CONNECT",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "cannot reach that itself",
        ),
        ("HTTP/1.1 504 x\r\n\r\n", "cannot reach that itself"),
    ] {
        let refusal = Proxied::new(None).refusal(answer.as_bytes()).await;
        assert_eq!(refusal.reason, Reason::UpstreamUnreachable, "{answer}");
        let status = &answer[9..12];
        let start = format!(
            "http://{HOST} cannot be reached: the proxy http://{PROXY}:3128 answered {status} to \
             CONNECT {HOST}:443: "
        );
        assert!(refusal.detail.starts_with(&start), "{refusal:?}");
        assert!(refusal.detail.contains(next), "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_of_a_proxy_is_said() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(20_000));
    for nonsense in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "\r\n",
        &long,
    ] {
        let refusal = Proxied::new(None).refusal(nonsense.as_bytes()).await;
        assert_eq!(refusal.reason, Reason::UpstreamProtocol, "{nonsense}");
        assert!(refusal.detail.contains(PROXY), "{refusal:?}");
    }
    for cut in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nVia: x\r\n"] {
        let refusal = Proxied::new(None).refusal(cut.as_bytes()).await;
        assert_eq!(refusal.reason, Reason::UpstreamUnreachable, "{cut}");
        assert!(
            refusal.detail.contains("closed the connection"),
            "{refusal:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_not_there_or_says_nothing_is_named() {
    let proxied = Proxied::new(None);
    let began = tokio::time::Instant::now();
    let refusal = dial(&proxied.net, &proxied.upstream).await;
    let refusal = refusal.expect_err("it says nothing");
    assert_eq!(began.elapsed(), proxied.upstream.connect_timeout);
    assert_eq!(refusal.reason, Reason::UpstreamTimeout);
    assert!(refusal.detail.contains(PROXY), "{refusal:?}");
    proxied.net.unbind(at("192.0.2.9:3128"));
    let refusal = dial(&proxied.net, &proxied.upstream).await;
    let refusal = refusal.expect_err("it is not there");
    assert_eq!(refusal.reason, Reason::UpstreamUnreachable);
    let start =
        format!("the proxy http://{PROXY}:3128, the way to http://{HOST}, cannot be reached");
    assert!(refusal.detail.starts_with(&start), "{refusal:?}");
}
