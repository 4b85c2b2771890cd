//! TLS with an upstream, and what it picks to be spoken (ALPN, RFC 7301).

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::through;
use crate::net::Io;
use crate::proxy::respond::Refusal;
use crate::proxy::{Protocol, Upstream};
use crate::reason::Reason;
use crate::secret::Digest;
use crate::tls::{self, Roots};

/// The protocols' names.
const HTTP1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

/// TLS towards an upstream.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The trust store, the versions, and what is offered to be spoken.
    config: Arc<ClientConfig>,
    /// The same, for what HTTP/1.1 alone can do. Sessions are shared.
    http1: Arc<ClientConfig>,
    /// The name that the certificate must have.
    name: ServerName<'static>,
    /// Names the trust store: with another one, connections are not shared.
    pub trust: Digest,
    /// The key that adds to the trust store, for the text of errors.
    ca_setting: &'static str,
}

impl Tls {
    /// TLS with whoever has this name, to speak `protocol`. `ca_setting` is the key that adds roots.
    #[must_use]
    pub fn new(
        roots: &Roots,
        name: ServerName<'static>,
        protocol: Protocol,
        ca_setting: &'static str,
    ) -> Tls {
        let offer: &[&[u8]] = match protocol {
            Protocol::H1 => &[HTTP1],
            Protocol::H2 => &[H2],
            Protocol::Either => &[H2, HTTP1],
        };
        let config = tls::client_config(roots, offer);
        let http1 = match protocol {
            Protocol::H1 => Arc::clone(&config),
            Protocol::H2 | Protocol::Either => {
                let mut http1 = (*config).clone();
                http1.alpn_protocols = vec![HTTP1.to_vec()];
                Arc::new(http1)
            }
        };
        Tls {
            config,
            http1,
            name,
            trust: roots.digest(),
            ca_setting,
        }
    }

    /// Shakes hands over `io`, to speak `protocol`; answers which it is.
    pub(super) async fn agree(
        &self,
        upstream: &Upstream,
        io: Io,
        protocol: Protocol,
    ) -> Result<(Io, Protocol), Refusal> {
        let config = match protocol {
            Protocol::H1 => &self.http1,
            Protocol::H2 | Protocol::Either => &self.config,
        };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(self.name.clone(), io).await;
        let stream = stream.map_err(|error| self.refusal(upstream, &error))?;
        let picked = stream.get_ref().1.alpn_protocol();
        let picked = match (protocol, picked == Some(H2)) {
            (_, true) => Protocol::H2,
            // Nothing but ALPN says that HTTP/2 is understood (RFC 9113 section 3.2).
            (Protocol::H2, false) => return Err(no_http2(upstream)),
            (_, false) => Protocol::H1,
        };
        Ok((Io::Boxed(Box::new(stream)), picked))
    }

    fn refusal(&self, upstream: &Upstream, error: &std::io::Error) -> Refusal {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let why = match inner {
            Some(error) => tls::explain(error, self.ca_setting),
            None => error.to_string(),
        };
        let (origin, through) = (&upstream.origin, through(upstream));
        let text = format!("TLS with {origin}{through} failed: {why}");
        Refusal::new(Reason::UpstreamTls, text)
    }
}

fn no_http2(upstream: &Upstream) -> Refusal {
    let text = format!(
        "{} does not speak HTTP/2, as upstream_protocol = \"h2\" asks; write \"auto\" or \"h1\"",
        upstream.origin
    );
    Refusal::new(Reason::UpstreamProtocol, text)
}
