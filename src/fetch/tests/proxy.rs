//! Calls through a proxy: what it gets to see, and what is said where it does not help.

use super::*;

const REGION: &str = "region.example";

/// A proxy that opens ways to `target`, whatever it is asked for, and answers other requests itself.
async fn proxy(target: SocketAddr) -> Server {
    Server::start(move |mut stream, heads| async move {
        let head = read_request(&mut stream).await;
        let is_connect = head.starts_with("CONNECT ");
        heads.lock().expect("no panic").push(head);
        if !is_connect {
            let _ = stream.write_all(ok("from the proxy").as_bytes()).await;
            return;
        }
        let mut there = TcpStream::connect(target).await.expect("it listens");
        let established = b"HTTP/1.1 200 Connection established\r\n\r\n";
        stream.write_all(established).await.expect("a reader");
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
    })
    .await
}

/// With a CA, and a name for the proxy and for nothing else.
fn behind(
    proxy: &Server,
    userinfo: &str,
    ca: Option<&Path>,
) -> (Service, Arc<dns::fake::Fake>, JoinSet<()>) {
    let url = format!("http://{userinfo}proxy.example:{}", proxy.address.port());
    let settings = Settings {
        ca_file: ca.map(Path::to_owned),
        proxy: Some(url.parse().expect("a proxy")),
        ..Settings::default()
    };
    let (service, names, tasks) = stack_with(&settings);
    names.set("proxy.example", &["127.0.0.1"], Duration::from_secs(60));
    (service, names, tasks)
}

fn url(text: &str) -> Url {
    text.parse().expect("a URL")
}

#[tokio::test]
async fn an_https_url_is_reached_by_a_tunnel_that_hides_all_but_host_and_port() {
    let ca = Ca::new();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), ca.pem()).expect("a write");
    let region = ca.server(REGION, 2200).await;
    let proxy = proxy(region.address).await;
    for (userinfo, authorization) in [
        ("", None),
        ("alice:p%40ss@", Some("Basic YWxpY2U6cEBzcw==")),
    ] {
        let (service, names, _tasks) = behind(&proxy, userinfo, Some(file.path()));
        let request = post(url(&format!("https://{REGION}/auth/?q={CANARY}")));
        let answer = service.oneshot(request).await.expect("an answer");
        assert_eq!(answer.body, "hello");
        let asked = proxy.heads().pop().expect("it was asked");
        let start = format!("CONNECT {REGION}:443 HTTP/1.1\r\nHost: {REGION}:443\r\n");
        assert!(asked.starts_with(&start), "{asked}");
        let line = (asked.lines()).find(|line| line.to_lowercase().starts_with("proxy-auth"));
        let value = line.and_then(|line| line.split_once(": "));
        assert_eq!(value.map(|(_, value)| value), authorization, "{asked}");
        assert!(!asked.contains(CANARY), "{asked}");
        // The region is told nothing of the proxy, and its name is not ours to look up.
        let seen = region.heads().pop().expect("it was called");
        assert!(seen.contains(CANARY), "{seen}");
        assert!(!seen.to_lowercase().contains("proxy"), "{seen}");
        assert_eq!(names.asked(), ["proxy.example"]);
    }
}

#[tokio::test]
async fn loopback_is_reached_directly() {
    let server = Server::saying(ok("hello")).await;
    let proxy = proxy(server.address).await;
    let (service, _names, _tasks) = behind(&proxy, "", None);
    for host in ["127.0.0.1", "localhost", "a.localhost"] {
        let url = url(&format!("http://{host}:{}/", server.address.port()));
        let answer = service.clone().oneshot(get(url)).await.expect("an answer");
        assert_eq!(answer.body, "hello", "{host}");
    }
    assert_eq!(proxy.connections(), 0);
}

