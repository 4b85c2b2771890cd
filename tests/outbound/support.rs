//! A sidecar in process, a scripted upstream behind it, raw callers before it.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use regent::app::{self, Bound, Deps, Exit, Remote};
use regent::clock::Clock;
use regent::config::load::load;
use regent::config::{Listen, Sources};
use regent::demo::region::{Region, Settings, SigningKey};
use regent::lifecycle::Stage;
use regent::net::{Accept, Io, Listener, Local, Memory, Net, System};
use regent::reason::Reason;
use regent::telemetry::counters::Side;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{JoinHandle, spawn_local};

/// Runs a test over sockets, in real time.
pub(crate) fn real<T>(test: impl Future<Output = T>) -> T {
    let runtime = app::local_runtime().expect("a runtime");
    let limit = Duration::from_secs(90);
    runtime.block_on(async {
        let test = tokio::time::timeout(limit, test);
        test.await.expect("the test hangs")
    })
}

/// Runs a test over pipes, in time that passes only where everybody waits.
pub(crate) fn paused<T>(test: impl Future<Output = T>) -> T {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true);
    let runtime = builder
        .build_local(LocalOptions::default())
        .expect("a runtime");
    let limit = Duration::from_secs(3600);
    runtime.block_on(async {
        let test = tokio::time::timeout(limit, test);
        test.await.expect("the test hangs")
    })
}

/// Lets everybody do what they can do now.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits until something holds; the test's own limit ends it otherwise.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sockets and the system's clock, or pipes and a clock that follows the test's.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) net: Arc<dyn Net>,
    /// Connections that a sidecar opened and has not closed yet.
    pub(crate) dialled: Arc<AtomicUsize>,
    pub(crate) clock: Clock,
    /// The next address of a pipe; 0 for sockets.
    next: Rc<Cell<u16>>,
}

impl World {
    pub(crate) fn sockets() -> World {
        World {
            net: Arc::new(System),
            dialled: Arc::default(),
            clock: Clock::system(),
            next: Rc::default(),
        }
    }

    pub(crate) fn pipes() -> World {
        World {
            net: Arc::new(Memory::default()),
            dialled: Arc::default(),
            clock: Clock::manual(1_800_000_000),
            next: Rc::new(Cell::new(1000)),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let port = self.next.get();
        if port > 0 {
            self.next.set(port + 1);
        }
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    pub(crate) async fn connect(&self, to: SocketAddr) -> Peer {
        Peer::new(self.net.connect(to).await.expect("it listens"))
    }
}

/// Counts the connections that are opened through it, until they are dropped.
struct Counted {
    binds: Arc<dyn Net>,
    dials: Arc<dyn Net>,
    open: Arc<AtomicUsize>,
}

impl Net for Counted {
    fn bind(&self, at: &Listen) -> std::io::Result<Listener> {
        self.binds.bind(at)
    }

    fn connect<'a>(&'a self, to: SocketAddr) -> Local<'a, std::io::Result<Io>> {
        Box::pin(async move {
            let io = self.dials.connect(to).await?;
            self.open.fetch_add(1, Relaxed);
            Ok(Io::Boxed(Box::new(Live(io, Arc::clone(&self.open)))))
        })
    }
}

struct Live(Io, Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Relaxed);
    }
}

impl AsyncRead for Live {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Live {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A region whose refresh tokens rotate and whose access tokens live for a day.
pub(crate) fn region(world: &World) -> Region {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    let key = KEY.get_or_init(|| SigningKey::generate().expect("a key"));
    let settings = Settings {
        access_lifetime: Duration::from_secs(86_400),
        refresh_lifetime: Duration::from_secs(30 * 86_400),
        ..Settings::default()
    };
    Region::new(key.clone(), settings, world.clock.clone())
}

/// A token in the shape that a region's has; nobody here checks its signature.
pub(crate) fn access_token(clock: &Clock, jti: &str) -> String {
    let part = |json: String| URL_SAFE_NO_PAD.encode(json);
    let now = clock.unix();
    let claims = serde_json::json!({
        "token_type": "access", "iat": now, "exp": now + 86_400, "jti": jti,
        "user_id": "1", "username": "alice",
    });
    let header = serde_json::json!({ "alg": "RS256", "typ": "JWT" });
    format!(
        "{}.{}.c2lnbmF0dXJl",
        part(header.to_string()),
        part(claims.to_string())
    )
}

/// What a sidecar is started with.
pub(crate) struct Setup {
    world: World,
    sets: Vec<String>,
    region: Option<Region>,
    listen: Option<String>,
    dials: Option<Arc<dyn Net>>,
    variables: Vec<(String, String)>,
    files: Vec<PathBuf>,
}

impl Setup {
    pub(crate) fn new(world: &World, upstream: SocketAddr) -> Setup {
        Setup::at(world, &format!("http://{upstream}"))
    }

