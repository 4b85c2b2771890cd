//! A new connection to an upstream: name, TCP, the proxy where there is one, TLS, within one deadline.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::respond::Refusal;
use super::{Address, Upstream};
use crate::dns::Name;
use crate::net::{Io, Net};
use crate::reason::Reason;
use crate::secret::Digest;
use crate::tls;
pub use via::Via;

mod race;
mod via;

/// TLS towards an upstream.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The trust store and the protocol versions.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the certificate must have.
    pub name: ServerName<'static>,
    /// Names the trust store: with another one, connections are not shared.
    pub trust: Digest,
    /// The key that adds to the trust store, for the text of errors.
    pub ca_setting: &'static str,
}

/// Connects.
///
/// # Errors
/// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`, or `upstream_protocol` of a proxy that
/// speaks no HTTP, saying which upstream and why.
pub async fn dial(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    match tokio::time::timeout(upstream.connect_timeout, connect(net, upstream)).await {
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

async fn connect(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    let io = match &upstream.address {
        Address::Tcp(name) => tcp(net, upstream, name).await?,
        Address::Behind(via) => {
            let io = tcp(net, upstream, &via.name).await?;
            via.open(&upstream.origin, io).await?
        }
        Address::Unix(path) => net
            .connect_unix(path)
            .await
            .map_err(|error| unreachable(upstream, &error))?,
    };
    match &upstream.tls {
        Some(tls) => secured(upstream, tls, io).await,
        None => Ok(io),
    }
}

async fn secured(upstream: &Upstream, tls: &Tls, io: Io) -> Result<Io, Refusal> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(tls.name.clone(), io).await;
    stream
        .map(|stream| Io::Boxed(Box::new(stream)))
        .map_err(|error| tls_refusal(upstream, tls.ca_setting, &error))
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
        name.failed();
        if error.kind() == std::io::ErrorKind::TimedOut {
            let text = format!("{} did not accept a connection in time", peer(upstream));
            return Refusal::new(Reason::UpstreamTimeout, text);
        }
        unreachable(upstream, &error)
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

fn unreachable(upstream: &Upstream, why: &dyn std::fmt::Display) -> Refusal {
    let text = format!("{} cannot be reached: {why}", peer(upstream));
    Refusal::new(Reason::UpstreamUnreachable, text)
}

fn tls_refusal(upstream: &Upstream, ca_setting: &str, error: &std::io::Error) -> Refusal {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(error) => tls::explain(error, ca_setting),
        None => error.to_string(),
    };
    let (origin, through) = (&upstream.origin, through(upstream));
    let text = format!("TLS with {origin}{through} failed: {why}");
    Refusal::new(Reason::UpstreamTls, text)
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
