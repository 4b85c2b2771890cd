//! A new connection to an upstream: name, TCP, TLS, within one deadline.

use std::io;
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

#[cfg(test)]
mod fake;
mod race;

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
/// `upstream_unreachable`, `upstream_tls` or `upstream_timeout`, saying which upstream and why.
pub async fn dial(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    match tokio::time::timeout(upstream.connect_timeout, connect(net, upstream)).await {
        Ok(connected) => connected,
        Err(_) => {
            if let Address::Tcp(name) = &upstream.address {
                name.failed();
            }
            Err(Refusal::new(
                Reason::UpstreamTimeout,
                format!(
                    "{} could not be connected to within {:?} (limits.connect_timeout)",
                    upstream.origin, upstream.connect_timeout
                ),
            ))
        }
    }
}

async fn connect(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    let io = match &upstream.address {
        Address::Tcp(name) => tcp(net, upstream, name).await?,
        Address::Unix(path) => net
            .connect_unix(path)
            .await
            .map_err(|error| unreachable(upstream, &error))?,
    };
    let Some(tls) = &upstream.tls else {
        return Ok(io);
    };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(tls.name.clone(), io).await;
    stream
        .map(|stream| Io::Boxed(Box::new(stream)))
        .map_err(|error| tls_refusal(&upstream.origin, tls.ca_setting, &error))
}

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
        if error.kind() == io::ErrorKind::TimedOut {
            let text = format!("{} did not accept a connection in time", upstream.origin);
            return Refusal::new(Reason::UpstreamTimeout, text);
        }
        unreachable(upstream, &error)
    })
}

fn unreachable(upstream: &Upstream, why: &dyn std::fmt::Display) -> Refusal {
    let text = format!("{} cannot be reached: {why}", upstream.origin);
    Refusal::new(Reason::UpstreamUnreachable, text)
}

fn tls_refusal(origin: &str, ca_setting: &str, error: &io::Error) -> Refusal {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(error) => tls::explain(error, ca_setting),
        None => error.to_string(),
    };
    Refusal::new(
        Reason::UpstreamTls,
        format!("TLS with {origin} failed: {why}"),
    )
}
