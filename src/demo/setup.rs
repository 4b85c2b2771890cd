//! Starts the sidecar from a config as users write it, and says what there is to try.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::folder::Folder;
use super::ports::{self, Ports};
use super::region::{KEYS, Region};
use super::regions::Addresses;
use super::say::Say;
use super::{Error, Sidecar, Start};
use crate::config::load::load;
use crate::config::{Environment, Loaded, Sources};

const CONFIG: &str = "regent.toml";
const REFRESH_TOKEN: &str = "refresh-token";
const HOME_KEY: &str = "home.pem";

/// Logs alice in and starts the sidecar, on the contract's ports where they are free.
pub(super) async fn start<W: Write>(
    home: &Region,
    at: &Addresses,
    folder: &Folder,
    say: &mut Say<W>,
    mut start: impl Start,
) -> Result<Sidecar, Error> {
    let token = home.issue_refresh("alice@example.com");
    let token = token.expect("alice is a user of the demo's region");
    let stored = folder.store(REFRESH_TOKEN, &token);
    stored.map_err(|error| Error::Io("the refresh token's file", error))?;
    let stored = folder.write(HOME_KEY, home.public_key_pem().as_bytes());
    stored.map_err(|error| Error::Io("the public key's file", error))?;
    let no_port = |error: io::Error| Error::Io("a free port", error);
    let ports = Ports::preferred().map_err(no_port)?;
    let mut started = start(config(at, folder, &ports)?).await;
    // Somebody may take a port between our look and our use of it.
    for _ in 0..5 {
        if started.is_ok() {
            break;
        }
        let ports = Ports::any().map_err(no_port)?;
        started = start(config(at, folder, &ports)?).await;
    }
    let sidecar = started.map_err(Error::Sidecar)?;
    let mut any_taken = false;
    for (side, port, wanted) in [
        ("outbound", sidecar.outbound.port(), ports::OUTBOUND),
        ("inbound", sidecar.inbound.port(), ports::INBOUND),
        ("admin", sidecar.admin.port(), ports::ADMIN),
    ] {
        if port != wanted {
            any_taken = true;
            say.line(&format!(
                "Port {wanted} is taken: {side} listens on {port} instead."
            ));
        }
    }
    if any_taken {
        say.line("");
    }
    Ok(sidecar)
}

/// The circle, as the whole demo shows it.
pub(super) fn introduce<W: Write>(
    say: &mut Say<W>,
    at: &Addresses,
    sidecar: &Sidecar,
    folder: &Folder,
) {
    let outbound = format!("http://localhost:{}", sidecar.outbound.port());
    let inbound = format!("http://localhost:{}", sidecar.inbound.port());
    let (home, west, east) = (url(at.home), url(at.west), url(at.east));
    let workload = url(at.workload);
    let admin = url(sidecar.admin);
    let folder = folder.path().display();
    say.block(&format!(
        "\
The whole circle, all in this process:

  you -> outbound -> inbound -> workload

  outbound  {outbound:22}  logged in as alice: call this one
  inbound   {inbound:22}  lets in whoever brings a token it trusts
  workload  {workload:22}  knows nothing of tokens, and says who asks
  home      {home:22}  the region of alice, and of carol, an admin
  west      {west:22}  another region, federated: bob
  east      {east:22}  a third one, which is not in the config: eve

Regent's config: {folder}/{CONFIG}

Try, in another terminal, without a token:

  # through both sides: alice, whatever the caller says of itself
  curl -i {outbound}/orders -H 'X-Regent-User: mallory'
  curl -i {outbound}/whoami
  # straight to inbound: 401 missing_token
  curl -i {inbound}/whoami
  # rules: open to all, and 403 claims_not_met for alice
  curl -i {inbound}/healthz
  curl -i {outbound}/admin
  # a stream of events, as they happen
  curl -N {outbound}/events
  # an API that checks tokens itself, at the end of a route of outbound
  curl -i {outbound}/api/whoami
  # is it ready? what did it refuse? (a page: {admin}/status)
  curl {admin}/readyz
  curl -s {admin}/metrics | grep 'refused.*}} [1-9]'

With a token of your own:

  login() {{
    curl -s \"$1/console/api/auth/\" -d \"email=$2@example.com\" \\
      -d \"password=$3\" | sed 's/.*\"access\":\"//; s/\".*//'
  }}
  as() {{ curl -i {inbound}/\"$2\" -H \"Authorization: Bearer $1\"; }}

  # bob of west is taken: west:bob
  BOB=$(login {west} bob builder)
  as \"$BOB\" whoami
  # eve of east is not: 401 unknown_issuer
  as \"$(login {east} eve apple)\" whoami
  # carol may do what alice may not
  as \"$(login {home} carol teapot)\" admin
  # alice's refresh token is no access token: 401 wrong_token_type
  as \"$(cat {folder}/{REFRESH_TOKEN})\" whoami
  # bob's token with another signature: 401 bad_signature
  as \"${{BOB%.*}}.AAAA\" whoami
  # why bob may not do what carol may, step by step
  echo \"$BOB\" | regent explain --path /admin \\
    -c {folder}/{CONFIG}

Access tokens of home live 20 s, so that you see them being refreshed.
What regions and workloads are asked, as it happens (Ctrl-C ends it):
"
    ));
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// The config file that a user would write for this, read as any other. The environment has no
/// say: a `REGENT__...` of the user's own sidecar is not meant for the demo's.
fn config(at: &Addresses, folder: &Folder, ports: &Ports) -> Result<Loaded, Error> {
    let file = |name: &str| format!("{:?}", folder.path().join(name).display().to_string());
    let Ports {
        outbound,
        inbound,
        admin,
    } = ports;
    let text = format!(
        "\
[region]
url = \"{home}\"

[region.credential]
refresh_token_file = {token_file}

[outbound]
listen = \"{outbound}\"
upstream = \"http://{inbound}\"

[[outbound.routes]]
path = \"/\"

[[outbound.routes]]
path = \"/api\"
upstream = \"{api}\"

[inbound]
listen = \"{inbound}\"
upstream = \"{workload}\"

[inbound.identity_headers]
x-regent-user = \"username\"
x-regent-user-id = \"user_id\"
x-token-id = \"jti\"

[inbound.issuers.home]
issuer = \"iss.demo\"
public_key_file = {key_file}
leeway = \"1s\"

[inbound.issuers.west]
issuer = \"iss.west\"
jwks_url = \"{west}{KEYS}\"

[[inbound.rules]]
path = \"/healthz\"
anonymous = true

[[inbound.rules]]
path = \"/admin\"
claims = {{ role = [\"admin\"] }}

[admin]
listen = \"{admin}\"

[drain]
timeout = \"5s\"
",
        home = url(at.home),
        token_file = file(REFRESH_TOKEN),
        api = url(at.api),
        workload = url(at.workload),
        key_file = file(HOME_KEY),
        west = url(at.west),
    );
    let written = folder.write(CONFIG, text.as_bytes());
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