#[tokio::test]
async fn a_plain_url_is_asked_of_the_proxy() {
    let proxy = proxy(SocketAddr::from(([127, 0, 0, 1], 1))).await;
    let (service, _names, _tasks) = behind(&proxy, "alice:secret@", None);
    let answer = service
        .oneshot(get(url(&format!("http://{REGION}/x"))))
        .await;
    assert_eq!(answer.expect("an answer").body, "from the proxy");
    let asked = proxy.heads().remove(0).to_lowercase();
    assert!(
        asked.starts_with(&format!("get http://{REGION}/x http/1.1\r\n")),
        "{asked}"
    );
    assert!(asked.contains("\r\nproxy-authorization: basic "), "{asked}");
}

#[tokio::test]
async fn a_redirect_of_a_proxy_is_handed_back_too() {
    let proxy = Server::saying(
        "HTTP/1.1 307 Moved\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let (service, _names, _tasks) = behind(&proxy, "", None);
    let answer = service
        .oneshot(post(url(&format!("http://{REGION}/x"))))
        .await;
    assert_eq!(answer.expect("the redirect").status.as_u16(), 307);
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn a_proxy_that_does_not_help_is_named_with_the_next_step() {
    const SECRET: &str = "canary-password";
    let with = format!("alice:{SECRET}@");
    for (answer, userinfo, expected) in [
        (
            "HTTP/1.1 407 Who?\r\n\r\n",
            "",
            "http://USER:PASSWORD@HOST:PORT",
        ),
        (
            "HTTP/1.1 407 Who?\r\n\r\n",
            &*with,
            "does not take the user and password",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            &with,
            "must allow CONNECT",
        ),
        ("HTTP/1.1 502 Bad Gateway\r\n\r\n", "", "must allow CONNECT"),
        ("", "", "HTTP proxy?"),
    ] {
        let proxy = Server::saying(answer).await;
        let (service, _names, _tasks) = behind(&proxy, userinfo, None);
        let error = service
            .oneshot(post(url(&format!("https://{REGION}/"))))
            .await;
        let error = error.expect_err("no way");
        let shown = match userinfo {
            "" => format!("http://proxy.example:{}", proxy.address.port()),
            _ => format!("http://***@proxy.example:{}", proxy.address.port()),
        };
        assert!(
            matches!(&error, Error::Connect(why) if why.contains(expected) && why.contains(&shown)),
            "{error:?}"
        );
        assert!(!format!("{error:?}").contains(SECRET), "{error:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named_and_asked_for_again() {
    let gone = Server::saying("").await;
    let (service, names, _tasks) = behind(&gone, "", None);
    drop(gone);
    let https = || get(url(&format!("https://{REGION}/")));
    let error = service.clone().oneshot(https()).await.expect_err("gone");
    assert!(
        matches!(&error, Error::Connect(why) if why.contains("through the proxy http://proxy.example:") && why.contains("refused")),
        "{error:?}"
    );
    tokio::time::sleep(dns::COOLDOWN).await;
    let _ = service.oneshot(https()).await;
    while names.asked() != ["proxy.example"; 2] {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Nobody here can tell where a proxy goes for a name, so that another's word may not name one.
#[tokio::test]
async fn another_s_word_sends_a_proxy_to_no_name_and_to_no_address_inside_a_network() {
    let proxy = proxy(SocketAddr::from(([127, 0, 0, 1], 1))).await;
    let (service, names, _tasks) = behind(&proxy, "", None);
    names.set(
        "public.example",
        &["93.184.216.34"],
        Duration::from_secs(60),
    );
    let call = async |address: &str| {
        let request = Request {
            public_only: true,
            ..get(url(address))
        };
        service.clone().oneshot(request).await
    };
    for (address, expected) in [
        ("http://public.example/", "cannot be told from here"),
        ("https://public.example/", "cannot be told from here"),
        ("http://localhost/", "cannot be told from here"),
        ("http://10.0.0.1/", "not on the public internet"),
        ("http://127.0.0.1/", "not on the public internet"),
        ("http://[fd00:ec2::254]/", "not on the public internet"),
    ] {
        let error = call(address).await.expect_err(address);
        assert!(
            matches!(&error, Error::Connect(why) if why.contains(expected)),
            "{address}: {error:?}"
        );
    }
    assert_eq!(proxy.connections(), 0);
    let answer = call("http://93.184.216.34/")
        .await
        .expect("a public address");
    assert_eq!(answer.body, "from the proxy");
}
