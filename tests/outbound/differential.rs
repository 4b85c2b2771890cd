//! hyper and the strict reading, over the same bytes: what hyper makes a request of and Regent would
//! serve must be what the strict reading approved, head by head and body by body.
//!
//! `tests/fuzz` runs this with bytes of its own making.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use regent::clock::Boot;
use regent::net::Io;
use regent::proxy::framing::Requests;
use regent::proxy::signal::{Phase, Signal};
use regent::server::Bounds;
use regent::server::observe::Observed;
use regent::server::serve::http1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A head that hyper yields and Regent serves.
#[derive(Debug)]
struct Served {
    method: String,
    uri: Uri,
    /// `None` where it broke off.
    body: Option<Vec<u8>>,
}

/// What the strict reading says of a message.
#[derive(Debug)]
struct Approved {
    method: String,
    target: Vec<u8>,
    /// `None` where its end did not come.
    body: Option<Vec<u8>>,
}

/// Compares on any input: the first byte says in which pieces the rest arrives, 0 in one.
///
/// # Panics
/// The two readings differ in what is served.
pub(crate) fn judge(input: &[u8]) {
    if let [piece, bytes @ ..] = input {
        let piece = match piece {
            0 => bytes.len(),
            piece => usize::from(*piece),
        };
        compare(bytes, piece);
    }
}

/// Sends `bytes` in pieces of `piece` to hyper behind the observer, and compares.
///
/// # Panics
/// The two readings differ in what is served. How many requests were, otherwise.
pub(crate) fn compare(bytes: &[u8], piece: usize) -> usize {
    let approved = strictly(bytes);
    let served = through_hyper(bytes, piece.max(1));
    assert!(served.len() <= approved.len(), "{served:?} {approved:?}");
    for (served, approved) in served.iter().zip(&approved) {
        let target = Uri::try_from(&approved.target[..]).expect("hyper took it");
        assert_eq!(served.method, approved.method);
        assert_eq!(served.uri, target);
        // What follows CONNECT is nobody's body: it is refused, and the connection ends.
        if served.body.is_some() && served.method != "CONNECT" {
            assert_eq!(served.body, approved.body, "{}", served.uri);
        }
    }
    served.len()
}

/// Byte by byte: where each approved head and its message begin and end.
fn strictly(bytes: &[u8]) -> Vec<Approved> {
    let mut scanner = Requests::default();
    let mut found: Vec<Approved> = Vec::new();
    let (mut begin, mut body) = (0, 0);
    for (at, byte) in bytes.iter().enumerate() {
        let before = scanner.approved();
        scanner.scan(&[*byte]);
        if scanner.approved() > before {
            body = at + 1;
            let line = bytes[begin..].split(|byte| *byte == b'\r').next();
            let mut words = line.expect("a line").split(|byte| *byte == b' ');
            let mut word = || words.next().expect("three words").to_vec();
            found.push(Approved {
                method: String::from_utf8(word()).expect("a token"),
                target: word(),
                body: None,
            });
        }
        if scanner.violation().is_some() {
            break;
        }
        if scanner.is_between() {
            if let Some(last) = found.last_mut().filter(|last| last.body.is_none()) {
                let head = String::from_utf8_lossy(&bytes[begin..body]).to_ascii_lowercase();
                let raw = &bytes[body..=at];
                last.body = Some(match head.contains("\r\ntransfer-encoding:") {
                    true => unchunked(raw),
                    false => raw.to_vec(),
                });
            }
            begin = at + 1;
        }
    }
    found
}

/// The data of whole and sound chunks.
fn unchunked(mut raw: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    loop {
        let end = raw.windows(2).position(|two| two == b"\r\n");
        let end = end.expect("a size's line");
        let line = String::from_utf8_lossy(&raw[..end]).into_owned();
        let size = line.split(';').next().expect("a size");
        let size = usize::from_str_radix(size, 16).expect("a number");
        if size == 0 {
            return data;
        }
        data.extend_from_slice(&raw[end + 2..][..size]);
        raw = &raw[end + 2 + size + 2..];
    }
}

fn through_hyper(bytes: &[u8], piece: usize) -> Vec<Served> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(exchange(bytes, piece)))
}

async fn exchange(bytes: &[u8], piece: usize) -> Vec<Served> {
    let (mut theirs, ours) = tokio::io::duplex(1 << 16);
    let signal = Arc::new(Signal::new(Boot::default()));
    let served = Rc::new(RefCell::new(Vec::new()));
    let refused = Rc::new(RefCell::new(false));
    let service = service_fn(|request: Request<Incoming>| {
        // As `Worker::begin` and `Worker::answer` have it.
        let framing = signal.next_head();
        signal.set(Phase::Busy, Boot::default());
        let (signal, served, refused) = (Arc::clone(&signal), served.clone(), refused.clone());
        async move {
            let mut answer = Response::new(Empty::<&[u8]>::new());
            if framing.is_err() {
                *refused.borrow_mut() = true;
                *answer.status_mut() = http::StatusCode::BAD_REQUEST;
                let close = http::HeaderValue::from_static("close");
                answer.headers_mut().insert("connection", close);
            } else {
                assert!(!*refused.borrow(), "served after a refusal");
                let at = served.borrow().len();
                served.borrow_mut().push(Served {
                    method: request.method().to_string(),
                    uri: request.uri().clone(),
                    body: None,
                });
                let body = request.into_body().collect().await;
                served.borrow_mut()[at].body = body.ok().map(|body| body.to_bytes().to_vec());
            }
            signal.set(Phase::Idle, Boot::default());
            Ok::<_, Infallible>(answer)
        }
    });
    let bounds = Bounds {
        header_bytes: 32 * 1024,
        upstreams: 1,
        connections: 1,
        exchanges: 1,
        concurrent_streams: 1,
        window: 1 << 20,
        header_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
    };
    let io = TokioIo::new(Observed::new(
        Io::Boxed(Box::new(ours)),
        Arc::clone(&signal),
        bounds.header_bytes,
    ));
    let serving = http1(&bounds).serve_connection(io, service).with_upgrades();
    let server = async {
        let mut serving = pin!(serving);
        let mut idle = 0;
        let patience = 32 + bytes.len() / piece;
        poll_fn(|cx| {
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            // Nobody sweeps here: after a while, the end that is held back is told.
            idle += 1;
            if idle > patience {
                signal.end_now();
            }
            if idle > 2 * patience {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    };
    let caller = async {
        for piece in bytes.chunks(piece) {
            if theirs.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = theirs.shutdown().await;
        let mut answers = Vec::new();
        let _ = theirs.read_to_end(&mut answers).await;
    };
    // The connection is dropped at its end, which ends the caller's reading.
    tokio::join!(server, caller);
    served.take()
}
