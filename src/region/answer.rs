//! The meaning of every answer: pure, and the only place that tells passing from final.
//!
//! - Final is what the region itself says of the credential: a 401 with a `detail` or `code` in a
//!   JSON object. A 400 is about the form, and passes (a proxy that loses the body brings one about):
//!   but for a `code` that is known to speak of the credential, and for a verification, where it is
//!   how a blacklisted token is refused.
//! - In a 200 each token is judged alone: a refresh token that makes no sense is said in the log and
//!   left out, and one beside a useless access token is kept, for it may be the only one that is good.
//! - No text quotes a body, but for the region's own words in a refusal, cleaned.

use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;

use super::{AccessToken, Asked, Call, Error, Tokens};
use crate::compact;
use crate::fetch;
use crate::fetch::Response;
use crate::fetch::times::{date, retry_after};
use crate::secret::Secret;

/// The longest refresh token that is taken. Bytes.
const REFRESH_LIMIT: usize = 16 * 1024;
/// The longest body that may be a refusal of the region's. Bytes.
const REFUSAL_LIMIT: usize = 8 * 1024;
/// Beyond this an access token's lifetime is a mistake. Seconds.
const LIFETIME_MAX: i64 = 400 * 24 * 3600;
/// Codes that speak of the credential, whatever the status.
const CREDENTIAL_CODES: [&str; 5] = [
    "token_not_valid",
    "no_active_account",
    "user_not_found",
    "user_inactive",
    "password_changed",
];

const NO_ACCESS: &str = "its body is no JSON object with one \"access\" string";

#[derive(Deserialize)]
struct TokensBody {
    access: Option<Value>,
    refresh: Option<Value>,
}

#[derive(Deserialize)]
struct RefusalBody {
    detail: Option<Value>,
    code: Option<Value>,
    non_field_errors: Option<Value>,
}

/// The tokens in an answer that came at `now_unix`, by our wall clock.
pub(super) fn tokens(
    asked: &Asked<'_>,
    response: &Response,
    now_unix: i64,
) -> Result<Tokens, Error> {
    if response.status != StatusCode::OK {
        return Err(failure(asked, response));
    }
    let useless = |why: &str, refresh| Error::Useless {
        what: bad_answer(asked, why),
        refresh,
    };
    let bad = |why: &str| useless(why, None);
    json_type(&response.headers).map_err(bad)?;
    // What serde says may quote the body.
    let body: TokensBody = serde_json::from_slice(&response.body).map_err(|_| bad(NO_ACCESS))?;
    let server_now = date(&response.headers);
    let refresh = refresh(asked, body.refresh);
    let access = match body.access {
        Some(Value::String(text)) => access(asked, Secret::new(text), server_now),
        _ => Err(NO_ACCESS.to_owned()),
    };
    // Only what is a token without doubt replaces one that may still be good.
    let kept = refresh
        .clone()
        .filter(|token| compact::peek(token.expose()).is_ok());
    let access = access.map_err(|why| useless(&why, kept))?;
    Ok(Tokens {
        access,
        refresh,
        clock_skew_s: server_now.map(|server| server.saturating_sub(now_unix)),
    })
}

/// Whether a verification's answer says that the token is good.
pub(super) fn verified(asked: &Asked<'_>, response: &Response) -> Result<(), Error> {
    if response.status != StatusCode::OK {
        return Err(failure(asked, response));
    }
    let bad = |why: &str| Error::Transient {
        what: bad_answer(asked, why),
        retry_after: None,
    };
    json_type(&response.headers).map_err(bad)?;
    serde_json::from_slice::<serde_json::Map<String, Value>>(&response.body)
        .map(|_| ())
        .map_err(|_| bad("its body is no JSON object"))
}

/// Takes the access token, with a lifetime on our clock.
fn access(
    asked: &Asked<'_>,
    secret: Secret,
    server_now: Option<i64>,
) -> Result<AccessToken, String> {
    let claims =
        compact::peek(secret.expose()).map_err(|why| format!("its access token is none: {why}"))?;
    if let Some(kind) = &claims.token_type
        && kind != "access"
    {
        return Err("its access token says that it is of another type".into());
    }
    let Some(exp) = claims.exp else {
        return Err("its access token has no \"exp\"".into());
    };
    let by_clock = || exp - server_now.unwrap_or(asked.sent_unix);
    let by_claims = claims.iat.map_or_else(by_clock, |iat| exp - iat);
    if by_claims <= 0 {
        return Err("its access token expires before it was issued".into());
    }
    let left = server_now.map(|now| exp - now);
    if left.is_some_and(|left| left <= 0) {
        return Err(
            "its access token has expired by the answer's own Date: is the region's clock right?"
                .into(),
        );
    }
    // An old token from a cache has less left than it was made for.
    let seconds = left.map_or(by_claims, |left| left.min(by_claims));
    if !(2..=LIFETIME_MAX).contains(&seconds) {
        return Err(format!(
            "its access token would live for {seconds} s, which is of no use"
        ));
    }
    let lifetime = Duration::from_secs(seconds.unsigned_abs()) - Duration::from_secs(1);
    Ok(AccessToken {
        secret,
        claims,
        expires_at: asked.sent_at + lifetime,
        lifetime,
    })
}

