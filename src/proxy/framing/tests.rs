//! Verdicts in tables, and what must hold of any bytes.

use bytes::BytesMut;
use proptest::prelude::*;

use super::{Answers, Piece, Requests, Violation, target, text};

const HEAD: &str = "GET / HTTP/1.1\r\nHost: a\r\n";
const POST: &str = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The heads approved, the violation, and the offset at which a body broke.
type Verdict = (u64, Option<Violation>, Option<usize>);

fn verdict_in(reads: &[&[u8]]) -> Verdict {
    let mut requests = Requests::default();
    let (mut before, mut broke) = (0, None);
    for read in reads {
        let passed = requests.scan(read);
        if passed.ends {
            broke.get_or_insert(before + passed.bytes);
        } else {
            assert_eq!(passed.bytes, read.len());
        }
        before += read.len();
    }
    (requests.approved(), requests.violation(), broke)
}

fn verdict(bytes: impl AsRef<[u8]>) -> Verdict {
    verdict_in(&[bytes.as_ref()])
}

fn refuses(bytes: impl AsRef<[u8]>, violation: Violation) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(verdict(bytes), (0, Some(violation), None), "{shown:?}");
}

#[test]
fn a_request_line_that_comes_first_is_measured_however_it_comes() {
    let line = "\r\nGET /long HTTP/1.1\r\n";
    let head = format!("{line}Host: a\r\n\r\n");
    for end in 1..=head.len() {
        // One that has not ended is longer than what has come of it.
        let least = (end + 1).min(line.len());
        for cut in 0..=end {
            let mut requests = Requests::default();
            requests.scan(POST.as_bytes());
            requests.scan(b"0\r\n\r\n");
            requests.scan(&head.as_bytes()[..cut]);
            requests.scan(&head.as_bytes()[cut..end]);
            assert!(requests.has_line_over(least - 1), "{cut} {end}");
            assert!(!requests.has_line_over(least), "{cut} {end}");
        }
    }
    for behind in [
        "GET / HTTP/1.1\r\n\r\nGET /long",
        "GET / HTTP/1.1\r\n\r\nget",
        "get",
    ] {
        let mut requests = Requests::default();
        requests.scan(behind.as_bytes());
        assert!(!requests.has_line_over(0), "{behind}");
    }
}

#[test]
fn a_request_line_is_a_method_a_target_and_a_version() {
    for line in [
        "GET / HTTP/1.1",
        "M-SEARCH * HTTP/1.1",
        "OPTIONS http://a/b?c HTTP/1.0",
        "GET /\u{fc}/\\;%23 HTTP/1.1",
        "UPDATEREDIRECTREF a:1 HTTP/1.1",
    ] {
        assert_eq!(
            verdict(format!("{line}\r\n\r\n")),
            (1, None, None),
            "{line}"
        );
    }
    for (line, violation) in [
        ("get / HTTP/1.1", Violation::Method),
        ("G\x00T / HTTP/1.1", Violation::Method),
        (" GET / HTTP/1.1", Violation::Method),
        ("GET\t/ HTTP/1.1", Violation::Method),
        ("\nGET / HTTP/1.1", Violation::LineEnd),
        ("\rGET / HTTP/1.1", Violation::LineEnd),
        ("\r\n\r\nGET / HTTP/1.1", Violation::Method),
        ("GET  / HTTP/1.1", Violation::Target),
        ("GET /\tHTTP/1.1", Violation::Target),
        ("GET /\x7f HTTP/1.1", Violation::Target),
        ("GET /\x01 HTTP/1.1", Violation::Target),
        ("GET  HTTP/1.1", Violation::Target),
        ("GET /#x HTTP/1.1", Violation::Fragment),
        ("GET # HTTP/1.1", Violation::Fragment),
        ("GET /", Violation::Version),
        ("GET / x HTTP/1.1", Violation::Version),
        ("GET /  HTTP/1.1", Violation::Version),
        ("GET / HTTP/0.9", Violation::Version),
        ("GET / HTTP/1.2", Violation::Version),
        ("GET / HTTP/1.10", Violation::Version),
        ("GET / HTTP/2.0", Violation::Version),
        ("GET / http/1.1", Violation::Version),
        ("GET / HTTP/1.1 ", Violation::Version),
    ] {
        refuses(format!("{line}\r\nHost: a\r\n\r\n"), violation);
    }
    refuses(
        format!("{} / HTTP/1.1\r\n\r\n", "A".repeat(33)),
        Violation::Method,
    );
    assert_eq!(verdict(format!("\r\n{HEAD}\r\n")), (1, None, None));
}

