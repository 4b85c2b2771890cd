//! Over real sockets: redirects and large answers.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::dns;

/// Answers every request with the same bytes; it ends with the value.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn saying(answer: String) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections: Arc<AtomicUsize> = Arc::default();
        let mut tasks = JoinSet::new();
        let count = Arc::clone(&connections);
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Relaxed);
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Server {
            address,
            connections,
            _tasks: tasks,
        }
    }

    async fn ok(body: &str) -> Server {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        Server::saying(head + body).await
    }

    fn url(&self) -> Url {
        url(&format!("http://{}/jwks", self.address))
    }
}

/// The keys there, by the real way out.
async fn look(source: Source) -> Keys {
    let clock = Clock::system();
    let (resolver, _lookups) = dns::Resolver::new(dns::fake::Fake::new(), clock.clone());
    let service = fetch::service(
        &fetch_settings(None, None),
        &crate::tls::System::default(),
        resolver,
        clock.clone(),
    );
    let settings = settings("west", source, Some(service.expect("a service")));
    let snapshot = fetch_once(vec![settings], deps(&clock, 1)).await;
    snapshot.issuers[0].clone()
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::ok(&fake::one("stolen")).await;
    for status in [301, 302, 303, 307, 308] {
        let from = Server::saying(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
            elsewhere.url()
        ))
        .await;
        for source in [
            Source::JwksUrl(from.url()),
            Source::DiscoveryUrl(from.url()),
        ] {
            let keys = look(source).await;
            let why = keys.trouble.expect("refused");
            assert!(keys.set.is_none());
            assert!(why.contains("not followed"), "{why}");
        }
        assert_eq!(from.connections.load(Relaxed), 2);
    }
    assert_eq!(elsewhere.connections.load(Relaxed), 0);
}

#[tokio::test]
async fn a_set_may_have_256_kib_and_not_a_byte_more() {
    let set = fake::one("large");
    for (length, fits) in [(BODY_LIMIT, true), (BODY_LIMIT + 1, false)] {
        let padded = format!("{set}{}", " ".repeat(length - set.len()));
        let server = Server::ok(&padded).await;
        let keys = look(Source::JwksUrl(server.url())).await;
        assert_eq!(keys.set.is_some(), fits, "{keys:?}");
        if let Some(why) = keys.trouble {
            // It is not even read to its end.
            assert!(why.contains("no answer from"), "{why}");
            assert!(why.contains("256 KiB"), "{why}");
        }
    }
}

#[tokio::test]
async fn a_length_that_is_not_true_brings_no_keys() {
    let set = fake::one("cut");
    let length = set.len();
    for (said, expected) in [
        (length - 1, "cannot be used"),
        (length + 1, "broke off"),
        (1_000_000_000, "256 KiB"),
        (usize::MAX, "no HTTP/1.1 answer"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {said}\r\n\r\n");
        let server = Server::saying(head + &set).await;
        let keys = look(Source::JwksUrl(server.url())).await;
        let why = keys.trouble.expect("refused");
        assert!(keys.set.is_none());
        assert!(why.contains(expected), "{said}: {why}");
    }
}

#[tokio::test]
async fn a_document_on_this_machine_leads_to_keys_on_this_machine() {
    let keys = Server::ok(&fake::one("near")).await;
    let document = format!(
        r#"{{"issuer":"https://west.example","jwks_uri":"{}"}}"#,
        keys.url()
    );
    let server = Server::ok(&document).await;
    let found = look(Source::DiscoveryUrl(server.url())).await;
    assert_eq!(kids(&found, Boot::default()), ["near"], "{found:?}");
}