/// A new refresh token, if there is one.
fn refresh(asked: &Asked<'_>, value: Option<Value>) -> Option<Secret> {
    let why = match value {
        None | Some(Value::Null) => return None,
        Some(Value::String(text)) if text.is_empty() => "is empty",
        Some(Value::String(text)) if text.len() > REFRESH_LIMIT => "is too long",
        Some(Value::String(text)) => {
            let secret = Secret::new(text);
            let odd = |byte: u8| byte.is_ascii_control() || byte == b' ';
            if !secret.expose().bytes().any(odd) {
                return (secret != *asked.secret).then_some(secret);
            }
            "has a space or a control character in it"
        }
        Some(_) => "is no string",
    };
    tracing::warn!(
        "the region at {} sent a refresh token that {why}; its access token is used, and the \
         refresh token of before is kept: should the region rotate, that one is dead, so log in \
         again before the access token expires",
        asked.region
    );
    None
}

/// What an answer means that is no 200.
fn failure(asked: &Asked<'_>, response: &Response) -> Error {
    let status = response.status;
    if let Some(refused) = refusal(asked, response) {
        return refused;
    }
    let region = asked.region;
    let mut what = format!("the region at {region} answered {}", status.as_u16());
    let _ = match status.as_u16() {
        300..=399 => write!(
            what,
            ", a redirect{}, which is not followed with a credential: set region.url to the \
             region's own address",
            fetch::redirect_target(asked.url, &response.headers)
        ),
        400 => write!(
            what,
            " and did not accept the form{}: is region.url a Practicus AI region?",
            fields(&response.body)
        ),
        401 => write!(
            what,
            ", though not in the region's own words: is a proxy or a firewall in between?"
        ),
        403 => write!(
            what,
            ": a firewall in between may forbid the call, or region.url is not the region's"
        ),
        404 | 405 | 410 | 415 => write!(what, " to {}: is region.url right?", asked.url.path()),
        407 => write!(what, ": a proxy in between wants a login of its own"),
        429 => write!(what, ": too many calls"),
        500..=599 => write!(
            what,
            " ({}): it, or a proxy before it, is in trouble",
            status.canonical_reason().unwrap_or("a server error")
        ),
        _ => write!(what, " where 200 is expected: is region.url right?"),
    };
    Error::Transient {
        what,
        retry_after: retry_after(
            &response.headers,
            date(&response.headers).unwrap_or(asked.sent_unix),
        ),
    }
}

/// The region's own no.
fn refusal(asked: &Asked<'_>, response: &Response) -> Option<Error> {
    if !matches!(response.status.as_u16(), 400 | 401)
        || response.body.len() > REFUSAL_LIMIT
        || json_type(&response.headers).is_err()
    {
        return None;
    }
    let body: RefusalBody = serde_json::from_slice(&response.body).ok()?;
    let text = |value: Option<Value>| match value {
        Some(Value::String(text)) if !text.trim().is_empty() => Some(text),
        _ => None,
    };
    let (mut detail, mut code) = (text(body.detail), text(body.code));
    if asked.call == Call::Verify
        && let Some(Value::Array(errors)) = body.non_field_errors
        && let Some(error) = errors.into_iter().next()
    {
        detail = text(Some(error));
        code = code.or_else(|| Some("token_not_valid".into()));
    }
    if detail.is_none() && code.is_none() {
        return None;
    }
    let code = code
        .filter(|code| is_word(code) && !code.contains(asked.secret.expose()))
        .unwrap_or_else(|| "refused".into());
    if response.status == StatusCode::BAD_REQUEST && !CREDENTIAL_CODES.contains(&&*code) {
        return None;
    }
    let said = detail
        .and_then(|detail| clean(&detail, asked.secret))
        .unwrap_or_else(|| code.clone());
    let region = asked.region;
    let what = match asked.call {
        Call::LogIn => format!(
            "the region at {region} refused the email or the password ({said}): put the right \
             ones in place"
        ),
        Call::Refresh => format!(
            "the region at {region} refused the refresh token ({said}): log in again, or put a new \
             one in its place"
        ),
        Call::Verify => format!("the region at {region} says that the token is not good ({said})"),
    };
    Some(Error::Refused { code, what })
}

fn bad_answer(asked: &Asked<'_>, why: &str) -> String {
    let missing = match asked.call {
        Call::LogIn | Call::Refresh => "not with tokens",
        Call::Verify => "not with a verdict",
    };
    format!(
        "the region at {} answered 200, but {missing}: {why}",
        asked.region
    )
}

/// Whether the body claims to be JSON, or claims nothing.
fn json_type(headers: &HeaderMap) -> Result<(), &'static str> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = value.to_str().unwrap_or_default().to_ascii_lowercase();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let json = essence == "application/json"
        || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json {
        return Ok(());
    }
    if essence == "text/html" {
        return Err("it is a web page: is region.url right, or a login page in between?");
    }
    Err("its content type is not JSON")
}

/// The form's fields that a 400 complains about; only names that we know are repeated.
fn fields(body: &[u8]) -> String {
    let map: serde_json::Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
    let named: Vec<&str> = ["email", "password", "refresh", "token"]
        .into_iter()
        .filter(|name| map.contains_key(*name))
        .collect();
    if named.is_empty() {
        return String::new();
    }
    format!(" (it complains about {})", named.join(", "))
}

fn is_word(code: &str) -> bool {
    code.len() <= 64
        && code
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// The region's words on one line, short, without anything that could be a token.
fn clean(detail: &str, secret: &Secret) -> Option<String> {
    if detail.contains(secret.expose()) {
        return None;
    }
    let words: Vec<&str> = detail
        .split(|char: char| char.is_whitespace() || char.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| if word.len() > 40 { "..." } else { word })
        .take(40)
        .collect();
    let text: String = words.join(" ").chars().take(200).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_detail_becomes_one_short_line(detail in any::<String>()) {
            if let Some(text) = clean(&detail, &Secret::from("canary")) {
                prop_assert!(text.chars().count() <= 200);
                prop_assert!(!text.chars().any(char::is_control));
            }
        }
    }
}