#[test]
fn a_line_ends_in_both_and_nowhere_in_one() {
    for bytes in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\rHost: a\r\r",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX",
        "GET / HTTP/1.1\r\nContent-Length: 0\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 0 \n\r\n",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\n\r\n",
    ] {
        refuses(bytes, Violation::LineEnd);
    }
}

#[test]
fn a_header_is_a_name_a_colon_and_text() {
    for field in [
        "a:",
        "X_Y.z: \t b\tc ",
        "x: \u{fc}",
        "Content-Typ: 1",
        "te: trailers",
        "t: c",
    ] {
        let bytes = format!("{HEAD}{field}\r\n\r\n");
        assert_eq!(verdict(bytes), (1, None, None), "{field}");
    }
    for (field, violation) in [
        (" x", Violation::Fold),
        ("\tx", Violation::Fold),
        ("a : b", Violation::Name),
        ("a\t: b", Violation::Name),
        (": b", Violation::Name),
        ("a", Violation::Name),
        ("a(b: c", Violation::Name),
        ("a\u{85}: c", Violation::Name),
        ("content-length : 1", Violation::Name),
        ("transfer-encoding\t: chunked", Violation::Name),
        ("a: b\x00", Violation::Control),
        ("a: \x7f", Violation::Control),
        ("a: 0123456789\x01", Violation::Control),
    ] {
        refuses(format!("{HEAD}{field}\r\n\r\n"), violation);
    }
}

#[test]
fn a_length_is_one_plain_number() {
    for (value, left) in [
        ("5", 5),
        (" \t5 \t", 5),
        ("0", 0),
        ("999999999999999999", 9),
    ] {
        let body = "x".repeat(left);
        let bytes = format!("{HEAD}Content-Length:{value}\r\n\r\n{body}");
        assert_eq!(verdict(bytes), (1, None, None), "{value:?}");
    }
    for value in [
        "",
        " ",
        "+1",
        "-1",
        "-0",
        "0x1",
        "1_0",
        "1 0",
        "01",
        "00",
        "1, 1",
        "1,2",
        "1.0",
        "\"1\"",
        "1000000000000000000",
        "9223372036854775808",
        "18446744073709551616",
        "1\u{660}",
    ] {
        refuses(
            format!("{HEAD}Content-Length: {value}\r\n\r\n"),
            Violation::Length,
        );
    }
    for second in ["1", "2"] {
        let fields = format!("content-length: 1\r\nContent-LENGTH: {second}\r\n\r\n");
        refuses(format!("{HEAD}{fields}"), Violation::TwoLengths);
    }
}

