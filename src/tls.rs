//! TLS towards upstreams and regions: one provider (aws-lc-rs), one trust store.
//!
//! - The roots are the system's (`SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured), plus what a
//!   `ca_file` adds. An image without any gets Mozilla's, embedded; a system bundle that is there
//!   and cannot be read is an error, for trusting more than was meant is no fallback.
//! - The provider is always named, never the process's default.
//! - [`Reloading`] sees new roots without a restart; a broken bundle never replaces a good one.

mod explain;
pub mod server;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::RootCertStore;
use rustls::client::ClientConfig;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::secret::Digest;

pub use explain::explain;

/// The most that a CA file may have. Bytes.
const CA_FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// The provider of everything that TLS needs.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A configuration for connections that we open: TLS 1.2 and 1.3, sessions resumed, no client
/// certificate. `alpn` names the protocols to offer, the best first; none for none.
#[must_use]
pub fn client_config(roots: &Roots, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("aws-lc-rs has cipher suites for TLS 1.2 and 1.3")
        .with_root_certificates(Arc::clone(&roots.store))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// Why there is no trust store. Every one names the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It is no PEM, or ends in the middle of it.
    NotPem {
        /// The file.
        path: PathBuf,
    },
    /// It is PEM, without a certificate.
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A key is in it that should be nowhere near.
    PrivateKey {
        /// The file.
        path: PathBuf,
    },
    /// A certificate in it makes no sense.
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Which one, from 1.
        number: usize,
    },
    /// The system has roots, and none of them could be read.
    System {
        /// What was met first.
        why: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Unreadable { path, why } => {
                write!(f, "the CA file {path:?} cannot be read: {why}")
            }
            Error::NotPem { path } => write!(
                f,
                "the CA file {path:?} is no whole PEM file; it should have blocks from BEGIN \
                 CERTIFICATE to END CERTIFICATE"
            ),
            Error::NoCertificate { path } => write!(
                f,
                "the CA file {path:?} has no certificate in it; a binary one (DER) becomes PEM \
                 with `openssl x509 -inform der`"
            ),
            Error::PrivateKey { path } => write!(
                f,
                "the CA file {path:?} has a private key in it; only certificates belong there: \
                 take the key out"
            ),
            Error::BadCertificate { path, number } => write!(
                f,
                "certificate {number} in the CA file {path:?} cannot be read as one"
            ),
            Error::System { why } => write!(
                f,
                "the system's roots cannot be read: {why}; mend that, or what SSL_CERT_FILE and \
                 SSL_CERT_DIR say"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Whom we trust. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Roots {
    store: Arc<RootCertStore>,
    digest: Digest,
    embedded: bool,
}

impl Roots {
    /// The system's roots, or the embedded ones where the system has none, plus a file's.
    ///
    /// # Errors
    /// An [`Error`] that names the file which cannot be taken.
    pub fn load(extra_ca_file: Option<&Path>) -> Result<Roots, Error> {
        System::default().with(extra_ca_file)
    }

    fn from_native(native: rustls_native_certs::CertificateResult) -> Result<Roots, Error> {
        let mut store = RootCertStore::empty();
        // Real bundles hold certificates that rustls has no use for; one of them costs only itself.
        store.add_parsable_certificates(native.certs);
        if store.is_empty()
            && let Some(error) = native.errors.first()
        {
            return Err(Error::System {
                why: error.to_string(),
            });
        }
        let embedded = store.is_empty();
        if embedded {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Ok(Roots::of(store, embedded))
    }

    fn of(store: RootCertStore, embedded: bool) -> Roots {
        Roots {
            digest: digest_of(&store),
            store: Arc::new(store),
            embedded,
        }
    }

    fn plus(&self, added: Vec<CertificateDer<'static>>) -> Roots {
        let mut store = RootCertStore::clone(&self.store);
        store.add_parsable_certificates(added);
        Roots::of(store, self.embedded)
    }

    /// Only what a file has, for peers that a private CA alone vouches for.
    ///
    /// # Errors
    /// An [`Error`] that names what is wrong with the file.
    pub fn only(ca_file: &Path) -> Result<Roots, Error> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(certificates(ca_file)?);
        Ok(Roots::of(store, false))
    }

    /// Names the set: the same roots have the same digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Whether the system had none, so that the embedded ones are in use.
    #[must_use]
    pub fn embedded(&self) -> bool {
        self.embedded
    }

    /// The number of roots.
    #[must_use]
    pub fn count(&self) -> usize {
        self.store.len()
    }

    /// The roots as rustls takes them, for a verifier of client certificates.
    #[must_use]
    pub fn store(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.store)
    }
}

/// The system's roots, read when they are first asked for and not again: reading them takes longer than
/// all else of a start. Cheap to clone; another one reads again.
#[derive(Clone, Debug, Default)]
pub struct System(Arc<OnceLock<Result<Roots, Error>>>);

impl System {
    #[cfg(test)]
    pub(crate) fn is_read(&self) -> bool {
        self.0.get().is_some()
    }

    /// These roots, plus a file's.
    ///
    /// # Errors
    /// An [`Error`] that names the file which cannot be taken.
    pub fn with(&self, extra_ca_file: Option<&Path>) -> Result<Roots, Error> {
        let added = extra_ca_file.map(certificates).transpose()?;
        let read = || Roots::from_native(rustls_native_certs::load_native_certs());
        let roots = self.0.get_or_init(read).clone()?;
        Ok(added.map_or_else(|| roots.clone(), |added| roots.plus(added)))
    }
}

fn digest_of(store: &RootCertStore) -> Digest {
    let mut each: Vec<String> = store
        .roots
        .iter()
        .map(|root| {
            let mut bytes = root.subject.to_vec();
            bytes.extend_from_slice(&root.subject_public_key_info);
            bytes.extend_from_slice(root.name_constraints.as_deref().unwrap_or_default());
            Digest::of(&bytes).to_string()
        })
        .collect();
    each.sort_unstable();
    Digest::of(each.concat().as_bytes())
}

/// The certificates of a PEM file, each of them fit to be a root.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = read(path).map_err(|error| Error::Unreadable {
        path: path.to_owned(),
        why: error.to_string(),
    })?;
    let mut found = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&bytes) {
        let (kind, der) = section.map_err(|_| Error::NotPem {
            path: path.to_owned(),
        })?;
        match kind {
            SectionKind::Certificate => found.push(CertificateDer::from(der)),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                drop(zeroize::Zeroizing::new(der));
                return Err(Error::PrivateKey {
                    path: path.to_owned(),
                });
            }
            _ => {}
        }
    }
    if found.is_empty() {
        return Err(Error::NoCertificate {
            path: path.to_owned(),
        });
    }
    for (at, certificate) in found.iter().enumerate() {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| Error::BadCertificate {
                path: path.to_owned(),
                number: at + 1,
            })?;
    }
    Ok(found)
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(CA_FILE_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > CA_FILE_LIMIT {
        return Err(std::io::Error::other("it is longer than 8 MiB"));
    }
    Ok(bytes)
}

