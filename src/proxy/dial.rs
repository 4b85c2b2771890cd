//! A new connection to an upstream: name, TCP, the proxy where there is one, TLS, within one deadline.

use std::time::Duration;

use super::respond::Refusal;
use super::{Address, Protocol, Upstream};
use crate::dns::Name;
use crate::net::{Io, Net, is_shortage};
use crate::reason::Reason;
pub use secured::Tls;
pub use via::Via;

mod race;
mod secured;
mod via;

/// Connects, to speak `protocol`; answers which it is.
///
/// # Errors
/// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`, or `upstream_protocol` of one that does
/// not speak HTTP/2 and of a proxy that speaks no HTTP, saying which upstream and why.
pub async fn dial(
    net: &dyn Net,
    upstream: &Upstream,
    protocol: Protocol,
) -> Result<(Io, Protocol), Refusal> {
    let connected = connect(net, upstream, protocol);
    match tokio::time::timeout(upstream.connect_timeout, connected).await {
        Ok(connected) => connected,
        Err(_) => {
            if let Some(name) = upstream.address.name() {
                name.failed();
            }
            Err(Refusal::new(
                Reason::UpstreamTimeout,
                format!(
                    "{}{} could not be connected to within {:?} (limits.connect_timeout)",
                    upstream.origin,
                    through(upstream),
                    upstream.connect_timeout
                ),
            ))
        }
    }
}

async fn connect(
    net: &dyn Net,
    upstream: &Upstream,
    protocol: Protocol,
) -> Result<(Io, Protocol), Refusal> {
    let io = match &upstream.address {
        Address::Tcp(name) => tcp(net, upstream, name).await?,
        Address::Behind(via) => {
            let io = tcp(net, upstream, &via.name).await?;
            via.open(&upstream.origin, io).await?
        }
        Address::Unix(path) => net
            .connect_unix(path)
            .await
            .map_err(|error| refused(upstream, &error))?,
    };
    match &upstream.tls {
        Some(tls) => tls.agree(upstream, io, protocol).await,
        None => Ok((io, protocol)),
    }
}

/// To the first address of `name` that takes it: the upstream's, or that of the proxy before it.
async fn tcp(net: &dyn Net, upstream: &Upstream, name: &Name) -> Result<Io, Refusal> {
    let addresses = match name.addresses() {
        Some(addresses) => addresses,
        None => {
            let resolved = name.resolved().await;
            resolved.map_err(|error| unreachable(upstream, &error))?
        }
    };
    race::connect(net, &addresses).await.map_err(|error| {
        if !is_shortage(&error) {
            name.failed();
        }
        if error.kind() == std::io::ErrorKind::TimedOut {
            let text = format!("{} did not accept a connection in time", peer(upstream));
            return Refusal::new(Reason::UpstreamTimeout, text);
        }
        refused(upstream, &error)
    })
}

/// Who is connected to.
fn peer(upstream: &Upstream) -> String {
    match upstream.via() {
        Some(via) => format!("the proxy {}, the way to {},", via.shown, upstream.origin),
        None => upstream.origin.clone(),
    }
}

/// ` through` its proxy, where it has one.
fn through(upstream: &Upstream) -> String {
    match upstream.via() {
        Some(via) => format!(" through the proxy {}", via.shown),
        None => String::new(),
    }
}

fn refused(upstream: &Upstream, error: &std::io::Error) -> Refusal {
    if is_shortage(error) {
        let text = format!(
            "there is no room for a connection to {}: {error}",
            peer(upstream)
        );
        return Refusal::new(Reason::Overloaded, text).retry_after(Duration::from_secs(1));
    }
    unreachable(upstream, error)
}

fn unreachable(upstream: &Upstream, why: &dyn std::fmt::Display) -> Refusal {
    let text = format!("{} cannot be reached: {why}", peer(upstream));
    Refusal::new(Reason::UpstreamUnreachable, text)
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
