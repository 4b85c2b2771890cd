//! The same region over real sockets.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Long enough for any machine: reaching it means that something hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `test` beside the server.
async fn beside(server: Server, test: impl Future<Output = ()>) {
    tokio::select! {
        ended = server.run() => panic!("the server ended: {ended:?}"),
        () = test => {}
        () = tokio::time::sleep(DEADLINE) => panic!("the test hangs"),
    }
}

async fn exchange(address: SocketAddr, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn post_refresh(token: &Secret) -> String {
    let body = format!("refresh={}", token.expose());
    format!(
        "POST {REFRESH} HTTP/1.1\r\nhost: region\r\nconnection: close\r\n\
         content-type: {FORM}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn fetch_with(token: &Secret, path: &str) -> String {
    let token = token.expose();
    format!(
        "GET {path} HTTP/1.1\r\nhost: region\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_refresh_works_over_a_socket() {
    let (region, _) = region();
    let server = region.bind(ANY, Part::Region).expect("a free port");
    let address = server.address();
    beside(server, async {
        let answer = exchange(address, &post_refresh(&alice(&region))).await;
        let answer = answer.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        // The region's own clock, which is not this machine's.
        assert!(answer.contains("date: Fri, 15 Jan 2027 08:0"), "{answer}");
        assert_eq!(answer.matches("date: ").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_outage_refuses_connections_and_leaves_the_workload_alone() {
    let (region, _) = region();
    let server = region.bind(ANY, Part::Region).expect("a free port");
    let workload = region.bind(ANY, Part::Workload).expect("a free port");
    let (address, workload_address) = (server.address(), workload.address());
    let mut token = alice(&region);
    let test = async {
        for _ in 0..3 {
            let kept_alive = TcpStream::connect(address).await.expect("up");
            region.down(Outage::Refuse);
            let mut tries = 0;
            while let Ok(stream) = TcpStream::connect(address).await {
                // The server has not been polled yet.
                drop(stream);
                tries += 1;
                assert!(tries < 10_000);
                tokio::task::yield_now().await;
            }
            let mut rest = Vec::new();
            let mut kept_alive = kept_alive;
            let _ = kept_alive.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
            let access = alice_access(&region);
            let answer = exchange(workload_address, &fetch_with(&access, "/whoami")).await;
            let answer = answer.expect("the workload is up");
            assert!(answer.ends_with(r#"{"user":"alice"}"#), "{answer}");

            region.up();
            let answer = loop {
                match exchange(address, &post_refresh(&token)).await {
                    Ok(answer) => break answer,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            let body = answer.split("\r\n\r\n").nth(1).expect("a body");
            token = tokens(body).1.expect("rotation is on");
        }
    };
    beside(server, async {
        tokio::select! {
            ended = workload.run() => panic!("the workload ended: {ended:?}"),
            () = test => {}
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_region_takes_the_connection_and_says_nothing() {
    let (region, _) = region();
    let server = region.bind(ANY, Part::Region).expect("a free port");
    let address = server.address();
    beside(server, async {
        region.down(Outage::Silent);
        let token = alice(&region);
        let request = post_refresh(&token);
        let asked = exchange(address, &request);
        let silence = tokio::time::timeout(Duration::from_millis(100), asked).await;
        assert!(silence.is_err());
        assert_eq!(region.count(Kind::Refresh), 0);
        region.up();
        let answer = exchange(address, &request).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_answer_spends_the_token_and_closes_the_connection() {
    let (region, _) = region();
    let server = region.bind(ANY, Part::Region).expect("a free port");
    let address = server.address();
    beside(server, async {
        region.fail_next(1, Fault::Cut);
        let request = post_refresh(&alice(&region));
        // Closed without a byte, or reset: either way there is no answer.
        assert_eq!(exchange(address, &request).await.unwrap_or_default(), "");
        let answer = exchange(address, &request).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert_eq!(region.calls()[0].status, None);
    })
    .await;
}

#[tokio::test]
async fn the_echo_believes_headers_and_shows_every_spelling_of_them() {
    let (region, _) = region();
    let server = region.bind(ANY, Part::Echo).expect("a free port");
    let address = server.address();
    beside(server, async {
        let get = |path: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nhost: workload\r\nconnection: close\r\n\
                 authorization: Bearer canary\r\nx-regent-user: west:bob\r\n\
                 x-regent-user: alice\r\nX_Regent_User: mallory\r\nx-regent-hop: 1\r\n\
                 x-regent-issuer: west\r\nx-token-id: west:0123456789\r\n\r\n"
            )
        };
        let answer = exchange(address, &get("/orders")).await.expect("an echo");
        let seen = r#"{"x-regent-issuer":"west","x-regent-user":"west:bob, alice","x-token-id":"west:0123456789","x_regent_user":"mallory"}"#;
        assert!(answer.contains(seen), "{answer}");
        assert!(answer.contains("\"authorization\"") && !answer.contains("canary"));
        let answer = exchange(address, &get("/whoami")).await.expect("a name");
        let name = r#"{"issuer":"west","token":"01234567","user":"west:bob"}"#;
        assert!(answer.contains(name), "{answer}");
    })
    .await;
    assert_eq!((region.count(Kind::Echo), region.count(Kind::Api)), (2, 0));
}

#[tokio::test]
async fn the_workload_streams_events_and_counts_long_bodies() {
    let (region, _) = region();
    let server = region.bind(ANY, Part::Workload).expect("a free port");
    let address = server.address();
    beside(server, async {
        let access = alice_access(&region);
        let answer = exchange(address, &fetch_with(&access, "/events")).await;
        let answer = answer.expect("events");
        assert!(answer.contains("content-type: text/event-stream\r\n"));
        assert_eq!(answer.matches("data: event ").count(), 5);

        let answer = exchange(address, &fetch_with(&access, "/bytes/100000")).await;
        let answer = answer.expect("bytes");
        assert!(answer.contains("content-length: 100000\r\n"), "{answer}");
        assert_eq!(answer.split("\r\n\r\n").nth(1).map(str::len), Some(100_000));

        let body = "x".repeat(300_000);
        let request = format!(
            "PUT /up HTTP/1.1\r\nhost: region\r\nconnection: close\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{body}",
            access.expose(),
            body.len()
        );
        let answer = exchange(address, &request).await.expect("an echo");
        assert!(answer.contains(r#""body_bytes":300000"#), "{answer}");
    })
    .await;
}
