//! Who gets in: the steps about the circle, forged tokens, federation and rules.

use std::io::Write;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use super::answers::{json, refused, says, succeeded};
use super::{Found, Page, Tour};
use crate::demo::call::Get;
use crate::demo::region::{KEYS, Region};
use crate::demo::say::Say;
use crate::reason::Reason;
use crate::secret::Secret;

impl Tour<'_> {
    pub(super) async fn circle<W: Write>(&self, say: &mut Say<W>) -> Found {
        let direct = self.caller("/orders");
        self.is_refused(say, &direct, "", Reason::MissingToken)
            .await?;
        say.line("   The same through outbound, by a program that claims to be somebody:");
        let spoof = Get::new(self.sidecar.outbound, "/orders");
        let spoof = spoof.with_header("X-Regent-User", "mallory");
        let answer = self.ready(&spoof).await?;
        say.exchange(&spoof, "", &answer);
        succeeded(&answer)?;
        say.identity(&answer);
        is_alice_alone(&answer)?;
        Ok("inbound refuses the program, and outbound gets it in as alice".to_owned())
    }

    pub(super) async fn impostors<W: Write>(&self, say: &mut Say<W>) -> Found {
        let home = &self.regions.home;
        let access = access(home, "alice@example.com")?;
        let refresh = home.issue_refresh("alice@example.com");
        let refresh = refresh.ok_or("home does not know alice")?;
        let changed = changed(&access)?;
        let whoami = self.caller("/whoami");
        let get = whoami.with_token(&access);
        let answer = get.send().await?;
        say.exchange(&get, "ALICE", &answer);
        says(&answer, Some("alice"), Some("home"))?;
        say.line("   Her refresh token, which is signed as well:");
        let get = whoami.with_token(&refresh);
        self.is_refused(say, &get, "REFRESH", Reason::WrongTokenType)
            .await?;
        say.line("   Her access token with one letter of the signature changed:");
        let get = whoami.with_token(&changed);
        self.is_refused(say, &get, "CHANGED", Reason::BadSignature)
            .await?;
        Ok("her access token is accepted, and nothing that looks like it".to_owned())
    }

    pub(super) async fn federation<W: Write>(&self, say: &mut Say<W>) -> Found {
        say.line("   West is federated: inbound fetches its keys from");
        say.line(&format!("   http://{}{KEYS}", self.at.west));
        let bob = access(&self.regions.west, "bob@example.com")?;
        let get = self.caller("/whoami").with_token(&bob);
        let answer = self.ready(&get).await?;
        say.exchange(&get, "BOB", &answer);
        says(&answer, Some("west:bob"), Some("west"))?;
        say.line("   East is a region like the others, and not in inbound's config:");
        let eve = access(&self.regions.east, "eve@example.com")?;
        let get = self.caller("/whoami").with_token(&eve);
        self.is_refused(say, &get, "EVE", Reason::UnknownIssuer)
            .await?;
        Ok("west's bob is west:bob, whoever is called bob at home; eve stays out".to_owned())
    }

    pub(super) async fn rules<W: Write>(&self, say: &mut Say<W>) -> Found {
        let home = &self.regions.home;
        let (alice, carol) = (
            access(home, "alice@example.com")?,
            access(home, "carol@example.com")?,
        );
        let get = self.caller("/healthz");
        let answer = get.send().await?;
        say.exchange(&get, "", &answer);
        succeeded(&answer)?;
        say.identity(&answer);
        if json(&answer)["identity"] != Value::Object(serde_json::Map::new()) {
            return Err("a caller without a token has an identity".to_owned());
        }
        say.line("   For /admin, the token must say role = admin. Alice's does not:");
        let get = self.caller("/admin").with_token(&alice);
        self.is_refused(say, &get, "ALICE", Reason::ClaimsNotMet)
            .await?;
        let get = self.caller("/admin").with_token(&carol);
        let answer = get.send().await?;
        say.exchange(&get, "CAROL", &answer);
        succeeded(&answer)?;
        say.identity(&answer);
        if json(&answer)["identity"]["x-regent-user"] != "carol" {
            return Err("the workload did not see carol".to_owned());
        }
        Ok("everybody may ask /healthz, and only carol /admin".to_owned())
    }

    /// Inbound must refuse this for this reason, and the workload must not hear of it.
    async fn is_refused<W: Write>(
        &self,
        say: &mut Say<W>,
        get: &Get<'_>,
        token: &str,
        reason: Reason,
    ) -> Result<(), String> {
        let seen = self.latest_call();
        let answer = get.send().await?;
        say.exchange(get, token, &answer);
        refused(&answer, reason)?;
        match self.reached_workload_after(seen) {
            true => Err("it was refused, and reached the workload all the same".to_owned()),
            false => Ok(()),
        }
    }
}

/// The workload saw alice of home, nothing of what the caller claimed, and no token.
fn is_alice_alone(answer: &Response<Bytes>) -> Result<(), String> {
    let body = json(answer);
    let identity = &body["identity"];
    for (name, wanted) in [
        ("x-regent-user", "alice"),
        ("x-regent-user-id", "1"),
        ("x-regent-issuer", "home"),
    ] {
        if identity[name] != wanted {
            return Err(format!("the workload saw another {name} than {wanted}"));
        }
    }
    if body.to_string().contains("mallory") {
        return Err("what the caller claimed reached the workload".to_owned());
    }
    let mut headers = body["headers"].as_array().into_iter().flatten();
    match headers.any(|name| name == "authorization") {
        true => Err("the token reached the workload".to_owned()),
        false => Ok(()),
    }
}

fn access(region: &Region, email: &str) -> Result<Secret, String> {
    let token = region.issue_access(email);
    token.ok_or_else(|| format!("its region does not know {email}"))
}

/// The token with another first letter of its signature.
fn changed(token: &Secret) -> Result<Secret, String> {
    let (message, signature) = token.expose().rsplit_once('.').ok_or("no token")?;
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    let rest = signature.get(1..).ok_or("no signature")?;
    Ok(Secret::new(format!("{message}.{first}{rest}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_circle_holds_for_alice_and_nothing_else() {
        let holds = |change: &dyn Fn(&mut Value)| {
            let mut body = json!({
                "identity": {
                    "x-regent-user": "alice", "x-regent-user-id": "1", "x-regent-issuer": "home",
                },
                "headers": ["host", "x-regent-user"],
            });
            change(&mut body);
            is_alice_alone(&Response::new(Bytes::from(body.to_string()))).is_ok()
        };
        assert!(holds(&|_| {}));
        let wrong: [&dyn Fn(&mut Value); 6] = [
            &|body| body["identity"]["x-regent-user"] = json!("alice, mallory"),
            &|body| body["identity"]["x_regent_user"] = json!("mallory"),
            &|body| body["identity"]["x-regent-user-id"] = json!("2"),
            &|body| body["identity"]["x-regent-issuer"] = json!("west"),
            &|body| body["identity"] = json!({}),
            &|body| body["headers"] = json!(["host", "authorization"]),
        ];
        for (at, change) in wrong.iter().enumerate() {
            assert!(!holds(change), "{at}");
        }
    }

    #[test]
    fn a_changed_token_differs_in_its_signature_alone() {
        for (token, wanted) in [("a.b.CD", "a.b.AD"), ("a.b.AD", "a.b.BD")] {
            let changed = changed(&Secret::from(token)).expect("three parts");
            assert_eq!(changed.expose(), wanted);
        }
    }
}