/// Names what a CA file has at the moment; `None` where there is no file, or none to read.
#[must_use]
pub fn fingerprint(ca_file: Option<&Path>) -> Option<Digest> {
    read(ca_file?).ok().map(|bytes| Digest::of(&bytes))
}

/// Roots that follow their files.
#[derive(Debug)]
pub struct Reloading {
    ca_file: Option<PathBuf>,
    seen: Option<Digest>,
    roots: Roots,
}

impl Reloading {
    /// Loads for the first time.
    ///
    /// # Errors
    /// As [`Roots::load`].
    pub fn new(ca_file: Option<PathBuf>, system: &System) -> Result<Reloading, Error> {
        // The fingerprint comes first: a file that changes in between is loaded once more.
        let seen = fingerprint(ca_file.as_deref());
        let roots = system.with(ca_file.as_deref())?;
        Ok(Reloading {
            ca_file,
            seen,
            roots,
        })
    }

    /// No roots, for a client that speaks no TLS.
    #[must_use]
    pub fn none() -> Reloading {
        Reloading {
            ca_file: None,
            seen: None,
            roots: Roots::of(RootCertStore::empty(), false),
        }
    }

    /// The roots as they were last loaded.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Looks at the CA file, which is cheap, and loads again where it changed; with `system`, looks
    /// at the system's roots too. `true` where there are other roots now.
    ///
    /// # Errors
    /// As [`Roots::load`]; the roots stay what they were. The same broken file is an error once.
    pub fn refresh(&mut self, system: bool) -> Result<bool, Error> {
        let seen = fingerprint(self.ca_file.as_deref());
        if seen == self.seen && !system {
            return Ok(false);
        }
        self.seen = seen;
        let roots = Roots::load(self.ca_file.as_deref())?;
        let changed = roots.digest != self.roots.digest;
        self.roots = roots;
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(name: &str) -> String {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").pem()
    }

    fn key() -> String {
        rcgen::KeyPair::generate().expect("a key").serialize_pem()
    }

    fn file(text: impl AsRef<[u8]>) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("a write");
        file
    }

