//! TLS towards callers: our certificate, and whom we ask for one of theirs.
//!
//! - TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1 by ALPN. What is resumed was made under the same files: sessions end
//!   with the certificate or the client CA that they began with.
//! - [`Follower`] reads the files again; a pair that does not fit, as one sees it in the middle of a
//!   change, never replaces a good one.
//! - No key is ever part of an error.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use super::{Roots, provider};
use crate::files::{self, Layer};
use crate::secret::Digest;

/// HTTP/2, as ALPN calls it (RFC 9113 section 3.2).
pub const HTTP2: &[u8] = b"h2";

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(5);

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Our certificate, and those between it and its root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Callers must have a certificate of one of these CAs.
    pub client_ca: Option<PathBuf>,
}

/// Which of the files is wrong, and what to do.
#[derive(Debug)]
pub struct Error {
    /// `cert_file`, `key_file` or `client_ca_file`.
    pub setting: &'static str,
    why: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// What handshakes use at the moment.
#[derive(Clone, Debug)]
pub struct Handle(watch::Receiver<Served>);

#[derive(Debug)]
struct Served {
    config: Arc<ServerConfig>,
    trouble: Option<String>,
}

impl Handle {
    /// For the next handshake.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.borrow().config)
    }

    /// Why the files are not those in use, where they cannot be.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.0.borrow().trouble.clone()
    }
}

/// Follows the files of a listener.
#[derive(Debug)]
pub struct Follower {
    files: Arc<dyn Layer>,
    paths: Paths,
    seen: Option<Digest>,
    published: watch::Sender<Served>,
}

/// Reads the files for the first time.
///
/// # Errors
/// What is wrong with each of them.
pub fn load(files: Arc<dyn Layer>, paths: Paths) -> Result<(Handle, Follower), Vec<Error>> {
    let read = Read::from(&*files, &paths);
    let seen = read.digest();
    let (published, handle) = watch::channel(Served {
        config: read.config(&paths)?,
        trouble: None,
    });
    let follower = Follower {
        files,
        paths,
        seen,
        published,
    };
    Ok((Handle(handle), follower))
}

impl Follower {
    /// Ends when nobody holds a [`Handle`] any more.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                () = self.published.closed() => return,
                () = tokio::time::sleep(POLL) => self.look(),
            }
        }
    }

    fn look(&mut self) {
        let read = Read::from(&*self.files, &self.paths);
        let seen = read.digest();
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        match read.config(&self.paths) {
            Ok(config) => {
                tracing::info!("the certificate of the inbound listener was read again");
                self.published.send_replace(Served {
                    config,
                    trouble: None,
                });
            }
            Err(errors) => {
                let each = (errors.iter())
                    .map(|Error { setting, why }| format!("inbound.tls.{setting}: {why}"));
                let all = each.collect::<Vec<_>>().join("; ");
                let told = format!("{all}; what was read before stays in use");
                tracing::warn!("{told}");
                self.published
                    .send_modify(|served| served.trouble = Some(told));
            }
        }
    }
}

type Bytes = zeroize::Zeroizing<Vec<u8>>;

/// The files as they were at one moment.
struct Read {
    cert: Result<Bytes, files::Error>,
    key: Result<Bytes, files::Error>,
    client_ca: Option<Digest>,
}

impl Read {
    fn from(files: &dyn Layer, paths: &Paths) -> Read {
        Read {
            cert: files::read(files, &paths.cert),
            key: files::read(files, &paths.key),
            client_ca: super::fingerprint(paths.client_ca.as_deref()),
        }
    }

    /// Names what was read, so that it is judged once. `None` where something could not be.
    fn digest(&self) -> Option<Digest> {
        let (cert, key) = (self.cert.as_ref().ok()?, self.key.as_ref().ok()?);
        let all = [Digest::of(cert), Digest::of(key)].into_iter();
        let all: Vec<String> = all
            .chain(self.client_ca)
            .map(|one| one.to_string())
            .collect();
        Some(Digest::of(all.concat().as_bytes()))
    }

    fn config(self, paths: &Paths) -> Result<Arc<ServerConfig>, Vec<Error>> {
        let bytes = |setting, read: Result<Bytes, files::Error>| {
            read.map_err(|error| Error {
                setting,
                why: error.to_string(),
            })
        };
        let cert = bytes("cert_file", self.cert).and_then(|bytes| chain(&paths.cert, &bytes));
        let key = bytes("key_file", self.key).and_then(|bytes| private_key(&paths.key, &bytes));
        let verifier = paths.client_ca.as_deref().map(client_verifier).transpose();
        let (chain, key, verifier) = match (cert, key, verifier) {
            (Ok(chain), Ok(key), Ok(verifier)) => (chain, key, verifier),
            (cert, key, verifier) => {
                let all = [cert.err(), key.err(), verifier.err()];
                return Err(all.into_iter().flatten().collect());
            }
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("aws-lc-rs has cipher suites for TLS 1.2 and 1.3");
        let builder = match verifier {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| vec![misfit(paths, &error)])?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        config.ignore_client_order = true;
        Ok(Arc::new(config))
    }
}

fn client_verifier(path: &Path) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let wrong = |why: String| Error {
        setting: "client_ca_file",
        why,
    };
    let roots = Roots::only(path).map_err(|error| wrong(error.to_string()))?;
    WebPkiClientVerifier::builder_with_provider(roots.store(), provider())
        .build()
        .map_err(|error| wrong(error.to_string()))
}

fn chain(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |what: &str| Error {
        setting: "cert_file",
        why: format!("{path:?} {what}"),
    };
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match all {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(wrong(
            "has no certificate in it; it should begin with -----BEGIN CERTIFICATE-----",
        )),
        Err(_) => Err(wrong(
            "is no whole PEM file; it should have blocks from BEGIN CERTIFICATE to END CERTIFICATE",
        )),
    }
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    let wrong = |what: &str| Error {
        setting: "key_file",
        why: format!("{path:?} {what}"),
    };
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    if text.contains("ENCRYPTED") {
        return Err(wrong(
            "is encrypted, and nobody is there to type its password; write it plain with `openssl \
             pkey`, readable by regent alone",
        ));
    }
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(bytes);
    let key = sections.find_map(|section| {
        let (kind, der) = section.ok()?;
        PrivateKeyDer::from_pem(kind, der)
    });
    key.ok_or_else(|| {
        wrong("has no private key in it; it should begin with -----BEGIN PRIVATE KEY-----")
    })
}

/// Why certificate and key are no pair.
fn misfit(paths: &Paths, error: &rustls::Error) -> Error {
    let (setting, why) = match error {
        rustls::Error::InconsistentKeys(_) => (
            "key_file",
            format!(
                "{:?} is not the key of the certificate in {:?}; replace both together",
                paths.key, paths.cert
            ),
        ),
        rustls::Error::InvalidCertificate(_) => (
            "cert_file",
            format!("{:?} begins with what is no certificate", paths.cert),
        ),
        _ => (
            "key_file",
            format!(
                "{:?} is no key that TLS can use: RSA, P-256, P-384 or Ed25519",
                paths.key
            ),
        ),
    };
    Error { setting, why }
}

#[cfg(test)]
mod tests;
