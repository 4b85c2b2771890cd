use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::*;

/// A header of version 2.
fn v2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    header.extend([version_command, family]);
    let length = u16::try_from(rest.len()).expect("short enough");
    header.extend(length.to_be_bytes());
    header.extend(rest);
    header
}

const FOUR: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

fn six() -> Vec<u8> {
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    [&address(1)[..], &address(2), &[0xdc, 4, 1, 0xbb]].concat()
}

fn source(header: &[u8]) -> Option<String> {
    match parse(header).expect("a header") {
        Parsed::Whole { source, length } => {
            assert_eq!(length, header.len());
            source.map(|source| source.to_string())
        }
        Parsed::Part(more) => panic!("{more} more"),
    }
}

#[test]
fn headers_of_version_1() {
    for (line, announced) in [
        ("TCP4 192.0.2.1 192.0.2.2 56324 443", Some("192.0.2.1")),
        (
            "TCP4 255.255.255.255 255.255.255.255 65535 65535",
            Some("255.255.255.255"),
        ),
        ("TCP4 0.0.0.0 0.0.0.0 0 0", Some("0.0.0.0")),
        ("TCP6 2001:db8::1 ::1 56324 443", Some("2001:db8::1")),
        (
            "TCP6 ::ffff:192.0.2.1 ::1 56324 443",
            Some("::ffff:192.0.2.1"),
        ),
        (
            "TCP6 ffff:f0f0:ffff:f0f0:ffff:f0f0:ffff:f0f0 ffff:f0f0:ffff:f0f0:ffff:f0f0:ffff:f0f0 65535 65535",
            Some("ffff:f0f0:ffff:f0f0:ffff:f0f0:ffff:f0f0"),
        ),
        ("UNKNOWN", None),
        ("UNKNOWN ", None),
        ("UNKNOWN whatever \t stands here", None),
    ] {
        let header = format!("PROXY {line}\r\n");
        assert_eq!(source(header.as_bytes()).as_deref(), announced, "{line}");
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(91));
    assert_eq!(longest.len(), 107);
    assert_eq!(source(longest.as_bytes()), None);
}

#[test]
fn headers_of_version_2() {
    let tlvs = [&FOUR[..], &[3, 0, 4, 1, 2, 3, 4, 4, 0, 1, 0]].concat();
    let mut unix = [0; 216];
    unix[..4].copy_from_slice(b"/a/b");
    for (header, announced) in [
        (v2(0x21, 0x11, &FOUR), Some("192.0.2.1")),
        (v2(0x21, 0x12, &FOUR), Some("192.0.2.1")),
        (v2(0x21, 0x11, &tlvs), Some("192.0.2.1")),
        (v2(0x21, 0x21, &six()), Some("2001:db8::1")),
        (
            v2(0x21, 0x22, &[&six()[..], &[0; 500]].concat()),
            Some("2001:db8::1"),
        ),
        (v2(0x21, 0x31, &unix), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, &FOUR), None),
        (v2(0x20, 0x00, &[]), None),
        // What stands in a LOCAL one is of no account.
        (v2(0x20, 0x11, &FOUR), None),
        (v2(0x20, 0x11, &FOUR[..3]), None),
        (v2(0x20, 0xff, &[7; 99]), None),
        (
            v2(0x21, 0x11, &[&FOUR[..], &[0; V2_MOST - 28]].concat()),
            Some("192.0.2.1"),
        ),
    ] {
        assert_eq!(source(&header).as_deref(), announced, "{header:?}");
    }
}

#[test]
fn what_is_no_header() {
    let odd = |line: &str| format!("PROXY {line}").into_bytes();
    let mut cases = vec![
        b"GET / HTTP/1.1\r\n".to_vec(),
        b"POST / HTTP/1.1\r\n".to_vec(),
        b"proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXY\tTCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"PROXYTCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01".to_vec(),
        b"\r\n\r\n\0\r\nQUIT\r".to_vec(),
        b"\r\nPROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
        b"\0".to_vec(),
    ];
    cases.extend([
        odd("\r\n"),
        odd("TCP4\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 1 2\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 1 2 \r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 1 2\r\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 1\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n"),
        odd("TCP4  192.0.2.1 192.0.2.2 1 2\r\n"),
        odd(" TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 65536 2\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 -1 2\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 +1 2\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 01 2\r\n"),
        odd("TCP4 192.0.2.1 192.0.2.2 1 \r\n"),
        odd("TCP4 192.0.2.01 192.0.2.2 1 2\r\n"),
        odd("TCP4 192.0.2 192.0.2.2 1 2\r\n"),
        odd("TCP4 2001:db8::1 ::1 1 2\r\n"),
        odd("TCP4 192.0.2.1 ::1 1 2\r\n"),
        odd("TCP6 192.0.2.1 192.0.2.2 1 2\r\n"),
        odd("TCP6 fe80::1%eth0 ::1 1 2\r\n"),
        odd("TCP6 [::1] ::1 1 2\r\n"),
        odd("tcp4 192.0.2.1 192.0.2.2 1 2\r\n"),
        odd("UDP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        odd("UNKNOWNS\r\n"),
        odd("TCP4 localhost 192.0.2.2 1 2\r\n"),
        [&odd("TCP4 \u{661}")[..], b" 192.0.2.2 1 2\r\n"].concat(),
        odd(&format!("UNKNOWN {}\r\n", "x".repeat(92))),
        odd(&"x".repeat(200)),
        v2(0x11, 0x11, &FOUR),
        v2(0x22, 0x11, &FOUR),
        v2(0x31, 0x11, &FOUR),
        v2(0x21, 0x10, &FOUR),
        v2(0x21, 0x13, &FOUR),
        v2(0x21, 0x41, &FOUR),
        v2(0x21, 0x01, &FOUR),
        v2(0x21, 0x11, &FOUR[..11]),
        v2(0x21, 0x21, &six()[..35]),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &[0; V2_MOST - V2_FIXED + 1]),
        v2(0x20, 0x00, &[0; 0xffff]),
    ]);
    for case in cases {
        let parsed = parse(&case);
        assert!(
            parsed.is_err(),
            "{:?} {parsed:?}",
            case.escape_ascii().to_string()
        );
    }
}

