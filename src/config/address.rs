//! Addresses, URLs and names in a config: their form alone. What they lead to is not asked here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use http::Method;
use url::{Host, ParseError, Url};

use super::tree::{Node, Value};
use super::value::{Given, Wrong, quoted};
use super::{Listen, Upstream};

/// The longest path that fits a socket's address on Linux with its final NUL, less the `.new` that
/// it is bound with first.
const SOCKET_PATH: usize = 107 - ".new".len();

/// `HOST:PORT` or `unix:PATH`, this for its owner alone. `any` is an address to show.
pub(super) fn listen(given: &Given<'_>, any: &str) -> Result<Listen, Wrong> {
    match unix_path(given)? {
        Some(path) => Ok(Listen::Unix { path, mode: 0o600 }),
        None => Ok(Listen::Tcp(socket_address(given, any)?)),
    }
}

/// The path of `unix:PATH`; `None` for what does not begin so.
fn unix_path(given: &Given<'_>) -> Result<Option<PathBuf>, Wrong> {
    let text = match given.bare_port() {
        Some(_) => "",
        None => given.text()?,
    };
    match text.strip_prefix("unix:") {
        None => Ok(None),
        Some(path) if !path.starts_with('/') => Err(format!(
            "{} needs a whole path; write one such as \"unix:/run/regent/http.sock\"",
            quoted(text)
        )),
        Some(path) if path.len() > SOCKET_PATH => Err(format!(
            "{} is longer than the {SOCKET_PATH} bytes of a socket's path; write a shorter one",
            quoted(text)
        )),
        Some(path) if path.contains('\0') => Err("has a NUL character; write a path".to_owned()),
        Some(path) => Ok(Some(path.into())),
    }
}

/// Where verified requests go: a URL, or `unix:PATH`.
pub(super) fn upstream(given: &Given<'_>) -> Result<Upstream, Wrong> {
    if let Some(path) = unix_path(given)? {
        return Ok(Upstream::Unix(path));
    }
    if let Some(port) = given.bare_port() {
        return Err(format!(
            "expected a string, found the number {port}; write \"http://127.0.0.1:{port}\""
        ));
    }
    let text = given.text()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Err(format!(
            "{} has no scheme; write \"http://{address}\"",
            quoted(text)
        ));
    }
    url(given).map(Upstream::Url)
}

/// The admin listener's address, as `admin.listen` takes it.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn admin(text: &str) -> Result<SocketAddr, String> {
    let node = Node::of(Value::Word(text.to_owned()));
    socket_address(&Given::new(&node, false, None), "127.0.0.1")
}

/// `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`. `any` is an address to show.
pub(super) fn socket_address(given: &Given<'_>, any: &str) -> Result<SocketAddr, Wrong> {
    if let Some(port) = given.bare_port() {
        return Err(format!(
            "expected a string, found the number {port}; write \"{any}:{port}\""
        ));
    }
    let text = given.text()?;
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let shown = quoted(text);
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text.parse::<u16>() {
            Ok(port) => format!("{shown} has no address; write \"{any}:{port}\""),
            Err(_) => {
                format!("{shown} has no port; write \"ADDRESS:PORT\", such as \"{any}:8080\"")
            }
        });
    };
    let Ok(port) = port.parse::<u16>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => {
                format!("{shown} has no port; write \"[{address}]:8080\" with the port you want")
            }
            _ => format!("{shown} has no port from 0 to 65535; write one, such as \"{any}:8080\""),
        });
    };
    match host {
        "localhost" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        "" => Err(format!("{shown} has no address; write \"{any}:{port}\"")),
        host => Err(match host.parse::<IpAddr>() {
            Ok(_) => format!("{shown} is ambiguous; write \"[{host}]:{port}\""),
            Err(_) => format!("{shown} is no address; write one such as \"{any}:{port}\""),
        }),
    }
}

/// An `http` or `https` URL that a path can be added to.
pub(super) fn url(given: &Given<'_>) -> Result<Url, Wrong> {
    let text = given.text()?;
    let shown = shown_url(text);
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(format!(
            "{shown} has a space or backslash in it; write \"https://HOST\""
        ));
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        let meant = Url::parse(&format!("http://{text}"));
        let scheme = match meant.is_ok_and(|url| is_loopback(&url)) {
            true => "http",
            false => "https",
        };
        return Err(format!(
            "{shown} has no scheme; write \"{scheme}://\" before it"
        ));
    };
    if !["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "{shown} is neither http nor https; write \"https://HOST\""
        ));
    }
    if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
        return Err(format!("{shown} has no host; write \"https://HOST\""));
    }
    let url = Url::parse(text).map_err(|error| match error {
        ParseError::IdnaError if !text.is_ascii() => {
            format!("{shown} has a name beyond ASCII; write it as DNS has it, with xn--")
        }
        error => format!("{shown} is no URL ({error}); write \"https://HOST\""),
    })?;
    if url.host().is_none() {
        return Err(format!("{shown} has no host; write \"https://HOST\""));
    }
    if !url.username().is_empty() || url.password().is_some() || authority(text).contains('@') {
        return Err(format!(
            "{shown} carries a user name or password; remove what stands before the @"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "{shown} has a query or fragment; remove what follows the path"
        ));
    }
    Ok(url)
}

