//! One reading of a list: the document, and its signature where it must have one.

use std::path::Path;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tower::ServiceExt as _;
use url::Url;
use zeroize::Zeroizing;

use super::{BODY_LIMIT, Place, Task};
use crate::compact;
use crate::fetch::{self, without_query};
use crate::files::beside;
use crate::jwt::keys::{self, Failure};
use crate::secret::Digest;

/// What the name of a signature ends in.
const SIGNATURE: &str = ".sig";

/// What stood there at one moment.
pub(super) struct Read {
    pub(super) document: Zeroizing<Vec<u8>>,
    pub(super) signature: Zeroizing<Vec<u8>>,
    pub(super) etag: Option<HeaderValue>,
}

impl Read {
    /// Names it, so that it is judged once.
    pub(super) fn digest(&self) -> Digest {
        let both = [&*self.document, &*self.signature].map(|part| Digest::of(part).to_string());
        Digest::of(both.concat().as_bytes())
    }
}

impl<T> Task<T> {
    /// What a file holds.
    pub(super) fn file(&self, path: &Path) -> Result<Read, String> {
        let read = |path: &Path, limit| {
            let read = self.files.read(path, limit);
            read.map_err(|error| format!("cannot read \"{}\": {error}", path.display()))
        };
        let document = read(path, BODY_LIMIT)?;
        let signature = match self.settings.signer {
            None => Zeroizing::default(),
            Some(_) => read(&beside(path, SIGNATURE), compact::MOST_BYTES)?,
        };
        Ok(Read {
            document,
            signature,
            etag: None,
        })
    }

    /// A failure with the name of what failed.
    pub(super) fn named(&self, why: &str) -> String {
        match &self.settings.place {
            Place::File(path) => format!("\"{}\": {why}", path.display()),
            Place::Url(url) => format!("{}: {why}", without_query(url)),
        }
    }

    /// The list; `None`: the one that is in use.
    pub(super) async fn fetched(&self, url: &Url) -> Result<Option<Read>, Failure> {
        let etag = self.state().etag.clone();
        let is_conditional = etag.is_some();
        let response = self.get(url, etag).await?;
        if response.status == StatusCode::NOT_MODIFIED && is_conditional {
            return Ok(None);
        }
        keys::expect_ok(url, &response, &self.clock)?;
        let is_html = |kind: &HeaderValue| kind.as_bytes().starts_with(b"text/html");
        if response
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(is_html)
        {
            let why = "it is a web page: is the address right, or a login page in between?";
            return Err(self.named(why).into());
        }
        let signature = match self.settings.signer {
            None => Zeroizing::default(),
            Some(_) => {
                let mut at = url.clone();
                at.set_path(&format!("{}{SIGNATURE}", url.path()));
                let response = self.get(&at, None).await?;
                keys::expect_ok(&at, &response, &self.clock)?;
                Zeroizing::new(response.body.to_vec())
            }
        };
        let etag = response.headers.get(header::ETAG);
        Ok(Some(Read {
            document: Zeroizing::new(response.body.to_vec()),
            signature,
            etag: etag.filter(|etag| etag.len() <= keys::ETAG_LIMIT).cloned(),
        }))
    }

    async fn get(&self, url: &Url, etag: Option<HeaderValue>) -> Result<fetch::Response, Failure> {
        let Some(service) = &self.settings.fetch else {
            return Err("there is no HTTP client for it".to_owned().into());
        };
        let mut headers = HeaderMap::new();
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, application/toml, */*;q=0.1"),
        );
        if let Some(etag) = etag {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        let request = fetch::Request {
            method: Method::GET,
            url: url.clone(),
            headers,
            form: Vec::new(),
            public_only: false,
        };
        let answer = service.clone().oneshot(request).await;
        answer.map_err(|error| format!("no answer from {}: {error}", without_query(url)).into())
    }

    pub(super) fn judge(&self, read: &Read) -> Result<T, String> {
        if let Some(signer) = &self.settings.signer {
            let now = self.clock.boot();
            let verified = signer.verify(&read.document, &read.signature, now);
            verified.map_err(|why| self.named(&why))?;
        }
        (self.parse)(&read.document).map_err(|why| self.named(&why))
    }
}
