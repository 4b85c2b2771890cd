//! HTTP/2 by ALPN.

use h2::client::SendRequest;
use tokio::task::JoinHandle;

use super::*;

type Connection = JoinHandle<Result<(), h2::Error>>;

fn client(case: &Case) -> Client {
    Client::with(&case.authority, None, &[b"h2", b"http/1.1"])
}

async fn connection(case: &Case) -> (SendRequest<bytes::Bytes>, Connection) {
    let stream = client(case).connect(&case.gate).await.expect("TLS");
    let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    (requests, tokio::task::spawn_local(connection))
}

/// A GET for `/x`, begun.
async fn begin(
    requests: &mut SendRequest<bytes::Bytes>,
    token: &str,
) -> h2::client::ResponseFuture {
    let request =
        http::Request::get("https://svc.example/x").header("authorization", bearer(token));
    let request = request.body(()).expect("a request");
    let mut requests = requests.clone().ready().await.expect("it is open");
    requests.send_request(request, true).expect("a request").0
}

#[test]
fn alpn_is_http_2_or_http_1_1_and_nothing_else() {
    real(async {
        let case = Case::new(&World::sockets());
        for (alpn, agreed) in [
            (&[b"http/1.1".as_slice()][..], Some(b"http/1.1".as_slice())),
            (&[b"http/1.1", b"h2"], Some(b"h2")),
            (&[b"h2"], Some(b"h2")),
            (&[], None),
        ] {
            let client = Client::with(&case.authority, None, alpn);
            let stream = client.connect(&case.gate).await.expect("TLS");
            assert_eq!(stream.get_ref().1.alpn_protocol(), agreed);
        }
        let client = Client::with(&case.authority, None, &[b"h3"]);
        client.connect(&case.gate).await.expect_err("not agreed");
    });
}

#[test]
fn a_request_is_judged_and_told_like_any_other() {
    real(async {
        let world = World::sockets();
        let case = Case::new(&world);
        let (mut requests, _connection) = connection(&case).await;
        let good = begin(&mut requests, &token_of(&world, "alice")).await;
        assert_eq!(good.await.expect("an answer").status(), 200);
        let seen = case.gate.workload.last();
        assert_eq!(identity(&seen.head), alice());
        assert_eq!(seen.head.get("host"), Some("svc.example"));
        assert_eq!(seen.head.get("x-forwarded-for"), Some("127.0.0.1"));
        let bad = begin(&mut requests, "x").await;
        assert_eq!(bad.await.expect("an answer").status(), 401);
        assert_eq!(case.gate.workload.count(), 1);
    });
}

/// What was not agreed on is not spoken.
#[test]
fn a_preface_without_alpn_is_refused() {
    real(async {
        let case = Case::new(&World::sockets());
        let mut caller = case.caller(&case.client()).await;
        caller.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        caller.expect_end().await;
        until(|| case.gate.refused(Reason::BadRequest) == 1).await;
    });
}

#[test]
fn whoever_agreed_on_it_and_said_nothing_holds_up_no_drain() {
    paused(async {
        let case = Case::new(&World::pipes());
        let _silent = client(&case).connect(&case.gate).await.expect("TLS");
        settle().await;
        let began = tokio::time::Instant::now();
        case.gate.remote.stop.advance(Stage::Finish);
        until(|| case.gate.counted(|side| &side.connections) == 0).await;
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    });
}

#[test]
fn what_is_in_flight_at_the_drain_is_answered() {
    real(async {
        let world = World::sockets();
        let mut workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let case = Case::start(setup, Rc::default());
        let (mut requests, connection) = connection(&case).await;
        let answer = begin(&mut requests, &token_of(&world, "alice")).await;
        let mut behind = workload.accept().await;
        behind.request().await.expect("a request");
        case.gate.remote.stop.advance(Stage::Drain);
        behind.send(ok("done")).await;
        assert_eq!(answer.await.expect("an answer").status(), 200);
        drop(requests);
        connection.await.expect("no panic").expect("told to go");
    });
}

#[test]
fn a_preface_has_the_time_of_a_head() {
    paused(async {
        let case = Case::new(&World::pipes());
        let stream = client(&case).connect(&case.gate).await.expect("TLS");
        let mut caller = Peer::new(Io::Boxed(Box::new(stream)));
        caller.send("PRI * HTTP/2.0").await;
        let began = tokio::time::Instant::now();
        caller.rest().await;
        let took = began.elapsed();
        assert!((10 * SECOND..=12 * SECOND).contains(&took), "{took:?}");
        assert_eq!(case.gate.refused(Reason::Timeout), 1);
    });
}