/// A URL without what may be secret in it: user, password, query, fragment.
pub(super) fn shown_url(text: &str) -> String {
    let bare = text.split(['?', '#']).next().unwrap_or("");
    let host = bare.rsplit_once('@').map_or(bare, |(_, host)| host);
    match (bare == text && host == bare, text.split_once("://")) {
        (true, _) => quoted(text),
        (false, Some((scheme, _))) if host != bare && scheme.len() < 10 => {
            quoted(&format!("{scheme}://...@{host}"))
        }
        (false, _) => quoted(&format!("{host}...")),
    }
}

pub(super) fn authority(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or("")
}

/// Whether traffic to this URL never leaves the machine.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

/// A host as it stands in a Host header, without its port; lower case.
pub(super) fn host(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let shown = shown_url(text);
    if text.contains("://") || text.contains(['/', '@']) {
        return Err(format!("{shown} is more than a host; write the name alone"));
    }
    if text.contains('*') {
        return Err(format!("{shown} has a wildcard; write each name out"));
    }
    if let Ok(IpAddr::V6(_)) = text.parse::<IpAddr>() {
        return Err(format!("{shown} is an IPv6 address; write \"[{text}]\""));
    }
    if !text.starts_with('[') && text.contains(':') {
        let name = text.split(':').next().unwrap_or("");
        return Err(format!(
            "{shown} has a port; write {}: any port is taken",
            quoted(name)
        ));
    }
    match Host::parse(text) {
        Ok(host) if host.to_string().eq_ignore_ascii_case(text) && !text.ends_with('.') => {
            Ok(host.to_string())
        }
        Ok(host) => Err(format!(
            "{shown} is not how clients write it; write {}",
            quoted(host.to_string().trim_end_matches('.'))
        )),
        Err(ParseError::IdnaError) if !text.is_ascii() => Err(format!(
            "{shown} is a name beyond ASCII; write it as DNS has it, with xn--"
        )),
        Err(_) => Err(format!(
            "{shown} is no host name; write one such as \"localhost\" or \"127.0.0.1\""
        )),
    }
}

/// An origin as browsers send it: scheme, host, and the port where it is not the scheme's own.
pub(super) fn origin(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let shown = shown_url(text);
    let how = "write scheme, host and port, such as \"http://localhost:3000\"";
    if text.contains('*') || text == "null" {
        return Err(format!(
            "{shown} stands for origins that nobody knows; {how}"
        ));
    }
    let url = Url::parse(text).map_err(|_| format!("{shown} is no origin; {how}"))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let Some(host) = host else {
        return Err(format!("{shown} has no host; {how}"));
    };
    let origin = match url.port() {
        Some(port) => format!("{}://{host}:{port}", url.scheme()),
        None => format!("{}://{host}", url.scheme()),
    };
    match text.eq_ignore_ascii_case(&origin) {
        true => Ok(origin),
        false => Err(format!(
            "{shown} is not how browsers write it; write {}",
            quoted(&origin)
        )),
    }
}

/// A method's name, as it is sent.
pub(super) fn method(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let upper = text.to_ascii_uppercase();
    if Method::from_bytes(upper.as_bytes()).is_err() || upper == "*" {
        return Err(format!(
            "{} is no method; write one such as \"GET\"",
            quoted(text)
        ));
    }
    match upper == text {
        true => Ok(upper),
        false => Err(format!(
            "{} is not how it is sent; write {}",
            quoted(text),
            quoted(&upper)
        )),
    }
}

/// The path of a route or rule: what a normalised request path can begin with.
pub(super) fn route_path(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let shown = quoted(text);
    if !text.starts_with('/') {
        return Err(format!(
            "{shown} does not begin with a slash; write {}",
            quoted(&format!("/{text}"))
        ));
    }
    if text.contains(['?', '#']) {
        return Err(format!(
            "{shown} has a query or fragment; write the path alone"
        ));
    }
    if text.contains('*') {
        return Err(format!(
            "{shown} has a wildcard; write the prefix alone: \"/a\" takes \"/a/b\" too"
        ));
    }
    let graphic = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if !graphic || text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return Err(format!(
            "{shown} can match no request: no spaces, backslashes, \"//\" or dot segments; percent-encode other characters"
        ));
    }
    Ok(text.to_owned())
}
