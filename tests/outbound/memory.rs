//! The binary itself: a gigabyte each way, through either side and over either protocol, leaves its
//! memory and its descriptors as they were. Built with `REGENT_TEST_LONG` it is ten of them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use regent::clock::Clock;

use super::support::access_token;

const GIBIBYTE: u64 = 1 << 30;
const PIECE: usize = 256 * 1024;
/// What all of it may cost.
const MOST_KIB: u64 = 16 * 1024;

/// A sidecar in a process of its own; it ends with the test.
struct Process {
    child: Child,
    /// Outbound's listener.
    at: SocketAddr,
    /// Inbound's, where no token is needed.
    inbound: SocketAddr,
}

impl Process {
    fn start(folder: &Path, upstream: SocketAddr) -> Process {
        let token = folder.join("token");
        let text = access_token(&Clock::system(), "the-first");
        std::fs::write(&token, text).expect("a file");
        let file = folder.join("regent.toml");
        let config = format!(
            "[region.credential]\naccess_token_file = {token:?}\n\
             [outbound]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\n\
             [inbound]\nlisten = \"127.0.0.1:0\"\nupstream = \"http://{upstream}\"\n\
             [[inbound.rules]]\npath = \"/\"\nanonymous = true\n\
             [inbound.issuers.home]\nissuer = \"\"\njwks_url = \"http://127.0.0.1:1/\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[log]\nformat = \"json\"\n"
        );
        std::fs::write(&file, config).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_regent"))
            .args(["run", "-c"])
            .arg(&file)
            .env_clear()
            .env("HOME", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let mut listens = |side: &str| loop {
            let mut line = String::new();
            let read = log.read_line(&mut line).expect("a log");
            assert!(read > 0, "it ended before it listened");
            let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            if line["message"] == side {
                let listen = line["listen"].as_str().expect("an address");
                let address = listen.trim_start_matches("http://");
                break address.parse().expect("an address");
            }
        };
        let (at, inbound) = (listens("outbound"), listens("inbound"));
        // The log goes on; a full pipe would stop it.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Process { child, at, inbound }
    }

    /// The most memory that it ever had. KiB.
    fn peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.and_then(|number| number.parse().ok()).expect("KiB")
    }

    fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(path).expect("it runs").count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has told by then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers each request: `/down/N` with N bytes, anything else with the length of its body.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("a port");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            thread::spawn(move || serve(stream));
        }
    });
    at
}

fn serve(mut stream: TcpStream) {
    // Whoever called may leave at any time.
    while serve_one(&mut stream).is_ok_and(|goes_on| goes_on) {}
}

fn serve_one(stream: &mut TcpStream) -> std::io::Result<bool> {
    let mut reader = BufReader::with_capacity(PIECE, &*stream);
    let mut target = String::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if target.is_empty() {
            target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
    }
    let came = std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
    let body = came.to_string();
    let down = target.strip_prefix("/down/").and_then(|n| n.parse().ok());
    let size: u64 = down.unwrap_or(body.len() as u64);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    match down {
        Some(size) => send(stream, size)?,
        None => stream.write_all(body.as_bytes())?,
    }
    Ok(came == length)
}

fn send(stream: &mut TcpStream, mut left: u64) -> std::io::Result<()> {
    let piece = vec![b'x'; PIECE];
    while left > 0 {
        let step = left.min(PIECE as u64);
        let step = usize::try_from(step).expect("a piece");
        stream.write_all(&piece[..step])?;
        left -= step as u64;
    }
    Ok(())
}

/// Reads an answer; how long its body was, and the last of it.
fn answer(stream: &mut TcpStream) -> (u64, String) {
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let mut length = 0;
    let mut first = String::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        if first.is_empty() {
            first.clone_from(&line);
            assert!(first.starts_with("HTTP/1.1 200"), "{first}");
        }
        if line.trim_end().is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim_end().parse().expect("a length");
        }
    }
    let mut came = 0;
    let mut last = String::new();
    while came < length {
        let bytes = reader.fill_buf().expect("a body");
        assert!(!bytes.is_empty(), "cut after {came}");
        last = String::from_utf8_lossy(&bytes[..bytes.len().min(32)]).into_owned();
        let step = bytes.len();
        came += step as u64;
        reader.consume(step);
    }
    (came, last)
}

fn down(at: SocketAddr, size: u64) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    let request = format!("GET /down/{size} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("open");
    assert_eq!(answer(&mut stream).0, size);
}

fn up(at: SocketAddr, size: u64) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    let request = format!("POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("open");
    send(&mut stream, size).expect("open");
    assert_eq!(answer(&mut stream).1, size.to_string());
}