#[test]
fn what_is_wrong_is_known_at_the_first_byte_that_is() {
    for (bytes, known) in [
        ("GET / HTTP/1.1\r\n", 1),
        ("POST / HTTP/1.1\r\n", 2),
        ("\r\n\r\nGET / HTTP/1.1\r\n", 5),
    ] {
        for length in 0..known {
            assert!(
                parse(&bytes.as_bytes()[..length]).is_ok(),
                "{bytes:?} {length}"
            );
        }
        assert_eq!(parse(&bytes.as_bytes()[..known]), Err(NONE), "{bytes:?}");
    }
    // Its length alone is too much: nobody waits for what it announces.
    assert!(parse(&v2(0x21, 0x11, &[0; 0xfff0])[..16]).is_err());
}

/// Two ends of a connection of the kernel's.
async fn sockets() -> (Io, Io) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bound");
    let at = listener.local_addr().expect("bound");
    let (ours, theirs) = tokio::join!(listener.accept(), tokio::net::TcpStream::connect(at));
    let (ours, _) = ours.expect("a connection");
    let theirs = theirs.expect("it listens");
    theirs.set_nodelay(true).expect("a socket");
    (Io::Tcp(ours), Io::Tcp(theirs))
}

fn pipes() -> (Io, Io) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    (Io::Boxed(Box::new(ours)), Io::Boxed(Box::new(theirs)))
}

fn headers() -> Vec<(Vec<u8>, Option<IpAddr>)> {
    let announced = |text: &str| Some(text.parse().expect("an address"));
    let newlines = [&FOUR[..], &[b'\n'; 600]].concat();
    vec![
        (
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(),
            announced("192.0.2.1"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (v2(0x21, 0x11, &FOUR), announced("192.0.2.1")),
        (v2(0x21, 0x21, &six()), announced("2001:db8::1")),
        (v2(0x21, 0x11, &newlines), announced("192.0.2.1")),
        (v2(0x20, 0x00, &[]), None),
    ]
}

/// Long after anybody would still come.
const HANGS: Duration = Duration::from_secs(60);

/// The next bytes may look like anything: a request, or one more header.
const NEXT: &[u8] = b"PROXY TCP4 9.9.9.9 9.9.9.9 9 9\r\nGET / HTTP/1.1\r\n\r\n";

#[tokio::test]
async fn nothing_behind_a_header_is_read_with_it() {
    for (header, announced) in headers() {
        for (mut ours, mut theirs) in [sockets().await, pipes()] {
            theirs
                .write_all(&[&header[..], NEXT].concat())
                .await
                .expect("room");
            let source = read(&mut ours, || {}).await.expect("a header");
            assert_eq!(source, announced);
            let mut next = vec![0; NEXT.len()];
            let read = tokio::time::timeout(HANGS, ours.read_exact(&mut next));
            read.await.expect("it hangs").expect("all of it");
            assert_eq!(next, NEXT);
        }
    }
}

#[tokio::test]
async fn a_header_may_come_byte_by_byte() {
    for (header, announced) in headers() {
        for (mut ours, mut theirs) in [sockets().await, pipes()] {
            let say = async {
                for byte in header.iter().chain(NEXT) {
                    theirs.write_all(&[*byte]).await.expect("room");
                    tokio::task::yield_now().await;
                }
            };
            let begun = std::cell::Cell::new(0);
            let count = || begun.set(begun.get() + 1);
            let (source, ()) = tokio::join!(read(&mut ours, count), say);
            assert_eq!(source.expect("a header"), announced);
            assert!(begun.get() > 0);
            let mut next = vec![0; NEXT.len()];
            let read = tokio::time::timeout(HANGS, ours.read_exact(&mut next));
            read.await.expect("it hangs").expect("all of it");
            assert_eq!(next, NEXT);
        }
    }
}

#[tokio::test]
async fn a_connection_that_ends_early_says_how_far_it_came() {
    for (header, _) in headers() {
        for length in 0..header.len() {
            let (mut ours, mut theirs) = pipes();
            theirs.write_all(&header[..length]).await.expect("room");
            drop(theirs);
            match (length, read(&mut ours, || {}).await) {
                (0, Err(Unread::Nothing)) | (1.., Err(Unread::Cut)) => {}
                (_, other) => panic!("{length} {other:?}"),
            }
        }
    }
}