#[test]
fn a_coding_is_chunked_and_stands_there_once_and_alone() {
    let field = |value: &str| format!("{HEAD}Transfer-Encoding:{value}\r\n\r\n0\r\n\r\n");
    for value in ["chunked", " \tCHUNKed\t "] {
        assert_eq!(verdict(field(value)), (1, None, None), "{value:?}");
    }
    for value in [
        "",
        " ",
        "gzip, chunked",
        "identity, chunked",
        "chunked, chunked",
        ",chunked",
        "chunked,",
        "chunked;x=1",
        "xchunked",
        "chunkedx",
        "chunked x",
        "chunke",
        "identity",
        "\"chunked\"",
    ] {
        refuses(field(value), Violation::Coding);
    }
    refuses(
        field("chunked\r\ntransfer-encoding: chunked"),
        Violation::Coding,
    );
    refuses(
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Violation::Coding,
    );
    refuses(
        field("chunked\r\ncontent-length: 5"),
        Violation::LengthAndCoding,
    );
    refuses(
        format!("{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        Violation::LengthAndCoding,
    );
    for name in [
        "Content_Length",
        "content.length",
        "Transfer_Encoding",
        "TRANSFER.ENCODING",
    ] {
        refuses(format!("{HEAD}{name}: 1\r\n\r\n"), Violation::Disguised);
    }
}

#[test]
fn chunks_are_followed_to_their_end_and_the_next_head_counts() {
    for body in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "a;x=\"y\tz\"\r\n0123456789\r\nA;\r\n0123456789\r\n0;a\r\n\r\n",
        "1\r\n\n\r\n0\r\nX: y\r\nContent-Length: 5\r\nTransfer-Encoding: no\r\n\r\n",
    ] {
        let bytes = format!("{POST}{body}{HEAD}\r\n");
        assert_eq!(verdict(bytes), (2, None, None), "{body:?}");
    }
}

#[test]
fn a_broken_chunk_ends_the_body_at_the_byte_that_breaks_it() {
    let long = format!("1;{}\r\n", "x".repeat(16 * 1024));
    let many = "1;x\r\nx\r\n".repeat(100_000);
    let trailers = format!("0\r\n{}\r\n", "X: y\r\n".repeat(8 * 1024));
    let size = Violation::ChunkSize;
    for (body, violation, at) in [
        ("0x1\r\n", size, 1),
        ("+1\r\n", size, 0),
        ("-1\r\n", size, 0),
        ("1_\r\n", size, 1),
        (" 1\r\n", size, 0),
        ("1 \r\n", size, 1),
        ("1 ;x\r\n", size, 1),
        ("\r\n", size, 0),
        (";x\r\n", size, 0),
        ("\n", size, 0),
        ("1\n", size, 1),
        ("FFFFFFFFFFFFFFFF\r\n", size, 15),
        ("0000000000000001\r\n", size, 15),
        ("1\rx\n", Violation::LineEnd, 2),
        ("1;x\n", Violation::LineEnd, 3),
        ("1;x\rx", Violation::LineEnd, 4),
        ("1;\"\r\n\"\r\n", Violation::Extension, 3),
        ("1;\"\\\"\r\nx\r\n", Violation::Extension, 5),
        ("1;x\x00\r\n", Violation::Extension, 3),
        (&long, Violation::Extension, 2 + 16 * 1024 - 1),
        (&many, Violation::Extension, 8 * (16 * 1024 - 1) + 2),
        ("2\r\nhix\r\n", Violation::ChunkEnd, 5),
        ("2\r\nhi\n", Violation::ChunkEnd, 5),
        ("2\r\nhi\rx", Violation::ChunkEnd, 6),
        ("0\r\n\n", Violation::LineEnd, 3),
        ("0\r\n\rx", Violation::LineEnd, 4),
        ("0\r\nX: y\n\r\n", Violation::LineEnd, 7),
        ("0\r\nX\r\n\r\n", Violation::Name, 4),
        ("0\r\n X: y\r\n\r\n", Violation::Fold, 3),
        ("0\r\nX: \x01\r\n\r\n", Violation::Control, 6),
        (&trailers, Violation::Trailers, 3 + 8 * 1024),
    ] {
        let offset = Some(POST.len() + at);
        let shown = &body[..body.len().min(40)];
        assert_eq!(
            verdict(format!("{POST}{body}{HEAD}\r\n")),
            (1, Some(violation), offset),
            "{shown:?}"
        );
    }
}

