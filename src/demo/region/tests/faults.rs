//! Faults, latency and outages, in process.

use super::*;

async fn fetch_refresh(region: &Region, token: &Secret) -> Result<(u16, Bytes), fetch::Error> {
    use tower::ServiceExt as _;
    let request = fetch::Request {
        method: Method::POST,
        url: Url::parse("http://region.test/console/api/auth/refresh/").expect("a URL"),
        headers: http::HeaderMap::new(),
        form: vec![("refresh", token.clone())],
        public_only: false,
    };
    let answer = region.service().oneshot(request).await?;
    Ok((answer.status.as_u16(), answer.body))
}

#[tokio::test(start_paused = true)]
async fn faults_come_in_order_and_say_whether_the_token_is_spent() {
    let refused = || Fault::Status(429, "{}".to_owned(), vec![("retry-after", "30".to_owned())]);
    let outcome = |status: u16| -> Result<u16, &'static str> { Ok(status) };
    for (fault, expected, spent) in [
        (refused(), outcome(429), false),
        (Fault::Html, outcome(200), false),
        (Fault::Garbage, outcome(200), false),
        (Fault::Endless, Err("TooLarge"), false),
        (Fault::Hang, Err("Timeout"), false),
        (Fault::Drop, Err("Protocol"), false),
        (Fault::Cut, Err("Protocol"), true),
        (Fault::Lost(502), outcome(502), true),
        (Fault::Slow, Err("Timeout"), true),
    ] {
        let (region, _) = region();
        let token = alice(&region);
        region.fail_next(1, fault.clone());
        let found = fetch_refresh(&region, &token).await;
        match (&found, expected) {
            (Ok((status, _)), Ok(expected)) => assert_eq!(*status, expected, "{fault:?}"),
            (Err(error), Err(name)) => assert!(format!("{error:?}").starts_with(name), "{error:?}"),
            _ => panic!("{fault:?}: {found:?}"),
        }
        let (status, _) = fetch_refresh(&region, &token)
            .await
            .expect("the fault is over");
        assert_eq!(status, if spent { 401 } else { 200 }, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_count_down_and_keep_to_their_kind() {
    let (region, _) = region();
    region.fail_next_of(Kind::Api, 2, Fault::Status(503, String::new(), Vec::new()));
    region.fail_next(1, Fault::Status(500, String::new(), Vec::new()));
    let access = alice_access(&region);
    let token = alice(&region);
    assert_eq!(with_bearer(&region, &access).0, 503);
    assert_eq!(refresh(&region, &token).0, 500);
    assert_eq!(with_bearer(&region, &access).0, 503);
    assert_eq!(with_bearer(&region, &access).0, 200);
    region.fail_next(5, Fault::Html);
    region.clear_faults();
    assert_eq!(refresh(&region, &token).0, 200);
}

#[tokio::test(start_paused = true)]
async fn latency_holds_back_what_is_already_done() {
    let (region, _) = region();
    region.change(|settings| settings.latency = Duration::from_secs(3));
    let token = alice(&region);
    let sent = tokio::time::Instant::now();
    let early = tokio::time::timeout(Duration::from_secs(2), fetch_refresh(&region, &token)).await;
    assert!(early.is_err());
    let (status, _) = fetch_refresh(&region, &token).await.expect("an answer");
    assert_eq!((status, sent.elapsed()), (401, Duration::from_secs(5)));
}

#[tokio::test(start_paused = true)]
async fn an_outage_in_process_ends_when_the_region_is_back() {
    let (region, _) = region();
    let token = alice(&region);
    region.down(Outage::Refuse);
    let refused = fetch_refresh(&region, &token).await;
    assert!(matches!(refused, Err(fetch::Error::Connect(_))));
    region.down(Outage::Silent);
    assert_eq!(
        fetch_refresh(&region, &token).await,
        Err(fetch::Error::Timeout)
    );
    region.up();
    assert_eq!(
        fetch_refresh(&region, &token).await.expect("an answer").0,
        200
    );
    assert_eq!(region.count(Kind::Refresh), 1);
}
