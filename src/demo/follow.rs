//! Says what regions and workloads are asked, as it happens.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Write;
use std::task::Poll;

use super::region::{Call, KEYS, Kind, Region};
use super::say::Say;

/// A region alone.
pub(super) fn introduce<W: Write>(say: &mut Say<W>, region: &Region, url: &str) {
    say.line(&format!("A region is at {url}"));
    say.line("");
    say.line("Its users:");
    for (email, password) in region.logins() {
        say.line(&format!("  {email}  password: {}", password.expose()));
    }
    let issuer = region.issuer();
    say.block(&format!(
        "
Try, in another terminal:

  # log in (Regent stores the refresh token), then run the sidecar
  printf wonderland | regent login --region {url} \\
    --email alice@example.com --password-stdin
  regent run
  # and, in a third one, call the region's API without a token
  curl http://localhost:8080/whoami

To verify its tokens before a workload, write into Regent's config:

  [inbound.issuers.home]
  issuer = \"{issuer}\"
  jwks_url = \"{url}{KEYS}\"

Access tokens live 20 s here; refresh tokens rotate, without grace.
What the region is asked, as it happens (Ctrl-C ends it):
"
    ));
}

/// Says each call that comes, for ever.
pub(super) async fn follow<W: Write>(say: &mut Say<W>, regions: &[(&str, &Region)]) -> Infallible {
    let began = tokio::time::Instant::now();
    let mut seen = vec![0; regions.len()];
    let mut news: Vec<_> = regions
        .iter()
        .map(|(_, region)| region.watch_calls())
        .collect();
    loop {
        for ((name, region), seen) in regions.iter().zip(&mut seen) {
            for call in region.calls_after(*seen) {
                *seen = call.number;
                let seconds = began.elapsed().as_secs_f32();
                say.line(&format!("  {seconds:7.1} s  {}", line(name, &call)));
            }
        }
        let mut changes: Vec<_> = news.iter_mut().map(|one| Box::pin(one.changed())).collect();
        poll_fn(|context| {
            // A region that is borrowed here does not go away.
            let mut changed = changes.iter_mut().map(|one| one.as_mut().poll(context));
            match changed.any(|one| one.is_ready()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

/// A call in one line: `api       GET /whoami 200  token 1a2b3c4d`.
pub(super) fn line(region: &str, call: &Call) -> String {
    let status = match call.status {
        Some(status) => status.as_u16().to_string(),
        None => "no answer".to_owned(),
    };
    let who = match call.kind {
        Kind::Api => "api",
        Kind::Echo => "workload",
        Kind::Login | Kind::Refresh | Kind::Verify | Kind::Astray | Kind::Keys => region,
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