    pub(crate) fn at(world: &World, upstream: &str) -> Setup {
        Setup {
            world: world.clone(),
            sets: vec![
                format!("outbound.upstream={upstream}"),
                "region.url=http://127.0.0.1:1".to_owned(),
                "drain.timeout=20s".to_owned(),
            ],
            region: None,
            listen: None,
            dials: None,
            variables: Vec::new(),
            files: Vec::new(),
        }
    }

    pub(crate) fn set(mut self, set: impl Into<String>) -> Setup {
        self.sets.push(set.into());
        self
    }

    /// A variable of the environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A config file.
    pub(crate) fn file(mut self, path: impl Into<PathBuf>) -> Setup {
        self.files.push(path.into());
        self
    }

    pub(crate) fn listen(mut self, listen: impl Into<String>) -> Setup {
        self.listen = Some(listen.into());
        self
    }

    /// Reaches its upstream through this.
    pub(crate) fn dials(mut self, net: Arc<dyn Net>) -> Setup {
        self.dials = Some(net);
        self
    }

    /// Logged in to this region, in process; else a token stands in a file.
    pub(crate) fn region(mut self, region: &Region) -> Setup {
        self.region = Some(region.clone());
        self
    }

    pub(crate) fn build(self) -> Result<(Bound, TempDir, String), app::Error> {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, token) = match &self.region {
            Some(region) => {
                let token = region.issue_refresh("alice@example.com").expect("alice");
                ("refresh_token_file", token.expose().to_owned())
            }
            None => (
                "access_token_file",
                access_token(&self.world.clock, "the-first"),
            ),
        };
        let file = folder.path().join("token");
        std::fs::write(&file, &token).expect("a file");
        let mut sets = vec![
            format!("region.credential.{key}={}", file.display()),
            format!("admin.listen={}", self.world.address()),
        ];
        let any = || self.world.address().to_string();
        let listen = self.listen.clone().unwrap_or_else(any);
        sets.push(format!("outbound.listen={listen}"));
        sets.extend(self.sets);
        let home = ("HOME".to_owned(), folder.path().display().to_string());
        let sources = Sources {
            files: self.files,
            sets,
            env: self.variables.into_iter().chain([home]).collect(),
            terminal: false,
        };
        let loaded = load(&sources).map_err(app::Error::Config)?;
        let deps = Deps {
            net: Arc::new(Counted {
                binds: Arc::clone(&self.world.net),
                dials: self.dials.unwrap_or(Arc::clone(&self.world.net)),
                open: Arc::clone(&self.world.dialled),
            }),
            clock: self.world.clock.clone(),
            fetch: self.region.as_ref().map(Region::service),
            reread: Some(Box::new(move || load(&sources))),
            ..Deps::system()
        };
        Ok((app::build(loaded, deps)?, folder, token))
    }

    pub(crate) fn start(self) -> Sidecar {
        let world = self.world.clone();
        let (bound, folder, token) = self.build().expect("a sidecar");
        let at = bound.outbound.as_ref().and_then(|at| at.tcp());
        Sidecar {
            at: at.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
            admin: bound.admin.expect("an admin listener"),
            remote: bound.remote.clone(),
            token,
            run: Some(spawn_local(bound.run_here())),
            world,
            folder,
        }
    }
}

/// A sidecar that runs on this runtime.
pub(crate) struct Sidecar {
    pub(crate) at: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) remote: Remote,
    /// What stands in its credential file.
    pub(crate) token: String,
    run: Option<JoinHandle<Exit>>,
    world: World,
    folder: TempDir,
}

impl Sidecar {
    pub(crate) async fn caller(&self) -> Peer {
        self.world.connect(self.at).await
    }