#[test]
fn nothing_is_approved_after_a_violation_or_a_connect() {
    let good = format!("{HEAD}\r\n");
    assert_eq!(
        verdict(format!("{good}get / HTTP/1.1\r\n\r\n{good}{good}")),
        (1, Some(Violation::Method), None)
    );
    assert_eq!(
        verdict(format!("{good}CONNECT a:1 HTTP/1.1\r\n\r\n{good}")),
        (2, Some(Violation::Tunnel), None)
    );
    assert_eq!(
        verdict(format!("CONNECTX a HTTP/1.1\r\n\r\n{good}")),
        (2, None, None)
    );
    assert_eq!(
        verdict(format!("CONNEC a HTTP/1.1\r\n\r\n{good}")),
        (2, None, None)
    );
}

/// The answers to so many requests, a HEAD where it says so: what is wrong, and what is left.
fn answered_to(asked: &[bool], reads: &[&[u8]]) -> (Option<Violation>, usize) {
    let (mut answers, mut came) = (Answers::default(), BytesMut::new());
    let mut asked = asked.iter();
    let mut is_open = false;
    for read in reads {
        came.extend_from_slice(read);
        loop {
            if answers.has_ended() {
                match asked.next() {
                    Some(is_head) => answers.ask(*is_head),
                    None => break,
                }
                is_open = false;
            }
            if !is_open {
                match answers.head(&mut came) {
                    Err(violation) => return (Some(violation), came.len()),
                    Ok(None) => break,
                    Ok(Some(_)) => is_open = true,
                }
            }
            match answers.piece(&mut came) {
                Err(violation) => return (Some(violation), came.len()),
                Ok(None) if !answers.has_ended() => break,
                Ok(_) => {}
            }
        }
    }
    (None, came.len())
}

fn answered(reads: &[&[u8]]) -> (Option<Violation>, usize) {
    answered_to(&[false], reads)
}

#[test]
fn an_answer_is_framed_once() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nanything\r\n\nuntil the end",
        "HTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
        "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n\n\n\x00",
    ] {
        assert_eq!(answered(&[bytes.as_bytes()]), (None, 0), "{bytes:?}");
    }
    for (bytes, violation) in [
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Violation::Status),
        ("HTTP/1.2 200 OK\r\n\r\n", Violation::Status),
        ("HTTP/1.1  200 OK\r\n\r\n", Violation::Status),
        ("HTTP/1.1 20 OK\r\n\r\n", Violation::Status),
        ("HTTP/1.1 2000 OK\r\n\r\n", Violation::Status),
        ("HTTP/1.1 099 OK\r\n\r\n", Violation::Status),
        ("HTTP/1.1 200 O\x00K\r\n\r\n", Violation::Control),
        ("HTTP/1.1 200 OK\n\r\n", Violation::LineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", Violation::LineEnd),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Violation::Fold),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Violation::Name),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
            Violation::Length,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            Violation::TwoLengths,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Violation::LengthAndCoding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Violation::Coding,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Violation::Coding,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n",
            Violation::ChunkSize,
        ),
    ] {
        let (found, _) = answered(&[bytes.as_bytes()]);
        assert_eq!(found, Some(violation), "{bytes:?}");
    }
    for bytes in [
        "HTTP/1.1 204 No\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxx",
    ] {
        assert_eq!(
            answered(&[bytes.as_bytes()]),
            (None, 1),
            "nobody asked: {bytes:?}"
        );
    }
}

#[test]
fn an_answer_is_to_what_was_asked() {
    let head = &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..];
    let bytes = [head, head, b"hello", head].concat();
    assert_eq!(answered_to(&[true, false, true], &[&bytes]), (None, 0));
    assert_eq!(answered_to(&[true, false], &[&bytes]), (None, head.len()));
}

#[test]
fn interim_answers_are_bounded_for_each_request() {
    let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1024);
    let last = b"HTTP/1.1 204 No\r\n\r\n";
    let bytes = [&interim[..], last].concat().repeat(3);
    assert_eq!(answered_to(&[false; 3], &[&bytes]), (None, 0));
    let flood = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(1025);
    assert_eq!(answered(&[&flood]).0, Some(Violation::Interim));
}

