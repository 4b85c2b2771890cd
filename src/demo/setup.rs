//! Starts the sidecar from a config as users write it, and says what there is to try.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;

use super::folder::Folder;
use super::region::{Call, Kind, Region};
use super::say::Say;
use super::{ADMIN_PORT, Error, OUTBOUND_PORT, Sidecar, Start, port_or_any};
use crate::config::load::load;
use crate::config::{Environment, Loaded, Sources};

/// Where the region and the workload are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) region: SocketAddr,
    pub(super) workload: SocketAddr,
}

/// Logs alice in and starts the sidecar, on the contract's ports where they are free.
pub(super) async fn start<W: Write>(
    region: &Region,
    at: &Addresses,
    folder: &Folder,
    say: &mut Say<W>,
    mut start: impl Start,
) -> Result<Sidecar, Error> {
    let token = region.issue_refresh("alice@example.com");
    let token = token.expect("alice is a user of the demo's region");
    let stored = folder.store("refresh-token", &token);
    stored.map_err(|error| Error::Io("the refresh token's file", error))?;
    let (outbound, admin) = (port_or_any(OUTBOUND_PORT), port_or_any(ADMIN_PORT));
    let mut started = start(config(at, folder, outbound, admin)?).await;
    if started.is_err() && (outbound.port(), admin.port()) != (0, 0) {
        // Somebody may have taken a port since it was looked at.
        let any = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
        started = start(config(at, folder, any(outbound), any(admin))?).await;
    }
    let sidecar = started.map_err(Error::Sidecar)?;
    if sidecar.outbound.port() != OUTBOUND_PORT {
        let port = sidecar.outbound.port();
        say.line(&format!(
            "Port {OUTBOUND_PORT} is taken: Regent listens on {port} instead."
        ));
        say.line("");
    }
    Ok(sidecar)
}

/// The sidecar as the whole demo shows it.
pub(super) fn introduce<W: Write>(say: &mut Say<W>, at: &Addresses, sidecar: &Sidecar) {
    let port = sidecar.outbound.port();
    let (region_url, workload_url) = (url(at.region), url(at.workload));
    let regent_url = format!("http://localhost:{port}");
    say.block(&format!(
        "\
A region, a workload, and Regent between you and them, all in this process:

  region    {region_url:22}  logs users in and hands out tokens
  workload  {workload_url:22}  answers nobody without an access token
  regent    {regent_url:22}  logged in as alice; call this one

Try, in another terminal:

  # without a token, straight to the workload: 401
  curl -i {workload_url}/whoami
  # without a token, through Regent: alice
  curl -i {regent_url}/whoami
  # what arrives at the workload
  curl {regent_url}/any/path -d hello
  # a stream of events, as they happen
  curl -N {regent_url}/events"
    ));
    if let Some(admin) = sidecar.admin {
        say.line("  # is it ready?");
        say.line(&format!("  curl http://{admin}/readyz"));
    }
    say.block(
        "
Access tokens live 20 s here, so that you see them being refreshed.
What the region and the workload are asked, as it happens (Ctrl-C ends it):
",
    );
}

/// The region alone.
pub(super) fn introduce_region<W: Write>(say: &mut Say<W>, region: &Region, url: &str) {
    say.line(&format!("A region is at {url}"));
    say.line("");
    say.line("Its users:");
    for (email, password) in region.logins() {
        say.line(&format!("  {email}  password: {}", password.expose()));
    }
    say.block(&format!(
        "
Try, in another terminal:

  # log in (Regent stores the refresh token), then run the sidecar
  printf wonderland | regent login --region {url} \\
    --email alice@example.com --password-stdin
  regent run
  # and, in a third one, call the region's API without a token
  curl http://localhost:8080/whoami

Access tokens live 20 s here; refresh tokens rotate, without grace.
What the region is asked, as it happens (Ctrl-C ends it):
"
    ));
}

/// Says each call that comes, for ever.
pub(super) async fn follow<W: Write>(say: &mut Say<W>, region: &Region) -> Infallible {
    let began = tokio::time::Instant::now();
    let mut latest = region.watch_calls();
    let mut seen = 0;
    loop {
        for call in region.calls_after(seen) {
            seen = call.number;
            let seconds = began.elapsed().as_secs_f32();
            say.line(&format!("  {seconds:7.1} s  {}", line(&call)));
        }
        if latest.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A call in one line: `GET /whoami 200 (token 1a2b3c4d)`.
pub(super) fn line(call: &Call) -> String {
    let status = match call.status {
        Some(status) => status.as_u16().to_string(),
        None => "no answer".to_owned(),
    };
    let who = match call.kind {
        Kind::Api => "workload",
        Kind::Login | Kind::Refresh | Kind::Verify | Kind::Astray => "region",
    };
    // A caller's words: what could confuse a terminal is left out, and what is long is cut.
    let path: String = call
        .path
        .chars()
        .filter(char::is_ascii_graphic)
        .take(36)
        .collect();
    let token = match (call.kind, call.token) {
        (Kind::Api, Some(token)) => format!("  token {token:?}"),
        _ => String::new(),
    };
    format!("{who:8}  {} {path} {status}{token}", call.method)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// The config file that a user would write for this, read as any other. The environment has no
/// say: a `REGENT__...` of the user's own sidecar is not meant for the demo's.
fn config(
    at: &Addresses,
    folder: &Folder,
    outbound: SocketAddr,
    admin: SocketAddr,
) -> Result<Loaded, Error> {
    let token_file = folder.path().join("refresh-token");
    let text = format!(
        "\
[region]
url = \"{}\"

[region.credential]
refresh_token_file = {:?}

[outbound]
listen = \"{outbound}\"
upstream = \"{}\"

[admin]
listen = \"{admin}\"

[drain]
timeout = \"5s\"
",
        url(at.region),
        token_file.display().to_string(),
        url(at.workload),
    );
    let written = folder.write("regent.toml", text.as_bytes());
    let file = written.map_err(|error| Error::Io("the sidecar's config", error))?;
    let sources = Sources {
        files: vec![file],
        sets: Vec::new(),
        env: Environment::default(),
        terminal: true,
    };
    load(&sources).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Error::Sidecar(lines.join("\n"))
    })
}
