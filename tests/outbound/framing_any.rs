//! What hyper yields and what the strict reading approves, over requests that are nearly right.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::differential::{self, compare};
use super::seeds;

/// Valid requests, of every framing.
const VALID: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nGET /b?c HTTP/1.1\r\nHost: a\r\nX: y z\r\n\r\n",
    "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: a\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "PUT /e HTTP/1.1\r\nHost: a\r\ntransfer-encoding: Chunked\r\n\r\n3;x=\"1\"\r\n\r\n\r\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n",
    "GET /f HTTP/1.1\r\nHost: a\r\nContent-Length: 39\r\n\r\nGET /evil HTTP/1.1\r\nContent-Length: 9\r\n",
    "HEAD http://a/g HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "POST /h HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    "POST /i HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
    "GET /j HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
];

/// What breaks one, or does not.
const PIECES: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\r\n\r\n",
    " ",
    "\t",
    "\0",
    "#",
    ":",
    ";",
    ",",
    "0",
    "1",
    "f",
    "_",
    "\u{fc}",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Content_Length: 3\r\n",
    "0\r\n\r\n",
    "1\r\nx\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "HTTP/1.0",
    " \r\n x",
];

#[derive(Clone, Debug)]
enum Change {
    Replace(Index, &'static str),
    Insert(Index, &'static str),
    Remove(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        (at(), select(PIECES)).prop_map(|(at, piece)| Change::Replace(at, piece)),
        (at(), select(PIECES)).prop_map(|(at, piece)| Change::Insert(at, piece)),
        at().prop_map(Change::Remove),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Replace(at, piece) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + piece.len());
                bytes.splice(at..end, piece.bytes());
            }
            Change::Insert(at, piece) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, piece.bytes());
            }
            Change::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
        }
        if bytes.is_empty() {
            bytes.push(b'x');
        }
    }
    bytes
}

#[test]
fn every_valid_request_is_served() {
    for piece in [1, 7, 10_000] {
        let kept = VALID
            .iter()
            .filter(|request| !request.starts_with("CONNECT"));
        let bytes: Vec<u8> = kept.clone().flat_map(|request| request.bytes()).collect();
        assert_eq!(compare(&bytes, piece), kept.count(), "in pieces of {piece}");
        for request in VALID {
            assert_eq!(compare(request.as_bytes(), piece), 1, "{request:?}");
        }
    }
}

#[test]
fn what_only_hyper_would_serve_is_not_served() {
    for request in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(compare(request.as_bytes(), 10_000), 0, "{request:?}");
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    seeds::each("observer", differential::judge);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_served_is_what_the_strict_reading_approved(
        requests in proptest::collection::vec(select(VALID), 1..5),
        changes in proptest::collection::vec(change(), 0..5),
        piece in prop_oneof![Just(1_usize), 2..40_usize, Just(10_000)],
    ) {
        let bytes = changed(requests.concat().into_bytes(), &changes);
        compare(&bytes, piece);
    }
}