#[test]
fn a_head_is_read_into_its_parts() {
    let mut came = BytesMut::from(
        "HTTP/1.1 404 Nothing here\r\nA: \t b c \t\r\nSet-Cookie: 1\r\nset-cookie:2\r\nE:\r\n\r\nx",
    );
    let mut answers = Answers::default();
    answers.ask(false);
    let head = answers.head(&mut came).expect("sound").expect("whole");
    assert_eq!(head.status, 404);
    assert_eq!(head.reason.as_deref(), Some(&b"Nothing here"[..]));
    assert_eq!(head.headers["a"], "b c");
    assert_eq!(head.headers["e"], "");
    let cookies: Vec<_> = head.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["1", "2"]);
    assert_eq!(&came[..], b"x");
}

#[test]
fn a_connection_goes_on_as_its_answers_say() {
    for (head, goes_on) in [
        ("HTTP/1.1 204 No\r\n", true),
        ("HTTP/1.1 204 No\r\nConnection: close\r\n", false),
        (
            "HTTP/1.1 204 No\r\nConnection: x, Close\r\nConnection: keep-alive\r\n",
            false,
        ),
        ("HTTP/1.0 204 No\r\n", false),
        ("HTTP/1.0 204 No\r\nConnection: Keep-Alive\r\n", true),
    ] {
        let mut answers = Answers::default();
        answers.ask(false);
        let mut came = BytesMut::from(format!("{head}\r\n").as_bytes());
        let head = answers.head(&mut came).expect("sound").expect("whole");
        assert_eq!(head.keeps_alive, goes_on, "{head:?}");
    }
}

#[test]
fn trailers_come_behind_the_chunks() {
    let mut came = BytesMut::from(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=1\r\nhi\r\n0\r\nA: 1\r\n b\r\n\r\n",
    );
    let mut answers = Answers::default();
    answers.ask(false);
    let _ = answers.head(&mut came).expect("sound").expect("whole");
    let Ok(Some(Piece::Data(data))) = answers.piece(&mut came) else {
        panic!("no data");
    };
    assert_eq!(&data[..], b"hi");
    assert_eq!(answers.piece(&mut came).err(), Some(Violation::Fold));
    let mut came = BytesMut::from("\r\n0\r\nA: 1\r\nGrpc-Status: 0\r\n\r\n");
    let mut answers = Answers::default();
    answers.ask(false);
    let head = &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx"[..];
    let mut first = BytesMut::from(head);
    let _ = answers.head(&mut first).expect("sound").expect("whole");
    assert!(matches!(
        answers.piece(&mut first),
        Ok(Some(Piece::Data(_)))
    ));
    let Ok(Some(Piece::Trailers(trailers))) = answers.piece(&mut came) else {
        panic!("no trailers");
    };
    assert_eq!(
        (&trailers["a"], &trailers["grpc-status"]),
        (
            &"1".parse().expect("a value"),
            &"0".parse().expect("a value")
        )
    );
    assert!(answers.has_ended());
}

/// One valid request.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let field = "[a-zA-Z0-9_-]{1,20}: ?[ -~\t]{0,40}";
    let fields = proptest::collection::vec(field, 0..6);
    let fields = fields.prop_map(|fields| {
        let framing = ["content-length", "transfer-encoding"];
        let plain = |field: &String| {
            let lower = field.to_ascii_lowercase().replace('_', "-");
            !framing.iter().any(|name| lower.starts_with(name))
        };
        let lines = fields.into_iter().filter(plain).map(|field| field + "\r\n");
        lines.collect::<String>()
    });
    let body = proptest::collection::vec(any::<u8>(), 0..60);
    let line = "(GET|POST|PUT|DELETE|M-SEARCH) /[!-\"$-~]{0,30} HTTP/1\\.[01]";
    (line, fields, body, 0_usize..3).prop_map(|(line, fields, body, framing)| {
        let mut bytes = format!("{line}\r\n{fields}");
        let chunked = framing == 2 && line.ends_with('1');
        match framing {
            0 => bytes += "\r\n",
            _ if chunked => bytes += "transfer-ENCODING: chunked\r\n\r\n",
            _ => bytes += &format!("Content-length: {}\r\n\r\n", body.len()),
        }
        let mut bytes = bytes.into_bytes();
        if chunked {
            for piece in body.chunks(7) {
                bytes.extend(format!("{:x};e=1\r\n", piece.len()).bytes());
                bytes.extend(piece);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\nx: y\r\n\r\n");
        } else if framing > 0 {
            bytes.extend(body);
        }
        bytes
    })
}

