//! A new connection to an upstream: name, TCP, TLS, within one deadline.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::Upstream;
use super::respond::Refusal;
use crate::net::{Io, Net};
use crate::reason::Reason;
use crate::secret::Digest;
use crate::tls;

/// TLS towards an upstream.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The trust store and the protocol versions.
    pub config: Arc<rustls::ClientConfig>,
    /// The name that the certificate must have.
    pub name: ServerName<'static>,
    /// Names the trust store: with another one, connections are not shared.
    pub trust: Digest,
}

/// Connects.
///
/// # Errors
/// `upstream_unreachable`, `upstream_tls` or `upstream_timeout`, saying which upstream and why.
pub async fn dial(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    match tokio::time::timeout(upstream.connect_timeout, connect(net, upstream)).await {
        Ok(connected) => connected,
        Err(_) => {
            upstream.address.failed();
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
    let io = tcp(net, upstream).await?;
    let Some(tls) = &upstream.tls else {
        return Ok(io);
    };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(tls.name.clone(), io).await;
    stream
        .map(|stream| Io::Boxed(Box::new(stream)))
        .map_err(|error| tls_refusal(&upstream.origin, &error))
}

async fn tcp(net: &dyn Net, upstream: &Upstream) -> Result<Io, Refusal> {
    let unreachable = |why: &dyn std::fmt::Display| {
        let text = format!("{} cannot be reached: {why}", upstream.origin);
        Refusal::new(Reason::UpstreamUnreachable, text)
    };
    let addresses = match upstream.address.addresses() {
        Some(addresses) => addresses,
        None => {
            let resolved = upstream.address.resolved().await;
            resolved.map_err(|error| unreachable(&error))?
        }
    };
    // A dead address costs its share of the deadline, not all of it.
    let share = upstream.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses.iter() {
        match tokio::time::timeout(share.max(Duration::from_millis(250)), net.connect(*address))
            .await
        {
            Ok(Ok(io)) => return Ok(io),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    upstream.address.failed();
    if last.kind() == io::ErrorKind::TimedOut {
        let text = format!("{} did not accept a connection in time", upstream.origin);
        return Err(Refusal::new(Reason::UpstreamTimeout, text));
    }
    Err(unreachable(&last))
}

fn tls_refusal(origin: &str, error: &io::Error) -> Refusal {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let why = match inner {
        Some(error) => tls::explain(error, "outbound.ca_file"),
        None => error.to_string(),
    };
    Refusal::new(
        Reason::UpstreamTls,
        format!("TLS with {origin} failed: {why}"),
    )
}
