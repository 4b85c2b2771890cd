//! The credential ladder: where a login comes from, rung by rung in the order of the contract.
//!
//! - A source that is deleted, emptied or half-written while we run loses nothing: what was read
//!   last stays in memory, and the trouble is said once.
//! - A login of another region is not taken (`allow_identity_change` lets it through).
//! - Sources are only read here. `core.conf` belongs to the SDK and is never written.

use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;
use zeroize::Zeroizing;

use super::login_file::Stored;
use crate::compact::{self, UnverifiedClaims};
use crate::config::Credential;
use crate::files::{self, Exposed, Layer};
use crate::region::core_conf;
use crate::secret::{Digest, Secret};

/// A rung of the ladder, highest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// `refresh_token_file`
    RefreshTokenFile,
    /// `refresh_token_env`
    RefreshTokenEnv,
    /// `login_file`
    LoginFile,
    /// `core_conf`
    CoreConf,
    /// `access_token_file`
    AccessTokenFile,
    /// `email` and `password_file`
    Password,
}

impl Rung {
    /// Its key in the config.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Rung::RefreshTokenFile => "refresh_token_file",
            Rung::RefreshTokenEnv => "refresh_token_env",
            Rung::LoginFile => "login_file",
            Rung::CoreConf => "core_conf",
            Rung::AccessTokenFile => "access_token_file",
            Rung::Password => "password_file",
        }
    }

    /// What a person does when it was refused.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Rung::RefreshTokenFile => "put a new refresh token into that file",
            Rung::RefreshTokenEnv => "restart with a new token in that variable",
            Rung::LoginFile | Rung::CoreConf => "run `regent login`",
            Rung::AccessTokenFile => "see why its owner no longer refreshes it",
            Rung::Password => "correct `email` or the password in that file",
        }
    }

    /// What a person does where there is nothing, or nothing of use.
    fn supply(self) -> &'static str {
        match self {
            Rung::RefreshTokenFile => "put a refresh token there",
            Rung::RefreshTokenEnv => "restart with a token in it",
            Rung::LoginFile => "run `regent login`",
            Rung::CoreConf => "log in with the SDK",
            Rung::AccessTokenFile => "see why whoever should write an access token there does not",
            Rung::Password => "put the password there",
        }
    }

    /// What is said of an access token that has ended.
    pub(super) fn is_over(self) -> String {
        format!("the access token there is over; {}", self.remedy())
    }
}

/// What a rung has to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// A refresh token.
    Refresh(Secret),
    /// An access token that somebody else refreshes.
    Access(Secret, UnverifiedClaims),
    /// A password.
    Password {
        /// Whose.
        email: String,
        /// The password.
        password: Secret,
    },
}

impl Offer {
    /// What it is recognised by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        match self {
            Offer::Refresh(secret) | Offer::Access(secret, _) => secret.digest(),
            Offer::Password { email, password } => {
                let text = Zeroizing::new(format!("{email}\0{}", password.expose()));
                Digest::of(text.as_bytes())
            }
        }
    }
}

/// Why a source offers nothing new, and what a person does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is nothing, which is no fault in a rung that another one stands in for.
    Absent(String),
    /// There is something, and it cannot be used.
    Unusable(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Absent(what) | Trouble::Unusable(what) => f.write_str(what),
        }
    }
}

impl Trouble {
    fn unusable(rung: Rung, what: &str) -> Trouble {
        Trouble::Unusable(format!("{what}; {}", rung.supply()))
    }
}

impl From<String> for Trouble {
    fn from(what: String) -> Trouble {
        Trouble::Unusable(what)
    }
}

impl From<&str> for Trouble {
    fn from(what: &str) -> Trouble {
        what.to_owned().into()
    }
}

/// One rung, and what was read there last.
#[derive(Debug)]
pub struct Source {
    /// Which.
    pub rung: Rung,
    /// How people know it: `refresh_token_file "/etc/regent/token"`.
    pub name: String,
    /// The last whole offer; it outlives the file.
    pub offer: Option<Offer>,
    /// What is wrong with what is there now.
    pub trouble: Option<Trouble>,
    place: Place,
    /// What was warned of: each once.
    warned_of: Vec<Exposed>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Variable(Option<Secret>),
    CoreConf(PathBuf, Option<String>),
    Password(String, PathBuf),
}

impl Place {
    fn path(&self) -> Option<&Path> {
        match self {
            Place::File(path) | Place::CoreConf(path, _) | Place::Password(_, path) => Some(path),
            Place::Variable(_) => None,
        }
    }
}

