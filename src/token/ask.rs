//! Whether the login would work, asked without spending anything: `regent check --online`.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use super::source::{Ladder, Offer, Rung};
use super::state::Store;
use super::{Counters, Deps, Settings};
use crate::region::Error;

/// What the region said of the credentials, the first that is good or all of them.
#[derive(Debug)]
pub struct Asked {
    /// What it comes to.
    pub verdict: Verdict,
    /// One line a rung that was looked at; no secret in it.
    pub lines: Vec<String>,
}

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A rung is good.
    Good,
    /// No rung is.
    Refused,
    /// The region could not be asked.
    Unreachable,
}

/// Asks the region about the ladder, rung by rung, as a sidecar would use it. A refresh or access
/// token is verified, which spends nothing; a password is logged in with. Where no rung asks the region
/// for tokens, it is not asked about them. Writes nothing, and holds no lock while it asks.
pub async fn ask(settings: &Settings, deps: &Deps) -> Asked {
    let Settings { region, credential } = settings;
    let mut ladder = Ladder::new(credential, region.as_ref(), Arc::clone(&deps.files));
    let mut lines = Vec::new();
    for at in 0..ladder.sources.len() {
        let (name, rung) = (ladder.sources[at].name.clone(), ladder.sources[at].rung);
        let Some(offer) = ladder.sources[at].offer.clone() else {
            let trouble = ladder.sources[at].trouble.as_ref();
            lines.push(format!(
                "{name}: {}",
                trouble.map_or(String::new(), ToString::to_string)
            ));
            continue;
        };
        let answer = match offer {
            Offer::Password { email, password } => {
                deps.login.log_in(&email, &password).await.map(|_| ())
            }
            // What is sent is not asked about by a sidecar either.
            Offer::Access(_, claims) if !credential.asks_region() => {
                let told = by_itself(rung, claims.exp, deps.clock.unix());
                let verdict = told.as_ref().map_or(Verdict::Refused, |_| Verdict::Good);
                let (Ok(line) | Err(line)) = told;
                lines.push(format!("{name}: {line}"));
                return Asked { verdict, lines };
            }
            Offer::Access(token, _) => deps.login.verify(&token).await,
            Offer::Refresh(source) => {
                let counters = Arc::new(Counters::default());
                let files = Arc::clone(&deps.files);
                let store = Store::new(credential, rung, region.as_ref(), files, counters);
                let token = store.current(&source).token;
                let mut answer = deps.login.verify(&token).await;
                if let Err(Error::Refused { .. }) = answer {
                    // A running sidecar may have rotated it meanwhile, or be about to store what
                    // came of that.
                    store.others_are_done(source.digest()).await;
                    ladder.reread(at);
                    let now = match &ladder.sources[at].offer {
                        Some(Offer::Refresh(source)) => store.current(source).token,
                        _ => token.clone(),
                    };
                    if now != token {
                        answer = deps.login.verify(&now).await;
                    }
                }
                answer
            }
        };
        let verdict = match answer {
            Ok(()) => {
                lines.push(format!("{name}: good"));
                Verdict::Good
            }
            Err(Error::Transient { what, .. } | Error::Useless { what, .. }) => {
                lines.push(format!("{name}: not known: {what}"));
                Verdict::Unreachable
            }
            Err(Error::Refused { code, what }) => {
                lines.push(format!(
                    "{name}: the region refused it ({code}): {what}; {}",
                    rung.remedy()
                ));
                continue;
            }
        };
        return Asked { verdict, lines };
    }
    if lines.is_empty() {
        lines.push("there is no credential; run `regent login`, or set `region.credential`".into());
    }
    Asked {
        verdict: Verdict::Refused,
        lines,
    }
}

/// What an access token says of itself: when it ends, or that it has ended.
fn by_itself(rung: Rung, exp: Option<i64>, now: i64) -> Result<String, String> {
    let end = exp.filter(|exp| *exp > now).ok_or_else(|| rung.is_over())?;
    // The last second whose year has four digits.
    let end = u64::try_from(end).unwrap_or(0).min(253_402_300_799);
    let end = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(end));
    Ok(format!(
        "there is nothing to ask the region for; the token expires at {end}"
    ))
}