/// An exchange over HTTP/2, with so many bytes of body; how long the answer's was, and the last of it.
fn over_http_2(at: SocketAddr, method: &str, path: &str, mut left: u64) -> (u64, String) {
    let exchange = async {
        let io = tokio::net::TcpStream::connect(at)
            .await
            .expect("it listens");
        let (requests, connection) = h2::client::handshake(io).await.expect("HTTP/2");
        tokio::task::spawn_local(connection);
        let mut requests = requests.ready().await.expect("open");
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://localhost{path}"))
            .header("content-length", left)
            .body(())
            .expect("a request");
        let sent = requests.send_request(request, left == 0);
        let (answer, mut sending) = sent.expect("open");
        let piece = bytes::Bytes::from(vec![b'x'; PIECE]);
        while left > 0 {
            let step = usize::try_from(left.min(PIECE as u64)).expect("a piece");
            sending.reserve_capacity(step);
            let room = std::future::poll_fn(|cx| sending.poll_capacity(cx)).await;
            let step = room.expect("open").expect("room").min(step);
            left -= step as u64;
            sending
                .send_data(piece.slice(..step), left == 0)
                .expect("open");
        }
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let mut body = answer.into_body();
        let (mut came, mut last) = (0, String::new());
        while let Some(data) = body.data().await {
            let data = data.expect("a whole body");
            came += data.len() as u64;
            last = String::from_utf8_lossy(&data[..data.len().min(32)]).into_owned();
            body.flow_control()
                .release_capacity(data.len())
                .expect("it came");
        }
        (came, last)
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, exchange)
}

fn down_over_http_2(at: SocketAddr, size: u64) {
    let (came, _) = over_http_2(at, "GET", &format!("/down/{size}"), 0);
    assert_eq!(came, size);
}

fn up_over_http_2(at: SocketAddr, size: u64) {
    assert_eq!(over_http_2(at, "POST", "/up", size).1, size.to_string());
}

#[test]
fn a_gibibyte_each_way_costs_little_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(folder.path(), upstream());
    // The library that calls over HTTP/2 is slow where it is not optimised.
    let (size, over_http_2) = match option_env!("REGENT_TEST_LONG") {
        Some(_) => (10 * GIBIBYTE, 10 * GIBIBYTE),
        None => (GIBIBYTE, GIBIBYTE / 16),
    };
    for (side, at) in [("outbound", process.at), ("inbound", process.inbound)] {
        for (way, carry, size) in [
            ("down", down as fn(SocketAddr, u64), size),
            ("up", up, size),
            ("down over HTTP/2", down_over_http_2, over_http_2),
            ("up over HTTP/2", up_over_http_2, over_http_2),
        ] {
            carry(at, 1000);
            let before = process.peak();
            carry(at, size);
            let after = process.peak();
            println!("{side}, {size} bytes {way}: peak memory {before} KiB, then {after} KiB");
            assert!(after < before + MOST_KIB);
        }
    }
}

/// What is kept for a replay has a limit, in whatever pieces it comes.
#[test]
fn bodies_in_pieces_of_one_byte_cost_little_memory() {
    const CALLERS: usize = 5;
    const PIECES: usize = 60_000;
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let process = Process::start(folder.path(), listener.local_addr().expect("a port"));
    let before = process.peak();
    // None of them is answered before all of it was kept.
    let mut calling = Vec::new();
    for _ in 0..CALLERS {
        let mut stream = TcpStream::connect(process.at).expect("it listens");
        let mut above = None;
        for piece in 0..PIECES / 1000 {
            if piece == 0 {
                let head =
                    "POST /up HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
                stream.write_all(head.as_bytes()).expect("open");
            }
            stream
                .write_all("1\r\nx\r\n".repeat(1000).as_bytes())
                .expect("open");
            let above = above.get_or_insert_with(|| listener.accept().expect("a connection").0);
            let mut came = 0;
            let mut room = [0; 4096];
            while came < 1000 {
                let read = above.read(&mut room).expect("more");
                assert!(read > 0, "it ended");
                came += room[..read].iter().filter(|byte| **byte == b'x').count();
            }
        }
        calling.push((stream, above));
    }
    let after = process.peak();
    println!("peak memory {before} KiB, then {after} KiB");
    assert!(after < before + MOST_KIB);
}

#[test]
fn callers_that_come_and_go_leave_no_descriptor_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let process = Process::start(folder.path(), upstream());
    down(process.at, 1000);
    let before = process.descriptors();
    for round in 0..100 {
        let mut stream = TcpStream::connect(process.at).expect("it listens");
        let request = match round % 4 {
            0 => "GET /down/100000000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            1 => "POST /up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf",
            2 => "POST /up HTTP/1.1\r\nHost: evil\r\nContent-Length: 100\r\n\r\nhalf",
            _ => "GET /half-a-he",
        };
        stream.write_all(request.as_bytes()).expect("open");
        if round % 8 < 4 {
            let mut some = [0; 1];
            stream
                .set_read_timeout(Some(Duration::from_millis(20)))
                .expect("a time");
            // Some of them have an answer by then.
            let _ = stream.read(&mut some);
        }
    }
    // Upstream connections stay unused for 20 s; half of that many callers is no leak of any.
    for _ in 0..400 {
        if process.descriptors() <= before + 2 {
            return;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{} descriptors, {before} before", process.descriptors());
}