    /// One request over a connection of its own.
    pub(crate) async fn ask(&self, request: &str) -> Answer {
        self.caller().await.ask(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
            .await
    }

    pub(crate) fn refused(&self, reason: Reason) -> u64 {
        let one = |counters: &Arc<regent::telemetry::counters::Counters>| {
            counters.of(Side::Outbound).refused[reason as usize].load(Relaxed)
        };
        self.remote.counters.iter().map(one).sum()
    }

    pub(crate) fn refused_in_all(&self) -> u64 {
        Reason::ALL.iter().map(|reason| self.refused(*reason)).sum()
    }

    pub(crate) fn broken_off(&self, reason: Reason) -> u64 {
        self.remote.counters[0].of(Side::Outbound).upstream_failures[reason as usize].load(Relaxed)
    }

    pub(crate) fn recovered(&self) -> u64 {
        self.remote.counters[0]
            .of(Side::Outbound)
            .unauthorized_recovered
            .load(Relaxed)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.remote.counters[0]
            .of(Side::Outbound)
            .connections
            .load(Relaxed)
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    pub(crate) fn is_running(&self) -> bool {
        self.run.as_ref().is_some_and(|run| !run.is_finished())
    }

    pub(crate) fn drain(&self) {
        self.remote.stop.advance(Stage::Drain);
    }

    pub(crate) async fn ended(&mut self) -> Exit {
        let run = self.run.take().expect("it is waited for once");
        run.await.expect("no panic")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.remote.stop.advance(Stage::Abort);
    }
}

/// A message's head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The request line or the status line.
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Head {
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').expect("a field");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        let fields = lines.filter(|line| !line.is_empty()).map(field);
        Head {
            line,
            fields: fields.collect(),
        }
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(field, _)| field == name);
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The one field of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands there twice: {all:?}");
        all.first().copied()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub(crate) fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// How a message's body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing says, or there was none.
    Whole,
    /// Before.
    Cut,
}

/// One end of a connection, and what came over it that nobody took yet.
pub(crate) struct Peer {
    pub(crate) io: Io,
    pub(crate) buffer: Vec<u8>,
    /// Bytes that ever came.
    pub(crate) received: u64,
}

impl Peer {
    pub(crate) fn new(io: Io) -> Peer {
        Peer {
            io,
            buffer: Vec::new(),
            received: 0,
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other side reads");
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        self.io.write_all(bytes.as_ref()).await?;
        self.io.flush().await
    }

    /// Closes the sending half.
    pub(crate) async fn finish(&mut self) {
        self.io.shutdown().await.expect("the other side is there");
    }

    /// More bytes; `false` at the end of them, however it came.
    pub(crate) async fn fill(&mut self) -> bool {
        let mut room = vec![0; 64 * 1024];
        let read = self.io.read(&mut room).await.unwrap_or(0);
        self.received += read as u64;
        self.buffer.extend_from_slice(&room[..read]);
        read > 0
    }

    /// Exactly what comes next.
    pub(crate) async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let came = self.take(bytes.len()).await;
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(shown(&came.unwrap_or_default()), shown(bytes));
    }

    pub(crate) async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Everything until the other side closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// The other side closes, and sends nothing before.
    pub(crate) async fn expect_end(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    pub(crate) async fn head(&mut self) -> Option<Head> {
        loop {
            let end = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return Some(Head::parse(&String::from_utf8_lossy(&head[..end])));
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// The body that this head announces.
    pub(crate) async fn body(&mut self, head: &Head) -> (Vec<u8>, End) {
        let chunked = head.get("transfer-encoding") == Some("chunked");
        let length = head.get("content-length");
        let length = length.map(|text| text.parse::<usize>().expect("a length"));
        assert!(!chunked || length.is_none(), "framed twice: {head:?}");
        if chunked {
            return self.chunks().await;
        }
        let is_answer = head.line.starts_with("HTTP/");
        let Some(length) = length else {
            return match is_answer {
                true => (self.rest().await, End::Whole),
                false => (Vec::new(), End::Whole),
            };
        };
        match self.take(length).await {
            Some(body) => (body, End::Whole),
            None => (std::mem::take(&mut self.buffer), End::Cut),
        }
    }

    async fn chunks(&mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            if chunk.is_empty() {
                return (body, End::Whole);
            }
            body.extend(chunk);
        }
        (body, End::Cut)
    }

    /// The next chunk's data; empty for the last one. No trailers are taken.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = loop {
            let end = self.buffer.windows(2).position(|two| two == b"\r\n");
            if let Some(end) = end {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                let text = String::from_utf8_lossy(&line[..end]).into_owned();
                break usize::from_str_radix(&text, 16).expect("a chunk's size, and nothing more");
            }
            if !self.fill().await {
                return None;
            }
        };
        let data = self.take(size).await?;
        self.expect("\r\n").await;
        Some(data)
    }

    /// A whole request, as an upstream meets it.
    pub(crate) async fn request(&mut self) -> Option<Received> {
        let head = self.head().await?;
        let (body, end) = self.body(&head).await;
        Some(Received { head, body, end })
    }

    /// A whole answer to anything but HEAD.
    pub(crate) async fn answer(&mut self) -> Answer {
        let answer = self.try_answer().await;
        answer.expect("an answer before the connection ends")
    }

    pub(crate) async fn try_answer(&mut self) -> Option<Answer> {
        let head = self.head().await?;
        let status = status(&head);
        let (body, end) = match status {
            100..200 | 204 | 304 => (Vec::new(), End::Whole),
            _ => self.body(&head).await,
        };
        Some(Answer {
            status,
            head,
            body,
            end,
        })
    }

