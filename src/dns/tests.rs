use super::fake::Fake;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn start(fake: &Arc<Fake>) -> (Resolver, JoinSet<()>) {
    let (resolver, task) = Resolver::new(
        Arc::clone(fake) as Arc<dyn Lookup>,
        Clock::manual(1_700_000_000),
    );
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    (resolver, tasks)
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts
        .iter()
        .map(|text| text.parse().expect("an address"))
        .collect()
}

async fn pass(by: Duration) {
    tokio::time::sleep(by).await;
}

#[tokio::test]
async fn literals_and_localhost_need_no_task() {
    let fake = Fake::new();
    let (resolver, task) = Resolver::new(fake.clone(), Clock::system());
    drop(task);
    for (host, expected) in [
        ("127.0.0.1", &["127.0.0.1:80"][..]),
        ("[::1]", &["[::1]:80"]),
        ("fe80::1", &["[fe80::1]:80"]),
        ("localhost", &["127.0.0.1:80", "[::1]:80"]),
        ("LocalHost.", &["127.0.0.1:80", "[::1]:80"]),
        ("region.localhost", &["127.0.0.1:80", "[::1]:80"]),
    ] {
        let name = resolver.name(host, 80);
        let found = name.addresses().expect(host);
        assert_eq!(found.to_vec(), addresses(expected), "{host}");
        assert_eq!(name.resolved().await, Ok(found));
        name.failed();
    }
    for host in ["notlocalhost", "localhost.example", "", "127.0.0.1.example"] {
        let name = resolver.name(host, 80);
        assert_eq!(name.addresses(), None, "{host}");
        assert_eq!(name.resolved().await, Err(Error::Stopped), "{host}");
    }
    assert!(fake.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_is_shared_and_published() {
    let fake = Fake::new();
    fake.set("region.example", &["10.0.0.1"], MINUTE);
    fake.delay(Duration::from_secs(1));
    let (resolver, _tasks) = start(&fake);
    let name = resolver.name("region.example", 443);
    assert_eq!(name.addresses(), None);
    let other = resolver.name("Region.Example", 443);
    let (one, two) = tokio::join!(name.resolved(), other.resolved());
    assert_eq!(
        one.expect("an address").to_vec(),
        addresses(&["10.0.0.1:443"])
    );
    assert!(two.is_ok());
    assert_eq!(name.addresses(), other.addresses());
    assert_eq!(fake.asked(), ["region.example"]);
}

#[tokio::test(start_paused = true)]
async fn a_new_address_is_used_after_the_ttl() {
    let fake = Fake::new();
    fake.set("a.example", &["10.0.0.1"], Duration::from_secs(30));
    let (resolver, _tasks) = start(&fake);
    let name = resolver.name("a.example", 80);
    name.resolved().await.expect("an address");
    fake.set("a.example", &["10.0.0.2"], Duration::from_secs(30));

    pass(Duration::from_secs(29)).await;
    assert_eq!(
        name.resolved().await.expect("fresh")[0],
        addresses(&["10.0.0.1:80"])[0]
    );
    assert_eq!(fake.asked().len(), 1);
    pass(Duration::from_secs(2)).await;
    // The old one at once, the new one a moment later.
    assert_eq!(
        name.addresses().expect("old")[0],
        addresses(&["10.0.0.1:80"])[0]
    );
    pass(Duration::from_millis(1)).await;
    assert_eq!(
        name.addresses().expect("new")[0],
        addresses(&["10.0.0.2:80"])[0]
    );
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_unused_address_is_not_handed_out_unasked() {
    let fake = Fake::new();
    fake.set("a.example", &["10.0.0.1"], MINUTE);
    let (resolver, _tasks) = start(&fake);
    let name = resolver.name("a.example", 80);
    let old = name.resolved().await.expect("an address");
    fake.fail(
        "a.example",
        Error::Timeout {
            host: "a.example".into(),
        },
    );
    pass(3 * MINUTE).await;
    assert_eq!(name.addresses(), None);
    // The server is away: what was known is what is left.
    assert_eq!(name.resolved().await, Ok(old));
}

#[tokio::test(start_paused = true)]
async fn ttls_are_held_within_bounds() {
    for (ttl, still, over) in [(0, 4, 6), (100_000, 299, 301)] {
        let fake = Fake::new();
        fake.set("a.example", &["10.0.0.1"], Duration::from_secs(ttl));
        let (resolver, _tasks) = start(&fake);
        let name = resolver.name("a.example", 80);
        name.resolved().await.expect("an address");
        pass(Duration::from_secs(still)).await;
        name.resolved().await.expect("fresh");
        assert_eq!(fake.asked().len(), 1, "{ttl}");
        pass(Duration::from_secs(over - still)).await;
        name.resolved().await.expect("asked again");
        assert_eq!(fake.asked().len(), 2, "{ttl}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_connection_asks_again_but_never_hammers() {
    let fake = Fake::new();
    fake.set("a.example", &["10.0.0.1"], 5 * MINUTE);
    let (resolver, _tasks) = start(&fake);
    let name = resolver.name("a.example", 80);
    name.resolved().await.expect("an address");
    for _ in 0..100 {
        name.failed();
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(fake.asked().len(), 1, "within the cool-down");
    pass(COOLDOWN).await;
    fake.set("a.example", &["10.0.0.2"], 5 * MINUTE);
    for _ in 0..100 {
        name.failed();
    }
    pass(Duration::from_millis(1)).await;
    assert_eq!(fake.asked().len(), 2);
    assert_eq!(
        name.addresses().expect("new")[0],
        addresses(&["10.0.0.2:80"])[0]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_told_and_passes() {
    let fake = Fake::new();
    let (resolver, _tasks) = start(&fake);
    let name = resolver.name("typo.example", 80);
    let error = name.resolved().await.expect_err("no such name");
    assert_eq!(
        error,
        Error::NoSuchName {
            host: "typo.example".into()
        }
    );
    assert_eq!(
        name.resolved().await,
        Err(error),
        "the same within a second"
    );
    assert_eq!(fake.asked().len(), 1);
    fake.set("typo.example", &["10.0.0.1"], MINUTE);
    pass(COOLDOWN).await;
    name.resolved().await.expect("it is there now");
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_never_ends_is_cut() {
    let fake = Fake::new();
    fake.set("slow.example", &["10.0.0.1"], MINUTE);
    fake.delay(Duration::from_secs(3600));
    let (resolver, _tasks) = start(&fake);
    let began = tokio::time::Instant::now();
    let error = resolver.name("slow.example", 80).resolved().await;
    assert!(matches!(error, Err(Error::Timeout { .. })), "{error:?}");
    assert_eq!(began.elapsed(), LOOKUP_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn who_waits_learns_that_the_task_ended() {
    let fake = Fake::new();
    fake.delay(Duration::from_secs(10));
    let (resolver, mut tasks) = start(&fake);
    let name = resolver.name("a.example", 80);
    let (end, ()) = tokio::join!(name.resolved(), async {
        pass(Duration::from_secs(1)).await;
        tasks.shutdown().await;
    });
    assert_eq!(end, Err(Error::Stopped));
}

#[test]
fn families_take_turns() {
    let parse = |texts: &[&str]| -> Vec<IpAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    };
    let ordered = in_order(
        parse(&["::1", "::2", "::2", "::3", "10.0.0.1", "10.0.0.2"]),
        1,
    );
    assert_eq!(
        ordered.to_vec(),
        addresses(&["[::1]:1", "10.0.0.1:1", "[::2]:1", "10.0.0.2:1", "[::3]:1"])
    );
    assert!(in_order(Vec::new(), 1).is_empty());
}
