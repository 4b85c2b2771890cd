//! A proxy that connections go through: its URL, and who we are to it.
//!
//! User name and password may stand in the URL, where that is not a command line, which others on the
//! machine can read. They are shown nowhere: `http://***@proxy.example.com:3128`.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use super::address::{authority, shown_url};
use super::problem::Origin;
use super::read::Reader;
use super::value::{Given, Wrong, quoted};
use crate::secret::Secret;

const EXAMPLE: &str = "http://proxy.example.com:3128";

/// An HTTP proxy that takes CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    url: Url,
    /// `user:password` (RFC 7617).
    credentials: Option<Secret>,
}

impl Proxy {
    /// Scheme, host and port, and nothing that is secret.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The host, an IPv6 address in brackets, and the port.
    #[must_use]
    pub fn host(&self) -> (&str, u16) {
        let port = self.url.port_or_known_default().unwrap_or(80);
        (self.url.host_str().unwrap_or_default(), port)
    }

    /// The value of `Proxy-Authorization`, marked sensitive, where the URL says who we are.
    #[must_use]
    pub fn authorization(&self) -> Option<HeaderValue> {
        let pair = Zeroizing::new(STANDARD.encode(self.credentials.as_ref()?.expose()));
        let text = Zeroizing::new(format!("Basic {}", *pair));
        let mut value = HeaderValue::from_str(&text).expect("Base64 fits a header");
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redacted(self.url.as_str(), self.credentials.is_some()))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn redacted(url: &str, is_secret: bool) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let mark = if is_secret { "***@" } else { "" };
    format!("{scheme}://{mark}{}", rest.trim_end_matches('/'))
}

/// A proxy's URL as it may be shown, given the text that it was read from.
pub(super) fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => redacted(&format!("http://{rest}"), true),
        None => text.to_owned(),
    }
}

/// The proxy at a path, where somebody wrote one.
pub(super) fn read(reader: &mut Reader<'_>, path: &str) -> Option<Proxy> {
    let proxy = reader.optional(path, proxy)?;
    if proxy.credentials.is_some() && matches!(reader.origin(path), Origin::Set(_)) {
        let text = format!(
            "says who we are, which everybody on this machine can read on a command line; write it \
             into a config file, or into the variable REGENT__{}",
            path.to_ascii_uppercase().replace('.', "__")
        );
        reader.conflict(path, &text);
        return None;
    }
    Some(proxy)
}

fn proxy(given: &Given<'_>) -> Result<Proxy, Wrong> {
    given.text()?.parse()
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Proxy, String> {
        // A password may have a # or a ? in it that nobody encoded.
        let shown = match text.contains('@') {
            true => quoted(&shown(text)),
            false => shown_url(text),
        };
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(format!(
                "{shown} has a space or backslash in it; percent-encode what stands before the @"
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!(
                "{shown} has no scheme; write it whole, such as \"{EXAMPLE}\""
            ));
        };
        if !scheme.eq_ignore_ascii_case("http") {
            return Err(format!(
                "{shown} is no proxy that is spoken to by http; write one such as \"{EXAMPLE}\""
            ));
        }
        let no_url = |error| {
            format!(
                "{shown} is no URL ({error}); write one such as \"{EXAMPLE}\", with what stands \
                 before an @ percent-encoded"
            )
        };
        let mut url = Url::parse(text).map_err(no_url)?;
        let path = rest.strip_prefix(authority(text)).unwrap_or(rest);
        if !["", "/"].contains(&path) {
            return Err(format!(
                "{shown} has more than a host and a port; remove what follows them"
            ));
        }
        let credentials = match authority(text).contains('@') {
            true => Some(credentials(&url)?),
            false => None,
        };
        // Neither can fail: there is a host.
        let _ = (url.set_username(""), url.set_password(None));
        Ok(Proxy { url, credentials })
    }
}

/// `user:password`, decoded.
fn credentials(url: &Url) -> Result<Secret, Wrong> {
    let decoded = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map(|text| Zeroizing::new(text.into_owned()))
    };
    let pair = (
        decoded(url.username()),
        decoded(url.password().unwrap_or("")),
    );
    let (Ok(user), Ok(password)) = pair else {
        return Err("has a user name or password that is not UTF-8; write plain text".to_owned());
    };
    let is_control = |text: &str| text.contains(char::is_control);
    if user.is_empty() || user.contains(':') || is_control(&user) || is_control(&password) {
        return Err(format!(
            "has a user name or password that Basic authentication cannot carry (RFC 7617); write \
             {}, without colons in the name",
            quoted("http://USER:PASSWORD@HOST:PORT")
        ));
    }
    Ok(Secret::new(format!("{}:{}", *user, *password)))
}