    #[test]
    fn a_system_without_roots_has_the_embedded_ones() {
        let roots = Roots::from_native(Default::default()).expect("embedded roots");
        assert!(roots.embedded());
        assert!(roots.count() > 50);
        let config = client_config(&roots, &[b"http/1.1"]);
        assert_eq!(config.alpn_protocols, vec![b"http/1.1".to_vec()]);
    }

    #[test]
    fn a_ca_file_adds_to_the_embedded_roots() {
        let without = Roots::from_native(Default::default()).expect("embedded roots");
        let added = file(ca("one") + &ca("two"));
        let with = without.plus(certificates(added.path()).expect("two certificates"));
        assert_eq!(with.count(), without.count() + 2);
        assert_ne!(with.digest(), without.digest());
    }

    #[test]
    fn the_systems_roots_are_read_once_and_shared() {
        let system = System::default();
        let (first, second) = (system.with(None), system.with(None));
        let (first, second) = (first.expect("roots"), second.expect("roots"));
        assert!(Arc::ptr_eq(&first.store, &second.store));
    }

    #[test]
    fn an_unreadable_system_bundle_does_not_widen_trust() {
        // What SSL_CERT_FILE with a wrong path leads to.
        let native =
            rustls_native_certs::load_certs_from_paths(Some(Path::new("/nowhere/ca.pem")), None);
        let error = Roots::from_native(native).expect_err("nothing to fall back on");
        assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_ca_file_is_said_with_its_name() {
        let whole = ca("one");
        let cut = &whole[..whole.len() / 2];
        for (text, expected) in [
            (String::new(), "no certificate"),
            ("not PEM at all\n".into(), "no certificate"),
            (cut.to_owned(), "no whole PEM"),
            (key(), "private key"),
            (whole.clone() + &key(), "private key"),
            (
                whole.clone() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "certificate 2",
            ),
        ] {
            let file = file(text);
            let error = Roots::load(Some(file.path())).expect_err(expected);
            let said = error.to_string();
            assert!(said.contains(expected), "{said}");
            assert!(said.contains(&*file.path().to_string_lossy()), "{said}");
        }
        let error = Roots::load(Some(Path::new("/nowhere/ca.pem"))).expect_err("no such file");
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_private_key_is_never_quoted() {
        let key = key();
        let file = file(&key);
        let error = Roots::load(Some(file.path())).expect_err("a key");
        let body = key.lines().nth(1).expect("a line of the key");
        assert!(!format!("{error} {error:?}").contains(body));
    }

    #[test]
    fn a_changed_ca_file_is_seen_and_a_broken_one_changes_nothing() {
        let file = file(ca("one"));
        let mut roots =
            Reloading::new(Some(file.path().to_owned()), &System::default()).expect("a CA");
        let first = roots.roots().digest();
        assert_eq!(roots.refresh(false), Ok(false));
        assert_eq!(roots.refresh(true), Ok(false));

        std::fs::write(file.path(), "half a fi").expect("a write");
        assert!(roots.refresh(false).is_err());
        assert_eq!(roots.roots().digest(), first);
        assert_eq!(roots.refresh(false), Ok(false), "said once");

        std::fs::write(file.path(), ca("two")).expect("a write");
        assert_eq!(roots.refresh(false), Ok(true));
        assert_ne!(roots.roots().digest(), first);
    }
}