/// The rungs that the config has.
#[derive(Debug)]
pub struct Ladder {
    /// Highest first.
    pub sources: Vec<Source>,
    region: Option<Url>,
    any_region: bool,
    files: Arc<dyn Layer>,
}

impl Ladder {
    /// The rungs of `credential`, read once.
    #[must_use]
    pub fn new(credential: &Credential, region: Option<&Url>, files: Arc<dyn Layer>) -> Ladder {
        let mut ladder = Ladder {
            sources: places(credential)
                .into_iter()
                .map(|(rung, name, place)| Source {
                    rung,
                    name,
                    offer: None,
                    trouble: None,
                    place,
                    warned_of: Vec::new(),
                })
                .collect(),
            region: region.cloned(),
            any_region: credential.allow_identity_change,
            files,
        };
        for source in &ladder.sources {
            if matches!(source.place, Place::Variable(Some(_))) {
                tracing::warn!(
                    credential.rung = source.rung.key(),
                    "{}: a token in the environment shows in this process's own listing and in \
                     what it starts; a file is the better place",
                    source.name
                );
            }
        }
        ladder.poll();
        ladder
    }

    /// Reads every source again; says which one, the highest, has a new offer.
    pub fn poll(&mut self) -> Option<usize> {
        (0..self.sources.len()).filter(|at| self.reread(*at)).min()
    }

    /// Reads one source again; says whether it has a new offer.
    pub fn reread(&mut self, at: usize) -> bool {
        let read = self.read(at);
        let source = &mut self.sources[at];
        let path = source.place.path();
        for exposed in path.map_or_else(Vec::new, |path| self.files.exposed(path)) {
            let kind = std::mem::discriminant(&exposed);
            let said = |other: &Exposed| std::mem::discriminant(other) == kind;
            if !source.warned_of.iter().any(said) {
                source.warned_of.push(exposed);
                tracing::warn!(
                    credential.rung = source.rung.key(),
                    "{}",
                    exposed.warning(&source.name)
                );
            }
        }
        match read {
            Ok(offer) => {
                source.trouble = None;
                let new = source.offer.as_ref() != Some(&offer);
                source.offer = Some(offer);
                new
            }
            Err(trouble) => {
                if source.trouble.as_ref() != Some(&trouble) && source.offer.is_some() {
                    tracing::warn!(
                        credential.rung = source.rung.key(),
                        "{}: {trouble}; what was read there before stays in use",
                        source.name
                    );
                }
                source.trouble = Some(trouble);
                false
            }
        }
    }

    fn read(&self, at: usize) -> Result<Offer, Trouble> {
        let source = &self.sources[at];
        let rung = source.rung;
        let content = |path: &Path| self.content(rung, path);
        match &source.place {
            Place::Variable(None) => {
                let what = format!("the variable is not set; {}", rung.supply());
                Err(Trouble::Absent(what))
            }
            Place::Variable(Some(value)) => {
                let (token, claims) = token(rung, value.expose())?;
                Ok(match claims.token_type.as_deref() {
                    Some("access") => Offer::Access(token, claims),
                    _ => Offer::Refresh(token),
                })
            }
            Place::File(path) if rung == Rung::LoginFile => {
                let stored = Stored::parse(&content(path)?)?;
                self.check_region(&stored.region)?;
                refresh(rung, stored.refresh_token.expose())
            }
            Place::File(path) if rung == Rung::AccessTokenFile => {
                let (token, claims) = token(rung, text(rung, &content(path)?)?)?;
                if claims.token_type.as_deref() == Some("refresh") {
                    return Err("it holds a refresh token: name it in `refresh_token_file`".into());
                }
                Ok(Offer::Access(token, claims))
            }
            Place::File(path) => refresh(rung, text(rung, &content(path)?)?),
            Place::CoreConf(path, key) => {
                let content = content(path)?;
                let entry = core_conf::read(text(rung, &content)?, key.as_deref())
                    .map_err(|error| error.to_string())?;
                self.check_region(&entry.host_url)?;
                refresh(rung, entry.refresh_token.expose())
            }
            Place::Password(email, path) => {
                let content = content(path)?;
                let password = text(rung, &content)?.trim_end_matches(['\r', '\n']);
                if password.is_empty() {
                    return Err(Trouble::unusable(rung, "it is empty"));
                }
                Ok(Offer::Password {
                    email: email.clone(),
                    password: Secret::from(password),
                })
            }
        }
    }