/// Cuts `bytes` at the places that `cuts` names.
fn split<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &bytes[pair[0]..pair[1]])
        .collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    proptest::collection::vec(any::<prop::sample::Index>(), 0..12)
}

/// Up to three bytes changed to ones that matter.
fn mutations() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop::sample::select(b"\r\n \t:;#,\x000019afAZ\x7f\xff".to_vec());
    proptest::collection::vec((any::<prop::sample::Index>(), byte), 0..4)
}

fn mutated(mut bytes: Vec<u8>, mutations: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    for (at, byte) in mutations {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes
}

proptest! {
    #[test]
    fn every_one_of_many_valid_requests_is_approved(
        requests in proptest::collection::vec(request(), 1..8),
        cuts in cuts(),
    ) {
        let bytes = requests.concat();
        let expected = (requests.len() as u64, None, None);
        prop_assert_eq!(verdict_in(&split(&bytes, &cuts)), expected);
    }

    #[test]
    fn any_split_of_requests_into_reads_gives_the_same_verdict(
        requests in proptest::collection::vec(request(), 1..4),
        mutations in mutations(),
        cuts in cuts(),
    ) {
        let bytes = mutated(requests.concat(), &mutations);
        let whole = verdict(&bytes);
        prop_assert_eq!(verdict_in(&split(&bytes, &cuts)), whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(verdict_in(&single), whole);
    }

    #[test]
    fn any_split_of_answers_into_reads_gives_the_same_verdict(
        body in request(),
        interim in 0_usize..3,
        mutations in mutations(),
        cuts in cuts(),
    ) {
        let text = String::from_utf8_lossy(&body).into_owned();
        let (_, rest) = text.split_once("\r\n").expect("a line");
        let interim = "HTTP/1.1 103 Early\r\nA: b\r\n\r\n".repeat(interim);
        let bytes = format!("{interim}HTTP/1.1 200 OK\r\n{rest}").into_bytes();
        let bytes = mutated(bytes, &mutations);
        let whole = answered(&[&bytes]).0;
        prop_assert_eq!(answered(&split(&bytes, &cuts)).0, whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(answered(&single).0, whole);
    }

    #[test]
    fn any_bytes_at_all_are_read_without_a_panic(
        reads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6),
    ) {
        let reads: Vec<&[u8]> = reads.iter().map(Vec::as_slice).collect();
        verdict_in(&reads);
        answered(&reads);
    }

    #[test]
    fn eight_bytes_at_once_find_what_one_byte_at_a_time_finds(
        bytes in proptest::collection::vec(any::<u8>(), 0..40),
        plain in "[ -~]{0,120}[\x00-\x1f\x7f]?[ -~]{0,40}",
    ) {
        for bytes in [&bytes, plain.as_bytes()] {
            let control = |byte: &u8| *byte < 0x20 || *byte == 0x7f;
            let first = |stops: &dyn Fn(&u8) -> bool| {
                bytes.iter().position(stops).unwrap_or(bytes.len())
            };
            prop_assert_eq!(text(bytes), first(&control));
            let stops = |byte: &u8| control(byte) || matches!(byte, b' ' | b'#');
            prop_assert_eq!(target(bytes), first(&stops));
        }
    }
}
