//! One fetch of an issuer's keys: the discovery document where there is one, then the JWK set.
//!
//! - The document's `issuer` must be the configured one, byte for byte; the address it names must be
//!   https. Plain http is taken where the document itself came from this machine and names an
//!   address on it, or with `insecure_http`: no distant issuer points us at a port on loopback.
//! - Where the document names another host, only a public address is connected to: it cannot make us
//!   call what is inside a network, or a cloud's metadata service.
//! - A redirect is an error, and so is a 304 that was not asked for.
//! - What went wrong is one line without a query and without anything of a body but the `issuer`.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tower::ServiceExt as _;
use url::Url;

use super::schedule::{self, REDISCOVER};
use super::{Settings, Source};
use crate::clock::{Boot, Clock};
use crate::config::is_loopback;
use crate::fetch::{self, times, without_query};
use crate::jwt::key_set::KeySet;

/// The longest ETag that is sent back. Bytes.
pub(in crate::jwt) const ETAG_LIMIT: usize = 1024;
const WELL_KNOWN: &str = "/.well-known/";

/// What one fetch leaves to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What discovery said, and when.
    found: Option<(Url, Boot)>,
    /// The ETag of the set that is in use, and whose it is.
    etag: Option<(Url, HeaderValue)>,
    /// What the last good answer said of caching.
    pub(super) fresh: Option<Duration>,
}

/// Why there are no new keys.
#[derive(Debug)]
pub(in crate::jwt) struct Failure {
    /// One line, for people.
    pub(in crate::jwt) why: String,
    /// The server's word on when to come back.
    pub(in crate::jwt) retry_after: Option<Duration>,
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure {
            why,
            retry_after: None,
        }
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: Option<Value>,
    jwks_uri: Option<Value>,
}

/// The issuer's keys; `None`: those that `known` is about are still the ones.
pub(super) async fn fetch(
    settings: &Settings,
    clock: &Clock,
    known: &mut Known,
) -> Result<Option<KeySet>, Failure> {
    let url = match &settings.source {
        Source::JwksUrl(url) => url.clone(),
        Source::DiscoveryUrl(url) => discovered(settings, url, clock, known).await?,
        Source::Fixed(_) | Source::PemFile(_) | Source::JwksFile(_) => return Ok(None),
    };
    let keys = keys(settings, &url, clock, known).await;
    if keys.is_err() {
        // The set may have moved: the next attempt reads the document again.
        known.found = None;
    }
    keys
}

async fn keys(
    settings: &Settings,
    url: &Url,
    clock: &Clock,
    known: &mut Known,
) -> Result<Option<KeySet>, Failure> {
    let etag = known.etag.as_ref().filter(|(whose, _)| whose == url);
    let etag = etag.map(|(_, etag)| etag.clone());
    let is_conditional = etag.is_some();
    let response = get(settings, url, etag).await?;
    let fresh = schedule::freshness(&response.headers, clock.unix());
    if response.status == StatusCode::NOT_MODIFIED && is_conditional {
        known.fresh = fresh.or(known.fresh);
        return Ok(None);
    }
    expect_ok(url, &response, clock)?;
    let set =
        KeySet::from_jwks(&response.body).map_err(|error| unusable(url, &response, &error.0))?;
    let etag = response.headers.get(header::ETAG);
    known.etag = etag
        .filter(|etag| etag.len() <= ETAG_LIMIT)
        .map(|etag| (url.clone(), etag.clone()));
    known.fresh = fresh;
    Ok(Some(set))
}

/// Where the issuer's JWK set is.
async fn discovered(
    settings: &Settings,
    url: &Url,
    clock: &Clock,
    known: &mut Known,
) -> Result<Url, Failure> {
    let now = clock.boot();
    if let Some((found, at)) = &known.found
        && now.since(*at) < REDISCOVER
    {
        return Ok(found.clone());
    }
    let url = document_url(url);
    let response = get(settings, &url, None).await?;
    expect_ok(&url, &response, clock)?;
    let document: Document = serde_json::from_slice(&response.body)
        .map_err(|_| unusable(&url, &response, "it is no JSON object with one \"issuer\""))?;
    let found = judge(settings, &url, document).map_err(|why| unusable(&url, &response, &why))?;
    known.found = Some((found.clone(), now));
    Ok(found)
}