    fn content(&self, rung: Rung, path: &Path) -> Result<Zeroizing<Vec<u8>>, Trouble> {
        files::read(&*self.files, path).map_err(|error| {
            if error.is_missing() {
                let what = format!("there is no such file; {}", rung.supply());
                return Trouble::Absent(match rung {
                    Rung::LoginFile => what,
                    _ => format!("{what}, or correct the path"),
                });
            }
            let remedy = match error.source.kind() {
                ErrorKind::PermissionDenied => "; let the user that regent runs as read it",
                // No regular file, or too large a one.
                ErrorKind::InvalidData => "; name another file",
                _ => "",
            };
            format!("it cannot be read: {}{remedy}", error.source).into()
        })
    }

    fn check_region(&self, theirs: &Url) -> Result<(), Trouble> {
        // Where no region is known, no rung names one.
        let Some(ours) = self.region.as_ref().filter(|_| !self.any_region) else {
            return Ok(());
        };
        match same_region(theirs, ours) {
            true => Ok(()),
            false => Err(Trouble::Unusable(format!(
                "it is a login to \"{theirs}\", and `region.url` is \"{ours}\"; \
                 run `regent login --region {ours}`, or correct `region.url`"
            ))),
        }
    }
}

fn places(credential: &Credential) -> Vec<(Rung, String, Place)> {
    let mut places = Vec::new();
    let mut add = |rung: Rung, place: Place, what: &dyn std::fmt::Display| {
        places.push((rung, format!("{} \"{what}\"", rung.key()), place));
    };
    if let Some(path) = &credential.refresh_token_file {
        add(
            Rung::RefreshTokenFile,
            Place::File(path.clone()),
            &path.display(),
        );
    }
    if let Some((name, value)) = &credential.refresh_token_env {
        add(Rung::RefreshTokenEnv, Place::Variable(value.clone()), name);
    }
    if let Some(path) = &credential.login_file {
        add(Rung::LoginFile, Place::File(path.clone()), &path.display());
    }
    if let Some(path) = &credential.core_conf {
        let place = Place::CoreConf(path.clone(), credential.core_conf_region.clone());
        add(Rung::CoreConf, place, &path.display());
    }
    if let Some(path) = &credential.access_token_file {
        add(
            Rung::AccessTokenFile,
            Place::File(path.clone()),
            &path.display(),
        );
    }
    if let (Some(email), Some(path)) = (&credential.email, &credential.password_file) {
        let place = Place::Password(email.clone(), path.clone());
        add(Rung::Password, place, &path.display());
    }
    places
}

fn text(rung: Rung, content: &[u8]) -> Result<&str, Trouble> {
    std::str::from_utf8(content).map_err(|_| Trouble::unusable(rung, "it is not UTF-8 text"))
}

fn token(rung: Rung, text: &str) -> Result<(Secret, UnverifiedClaims), Trouble> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Trouble::unusable(rung, "it is empty"));
    }
    let claims = compact::peek(text)
        .map_err(|error| Trouble::unusable(rung, &format!("it holds no whole token: {error}")))?;
    Ok((Secret::from(text), claims))
}

fn refresh(rung: Rung, text: &str) -> Result<Offer, Trouble> {
    let (token, claims) = token(rung, text)?;
    if claims.token_type.as_deref() == Some("access") {
        return Err("it holds an access token: name it in `access_token_file`".into());
    }
    Ok(Offer::Refresh(token))
}

/// Whether two URLs are the same region's.
#[must_use]
pub fn same_region(one: &Url, other: &Url) -> bool {
    let parts = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
            url.path().trim_end_matches('/').to_owned(),
        )
    };
    parts(one) == parts(other)
}

/// The region that the ladder's own stores name, for where the config names none: what
/// `regent login` stored, else `core.conf`.
#[must_use]
pub fn stored_region_url(credential: &Credential, files: &dyn Layer) -> Option<Url> {
    let login = credential.login_file.as_deref().and_then(|path| {
        let content = files::read(files, path).ok()?;
        Some(Stored::parse(&content).ok()?.region)
    });
    login.or_else(|| {
        let content = files::read(files, credential.core_conf.as_deref()?).ok()?;
        let key = credential.core_conf_region.as_deref();
        Some(
            core_conf::read(text(Rung::CoreConf, &content).ok()?, key)
                .ok()?
                .host_url,
        )
    })
}
