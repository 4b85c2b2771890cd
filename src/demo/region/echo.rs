//! The workload behind a sidecar: it knows nothing of tokens, and says who asks by the headers alone.
//!
//! `/whoami` names the user, the issuer and the token; `/events` and `/bytes/N` are as in the
//! protected API; every other path says what arrived: identity headers in full, others by name.

use http::{Request, Response};
use serde_json::{Map, Value, json};

use super::Body;
use super::answer::Received;
use super::workload::{ok, stream};

/// So much of a token's id tells tokens apart.
const SHOWN: usize = 8;

pub(super) fn answer(request: &Request<Received>) -> Response<Body> {
    let path = request.uri().path();
    if let Some(stream) = stream(path) {
        return stream;
    }
    let header = |name: &str| -> Option<String> {
        let value = request.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let body = if path == "/whoami" {
        let id = header("x-token-id");
        json!({
            "user": header("x-regent-user"),
            "issuer": header("x-regent-issuer"),
            // Of another issuer's, its name stands before it.
            "token": id.map(|id| -> String {
                let id = id.rsplit(':').next().unwrap_or(&id);
                id.chars().take(SHOWN).collect()
            }),
        })
    } else {
        let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        json!({
            "method": request.method().as_str(),
            "path": request.uri().path_and_query().map_or("/", |target| target.as_str()),
            "identity": identity(request),
            "headers": names,
            "body_bytes": request.body().length,
        })
    };
    ok("application/json", Body::from(format!("{body}\n")))
}

/// Every header that some server would take for one of identity, however it is spelled, with all of
/// its values.
fn identity(request: &Request<Received>) -> Map<String, Value> {
    let mut found = Map::new();
    for name in request.headers().keys() {
        let folded = name.as_str().replace(['_', '.'], "-");
        let is_identity = folded.starts_with("x-regent-") && folded != "x-regent-hop";
        if is_identity || folded == "x-token-id" {
            let values = request.headers().get_all(name).iter();
            let values = values.map(|value| String::from_utf8_lossy(value.as_bytes()));
            let values: Vec<_> = values.collect();
            found.insert(name.to_string(), Value::from(values.join(", ")));
        }
    }
    found
}