    pub(crate) async fn ask(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer().await
    }
}

fn status(head: &Head) -> u16 {
    let number = head.line.split(' ').nth(1);
    number.and_then(|text| text.parse().ok()).expect("a status")
}

/// A request as it came to the upstream.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

/// An answer as it came to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) end: End,
}

impl Answer {
    /// The reason, which must be the same in both places.
    pub(crate) fn reason(&self) -> &str {
        let status = self.head.get("proxy-status").unwrap_or_default();
        let reason = status.strip_prefix("regent; details=\"");
        let reason = reason.and_then(|rest| rest.strip_suffix('"'));
        let reason = reason.unwrap_or_default();
        if !self.body.is_empty() {
            let problem: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
            assert_eq!(problem["reason"], reason);
            assert_eq!(problem["status"], self.status);
        }
        reason
    }

    pub(crate) fn text(&self) -> String {
        assert_eq!(self.end, End::Whole);
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// An upstream: scripted by the test, or answering by itself.
pub(crate) struct Upstream {
    pub(crate) at: SocketAddr,
    accept: Accept,
}

/// What an upstream that answers by itself was asked.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) connections: Cell<usize>,
    pub(crate) open: Cell<usize>,
    pub(crate) bytes: Cell<u64>,
    pub(crate) requests: RefCell<Vec<Received>>,
}

/// The targets that an upstream was asked for, and the length of each body that came whole.
pub(crate) type Asked = Rc<RefCell<Vec<(String, Option<usize>)>>>;

impl Recorder {
    pub(crate) fn count(&self) -> usize {
        self.requests.borrow().len()
    }

    pub(crate) fn last(&self) -> Received {
        let requests = self.requests.borrow();
        requests.last().cloned().expect("a request came")
    }
}

impl Upstream {
    pub(crate) fn bind(world: &World) -> Upstream {
        let listener = world.net.bind(&Listen::Tcp(world.address()));
        let listener = listener.expect("an address");
        let at = listener.address().tcp().expect("TCP");
        let accept = Listener::start(listener).expect("a listener");
        Upstream { at, accept }
    }

    pub(crate) async fn accept(&mut self) -> Peer {
        Peer::new(self.accept.accept().await.expect("a connection"))
    }

    /// Answers 200 to everything, and says in the body what it was asked.
    pub(crate) fn echo(self) -> Rc<Recorder> {
        self.serve(|request| ok(&format!("{} {}", request.head.line, request.body.len())))
    }

    /// Answers every POST with this status before its body, and all else after it, with its target.
    pub(crate) fn early(mut self, status: u16) -> Asked {
        let seen = Asked::default();
        let all = Rc::clone(&seen);
        spawn_local(async move {
            loop {
                let mut peer = self.accept().await;
                let all = Rc::clone(&all);
                spawn_local(async move {
                    while let Some(head) = peer.head().await {
                        let is_early = head.line.starts_with("POST");
                        if is_early {
                            let _ = peer.try_send(answer(status, &[], "early")).await;
                        }
                        let (body, end) = peer.body(&head).await;
                        let length = (end == End::Whole).then_some(body.len());
                        all.borrow_mut().push((head.target().to_owned(), length));
                        if end == End::Cut {
                            break;
                        }
                        if !is_early {
                            let _ = peer.try_send(ok(head.target())).await;
                        }
                    }
                });
            }
        });
        seen
    }

    /// Answers by itself from here on.
    pub(crate) fn serve(mut self, answer: impl Fn(&Received) -> Vec<u8> + 'static) -> Rc<Recorder> {
        let recorder = Rc::new(Recorder::default());
        let shared = Rc::clone(&recorder);
        let answer = Rc::new(answer);
        spawn_local(async move {
            while let Ok(io) = self.accept.accept().await {
                shared.connections.set(shared.connections.get() + 1);
                let (recorder, answer) = (Rc::clone(&shared), Rc::clone(&answer));
                spawn_local(async move {
                    recorder.open.set(recorder.open.get() + 1);
                    let mut peer = Peer::new(io);
                    let mut before = 0;
                    loop {
                        let request = peer.request().await;
                        let bytes = recorder.bytes.get() + peer.received - before;
                        recorder.bytes.set(bytes);
                        before = peer.received;
                        let Some(request) = request else {
                            break;
                        };
                        let bytes = answer(&request);
                        recorder.requests.borrow_mut().push(request);
                        if peer.try_send(bytes).await.is_err() {
                            break;
                        }
                    }
                    recorder.open.set(recorder.open.get() - 1);
                });
            }
        });
        recorder
    }
}

pub(crate) fn ok(body: &str) -> Vec<u8> {
    answer(200, &[], body)
}

pub(crate) fn answer(status: u16, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in fields {
        write!(text, "{name}: {value}\r\n").expect("text");
    }
    format!("{text}\r\n{body}").into_bytes()
}
