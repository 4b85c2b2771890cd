//! What the pure parts of a request's path cost, each alone and without a socket.
//!
//! A first look at a change: `cargo bench --bench parts`, with names to choose from. What counts in
//! the end is a whole request (`tests/bench/run`, `tests/bench/instructions`).

use std::hint::black_box;

use bytes::BytesMut;
use divan::Bencher;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};
use regent::jwt::cache::Cache;
use regent::jwt::verifier;
use regent::proxy::framing::{Answers, Requests};
use regent::proxy::guard::Guard;
use regent::proxy::headers::{
    REQUEST_ID, Seen, request_id, say_who_called, strip_forwarded, strip_hop_by_hop,
};
use regent::proxy::identity::Names;
use regent::proxy::paths::{Entry, Match, Paths, ambiguous};

use forge::Forge;
use world::World;

#[path = "../jwt/forge.rs"]
#[expect(dead_code, reason = "the tests forge more than is measured")]
mod forge;
#[path = "../jwt/signer.rs"]
#[expect(dead_code, reason = "the tests sign in more ways")]
mod signer;
#[path = "../jwt/world.rs"]
mod world;

const NOW: i64 = 1_800_000_000;

fn main() {
    divan::main();
}

/// What a program's HTTP library sends.
const HEAD: &[(&str, &str)] = &[
    ("host", "localhost:8080"),
    ("user-agent", "python-requests/2.32.3"),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept", "application/json"),
    ("connection", "keep-alive"),
    ("content-type", "application/json"),
    (
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
];

fn headers() -> HeaderMap {
    let fields = HEAD.iter().map(|(name, value)| {
        let name = HeaderName::from_static(name);
        (name, HeaderValue::from_static(value))
    });
    fields.collect()
}

/// The same as bytes, with a token as inbound gets it.
fn head_with(token: &str) -> Vec<u8> {
    let mut head = b"GET /models/churn/v3/ HTTP/1.1\r\n".to_vec();
    for (name, value) in HEAD {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    head.extend_from_slice(format!("authorization: Bearer {token}\r\n\r\n").as_bytes());
    head
}

#[divan::bench]
fn observe_a_requests_head(bencher: Bencher) {
    let head = head_with(&Forge::home(NOW).token());
    bencher.bench_local(|| {
        let mut requests = Requests::default();
        requests.scan(black_box(&head));
        assert_eq!(requests.approved(), 1);
    });
}

#[divan::bench]
fn read_an_answers_head(bencher: Bencher) {
    let head = b"HTTP/1.1 200 OK\r\nserver: nginx\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
        content-type: application/json\r\ncontent-length: 1024\r\netag: \"65f1-400\"\r\n\r\n";
    let bencher = bencher.with_inputs(|| BytesMut::from(&head[..]));
    bencher.bench_local_values(|mut came| {
        let mut answers = Answers::default();
        answers.ask(false);
        assert!(matches!(answers.head(&mut came), Ok(Some(_))));
    });
}

#[divan::bench]
fn scan_the_header_names(bencher: Bencher) {
    let headers = headers();
    bencher.bench_local(|| Seen::scan(black_box(&headers)));
}

#[divan::bench]
fn guard_the_host(bencher: Bencher) {
    let hosts = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
    let (guard, headers) = (Guard::new(&hosts, &[]), headers());
    let (uri, seen) = (Uri::from_static("/models/churn/v3/"), Seen::scan(&headers));
    bencher.bench_local(|| guard.judge(&uri, Version::HTTP_11, black_box(&headers), seen));
}

#[divan::bench]
fn rewrite_an_outbound_head(bencher: Bencher) {
    let host = HeaderValue::from_static("region.example.com");
    let token = format!("Bearer {}", Forge::home(NOW).token());
    let token = HeaderValue::try_from(token).expect("a token is a header's value");
    let bencher = bencher.with_inputs(headers);
    bencher.bench_local_values(|mut headers| {
        let seen = Seen::scan(&headers);
        strip_hop_by_hop(&mut headers, seen);
        strip_forwarded(&mut headers, seen);
        headers.insert(HOST, host.clone());
        headers.insert(AUTHORIZATION, token.clone());
        headers.insert(REQUEST_ID, request_id());
        headers
    });
}

#[divan::bench]
fn rewrite_an_inbound_head(bencher: Bencher) {
    let identity = ["x-regent-user", "x-regent-user-id"].map(HeaderName::from_static);
    let names = Names::new(identity.clone());
    let (peer, user) = (
        HeaderValue::from_static("10.1.2.3"),
        HeaderValue::from_static("alice"),
    );
    let bencher = bencher.with_inputs(headers);
    bencher.bench_local_values(|mut headers| {
        let seen = Seen::scan(&headers);
        strip_hop_by_hop(&mut headers, seen);
        names.strip(&mut headers);
        headers.remove(AUTHORIZATION);
        say_who_called(&mut headers, seen, &peer);
        for name in &identity {
            headers.insert(name, user.clone());
        }
        headers
    });
}

#[divan::bench(args = [1, 10, 100])]
fn match_a_path(bencher: Bencher, entries: usize) {
    let entry = |at| Entry {
        path: format!("/models/model-{at}"),
        exact: false,
        methods: vec![Method::GET, Method::POST],
        value: at,
    };
    let paths = Paths::new((0..entries).map(entry).collect());
    let path = format!("/models/model-{}/v3/predict", entries - 1);
    bencher.bench_local(|| {
        let path = black_box(path.as_str());
        assert!(ambiguous(path).is_none());
        assert_eq!(paths.find(path, &Method::GET), Match::Found(&(entries - 1)));
    });
}

#[divan::bench(args = [1, 1000, 4000])]
fn find_a_cached_verdict(bencher: Bencher, tokens: usize) {
    // As long as a region's, and alike up to the middle.
    let token = |at| format!("{}{at:0>64}{}", "h".repeat(256), "s".repeat(342)).into_bytes();
    let tokens: Vec<Vec<u8>> = (0..tokens).map(token).collect();
    let mut cache = Cache::default();
    for token in &tokens {
        cache.keep(token, ());
    }
    let mut turn = tokens.iter().cycle();
    bencher.bench_local(|| turn.next().and_then(|token| cache.find(token)));
}

#[divan::bench(args = ["RS256", "ES256", "EdDSA"])]
fn verify(bencher: Bencher, algorithm: &str) {
    let world = World::new(world::entries());
    let token = match algorithm {
        "RS256" => Forge::home(NOW),
        "ES256" => Forge::oidc(NOW, "k2"),
        _ => Forge::oidc(NOW, "k4"),
    };
    let token = token.token();
    bencher.bench_local(|| {
        let token = black_box(token.as_bytes());
        let now = world::now(NOW);
        let verified = verifier::verify(token, &world.issuers, &world.keys, now, &mut ());
        assert!(verified.is_ok());
    });
}