/// The document's address (OpenID Connect Discovery 1.0 section 4). One that names a well-known
/// document is taken as it is.
pub(super) fn document_url(given: &Url) -> Url {
    if given.path().contains(WELL_KNOWN) {
        return given.clone();
    }
    let mut url = given.clone();
    let path = given.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    url.set_path(&format!("{path}{WELL_KNOWN}openid-configuration"));
    url
}

fn judge(settings: &Settings, from: &Url, document: Document) -> Result<Url, String> {
    let Some(Value::String(issuer)) = document.issuer else {
        return Err("it has no \"issuer\" string".to_owned());
    };
    if issuer != settings.issuer {
        let shown: String = issuer.chars().take(200).collect();
        return Err(format!(
            "its issuer is {shown:?}, and the config says {:?}: they must be the same to the last \
             character",
            settings.issuer
        ));
    }
    let Some(Value::String(text)) = document.jwks_uri else {
        return Err("it has no \"jwks_uri\" string".to_owned());
    };
    let url = Url::parse(&text).map_err(|_| "its jwks_uri is no URL".to_owned())?;
    let is_local = is_loopback(from) && is_loopback(&url);
    match url.scheme() {
        "https" => {}
        "http" if is_local || settings.insecure_http => {}
        "http" => {
            return Err(format!(
                "its jwks_uri is {}, which is not https; set insecure_http = true for this issuer \
                 if that is meant",
                without_query(&url)
            ));
        }
        scheme => {
            return Err(format!(
                "its jwks_uri is of the scheme {scheme:?}, not https"
            ));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its jwks_uri carries a user name or password".to_owned());
    }
    Ok(url)
}

/// Whether a document, not the config, says that this host is to be called. It may send us around on
/// this machine if it is there itself; `insecure_http` lets it send us anywhere.
fn is_sent_elsewhere(settings: &Settings, url: &Url) -> bool {
    let Source::DiscoveryUrl(from) = &settings.source else {
        return false;
    };
    let is_local = is_loopback(from) && is_loopback(url);
    from.host() != url.host() && !is_local && !settings.insecure_http
}

async fn get(
    settings: &Settings,
    url: &Url,
    etag: Option<HeaderValue>,
) -> Result<fetch::Response, Failure> {
    let Some(service) = &settings.fetch else {
        return Err("there is no HTTP client for this issuer".to_owned().into());
    };
    let mut headers = HeaderMap::new();
    headers.insert(
        header::ACCEPT,
        HeaderValue::from_static("application/jwk-set+json, application/json"),
    );
    if let Some(etag) = etag {
        headers.insert(header::IF_NONE_MATCH, etag);
    }
    let request = fetch::Request {
        method: Method::GET,
        url: url.clone(),
        headers,
        form: Vec::new(),
        public_only: settings.public_only || is_sent_elsewhere(settings, url),
    };
    let answer = service.clone().oneshot(request).await;
    answer.map_err(|error| format!("no answer from {}: {error}", without_query(url)).into())
}

/// What any other answer than 200 means.
pub(in crate::jwt) fn expect_ok(
    url: &Url,
    response: &fetch::Response,
    clock: &Clock,
) -> Result<(), Failure> {
    let status = response.status;
    let meaning = match status.as_u16() {
        200 => return Ok(()),
        304 => ", though nothing was said to be known already".to_owned(),
        300..=399 => format!(
            ", a redirect{}, which is not followed: write the last address into the config",
            fetch::redirect_target(url, &response.headers)
        ),
        401 | 403 => ": no password is sent there, so a firewall or a login page may be in between"
            .to_owned(),
        404 | 410 => ": is the address right?".to_owned(),
        429 => ": too many calls".to_owned(),
        500..=599 => ": it, or a proxy before it, is in trouble".to_owned(),
        _ => " where 200 is expected: is the address right?".to_owned(),
    };
    let now = times::date(&response.headers).unwrap_or_else(|| clock.unix());
    Err(Failure {
        why: format!(
            "{} answered {}{meaning}",
            without_query(url),
            status.as_u16()
        ),
        retry_after: times::retry_after(&response.headers, now),
    })
}

fn unusable(url: &Url, response: &fetch::Response, why: &str) -> Failure {
    let kind = response.headers.get(header::CONTENT_TYPE);
    let is_html = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let why = match is_html {
        true => "it is a web page: is the address right, or a login page in between?",
        false => why,
    };
    format!("what {} answers cannot be used: {why}", without_query(url)).into()
}
