//! One connection over a pipe, with both ends in hand.

use http::Request;
use tokio::io::{AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

fn wire(room: usize) -> (Box<Wire>, DuplexStream) {
    let (ours, theirs) = duplex(room);
    (Wire::new(Io::Boxed(Box::new(ours))), theirs)
}

fn get() -> Parts {
    let request = Request::get("/a?b").header("host", "c").body(());
    request.expect("a request").into_parts().0
}

async fn answer(wire: &mut Wire) -> Result<Head, Broken> {
    let mut sending = wire.request(&get(), RequestBody::empty());
    wire.exchange(&mut sending).await
}

async fn body(wire: &mut Wire) -> Result<Vec<u8>, Broken> {
    let mut body = Vec::new();
    while let Some(piece) = poll_fn(|cx| wire.poll_piece(cx)).await? {
        if let Piece::Data(data) = piece {
            body.extend_from_slice(&data);
        }
    }
    Ok(body)
}

#[tokio::test]
async fn a_request_goes_out_as_it_stands_and_its_answer_comes_in() {
    let (mut wire, mut theirs) = wire(1024);
    for _ in 0..2 {
        let sound = b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        theirs.write_all(sound).await.expect("room");
        assert_eq!(answer(&mut wire).await.expect("an answer").status, 200);
        assert_eq!(body(&mut wire).await.expect("whole"), b"hi");
        assert!(wire.may_go_on() && wire.is_open());
        let mut asked = [0; 30];
        theirs.read_exact(&mut asked).await.expect("a request");
        assert_eq!(&asked, b"GET /a?b HTTP/1.1\r\nhost: c\r\n\r\n");
    }
}

#[tokio::test]
async fn what_was_said_before_the_close_is_read_and_the_end_is_a_break() {
    for (said, whole) in [
        (&b"HTTP/1.1 413 X\r\n\r\nuntil the end"[..], false),
        (b"HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\nno", true),
    ] {
        let (mut wire, mut theirs) = wire(64);
        theirs.write_all(said).await.expect("room");
        drop(theirs);
        // The write fails, and the answer is there all the same.
        assert_eq!(answer(&mut wire).await.expect("its head").status, 413);
        assert_eq!(body(&mut wire).await.is_ok(), whole, "{said:?}");
        assert!(!wire.may_go_on());
    }
}

#[tokio::test]
async fn an_end_without_a_failed_write_is_an_end() {
    let (mut wire, mut theirs) = wire(64);
    theirs
        .write_all(b"HTTP/1.1 200 X\r\n\r\nall")
        .await
        .expect("room");
    let mut sending = wire.request(&get(), RequestBody::empty());
    wire.exchange(&mut sending).await.expect("a head");
    drop(theirs);
    assert_eq!(body(&mut wire).await.expect("whole"), b"all");
    assert!(!wire.may_go_on(), "it has closed");
}

#[tokio::test]
async fn a_close_before_any_answer_differs_from_one_within_it() {
    let (mut first, theirs) = wire(64);
    drop(theirs);
    assert!(!first.is_open());
    assert!(matches!(answer(&mut first).await, Err(Broken::Closed)));
    let (mut second, mut theirs) = wire(64);
    theirs.write_all(b"HTTP/1.1 2").await.expect("room");
    drop(theirs);
    assert!(matches!(answer(&mut second).await, Err(Broken::BrokeOff)));
}

#[tokio::test]
async fn what_nobody_asked_for_ends_the_connection() {
    let (mut wire, mut theirs) = wire(256);
    let more = b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\n";
    theirs.write_all(more).await.expect("room");
    assert_eq!(answer(&mut wire).await.expect("an answer").status, 204);
    assert!(!wire.may_go_on());
    let (mut idle, mut theirs) = self::wire(256);
    theirs
        .write_all(b"HTTP/1.1 408 Too slow\r\n\r\n")
        .await
        .expect("room");
    assert!(!idle.is_open());
}

#[tokio::test]
async fn what_breaks_the_framing_is_an_error() {
    let (mut wire, mut theirs) = wire(64);
    theirs.write_all(b"HTTP/1.1 200 OK\nX").await.expect("room");
    let broken = answer(&mut wire).await.expect_err("unsound");
    assert!(
        matches!(broken, Broken::Unsound(Violation::LineEnd)),
        "{broken}"
    );
}

#[tokio::test]
async fn a_request_that_was_not_written_goes_over_another_connection_with_its_new_head() {
    let (mut first, theirs) = wire(64);
    drop(theirs);
    let mut sending = first.request(&get(), RequestBody::empty());
    assert!(first.exchange(&mut sending).await.is_err());
    assert!(!sending.has_begun(), "nothing of it can have arrived");
    let (mut second, mut theirs) = wire(256);
    let mut head = get();
    head.headers.insert("host", "d".parse().expect("a value"));
    let mut sending = second.request_again(sending, &head);
    theirs
        .write_all(b"HTTP/1.1 204 No\r\n\r\n")
        .await
        .expect("room");
    assert!(second.exchange(&mut sending).await.is_ok());
    let mut asked = [0; 30];
    theirs.read_exact(&mut asked).await.expect("a request");
    assert_eq!(&asked, b"GET /a?b HTTP/1.1\r\nhost: d\r\n\r\n");
}

#[test]
fn the_more_connections_there_are_the_less_each_reads_at_once() {
    let wire = || Wire::new(Io::Boxed(Box::new(tokio::io::duplex(1).0)));
    let one = wire();
    assert_eq!(Open::step(), STEP_MOST);
    let many: Vec<_> = (0..1023).map(|_| wire()).collect();
    assert_eq!(Open::step(), STEPS / 1024);
    let more: Vec<_> = (0..2048).map(|_| wire()).collect();
    assert_eq!(Open::step(), STEP);
    drop((many, more));
    assert_eq!(Open::step(), STEP_MOST);
    drop(one);
}
