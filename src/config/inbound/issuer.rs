//! `[inbound.issuers.NAME]`: whose tokens are accepted, and by what rules.

use super::claim::{identity_headers, name, values};
use super::document::json;
use super::{ALGORITHMS, Issuer, KeySource};
use crate::config::address::{self, is_loopback};
use crate::config::proxy;
use crate::config::read::Reader;
use crate::config::tree::Value;
use crate::config::typed::plain;
use crate::config::value::{Given, Wrong, in_time_units, quoted};

const ISSUERS: &str = "inbound.issuers";

/// Longer than any two clocks should be apart.
const MOST_LEEWAY: &str = "5m";
const YEAR: &str = "365d";

/// Where an issuer stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In the config.
    Table,
    /// In a list, which names no file.
    Entry,
}

pub(super) fn issuers(reader: &mut Reader<'_>) -> Vec<Issuer> {
    let tables = reader.tables(ISSUERS);
    if !reader.is_filled(ISSUERS) && reader.is_sound(&[]) {
        reader.conflict(
            ISSUERS,
            "is missing, so that every token would be refused; write [inbound.issuers.home] with issuer and public_key_file",
        );
    }
    let mut values: Vec<(String, String)> = Vec::new();
    let mut issuers = Vec::new();
    for table in &tables {
        like_another(reader, table, &tables);
        let issuer = iss(reader, table);
        if let Some(issuer) = &issuer {
            same_issuer(reader, &format!("{table}.issuer"), issuer, &values);
            values.push((table.clone(), issuer.clone()));
        }
        let name = table.rsplit_once('.').map_or("", |(_, name)| name);
        issuers.extend(rest(reader, table, name, issuer, Form::Table));
    }
    issuers
}

/// An entry of a list.
pub(super) fn listed(reader: &mut Reader<'_>, table: &str, name: &str) -> Option<Issuer> {
    let issuer = iss(reader, table);
    rest(reader, table, name, issuer, Form::Entry)
}

/// The claim that it is found by.
fn iss(reader: &mut Reader<'_>, table: &str) -> Option<String> {
    let path = format!("{table}.issuer");
    let issuer = reader.optional(&path, |given| match given.is("") {
        true => Ok(String::new()),
        false => given.text().map(str::to_owned),
    });
    if issuer.is_none() && reader.is_sound(&[&path]) {
        reader.conflict(
            &path,
            "is missing; write the exact iss of its tokens, or issuer = \"\" where they carry none",
        );
    }
    issuer
}

/// All but that.
fn rest(
    reader: &mut Reader<'_>,
    table: &str,
    own_name: &str,
    issuer: Option<String>,
    form: Form,
) -> Option<Issuer> {
    let at = |name: &str| format!("{table}.{name}");
    let keys = key_source(reader, table, form);
    let ca_file = reader.optional(&at("ca_file"), |given| given.path());
    let proxy = proxy::read(reader, &at("proxy"));
    let insecure_http = reader.required(&at("insecure_http"), |given| given.bool());
    if let Some(KeySource::JwksUrl(url) | KeySource::DiscoveryUrl(url)) = &keys {
        let path = match &keys {
            Some(KeySource::JwksUrl(_)) => at("jwks_url"),
            _ => at("discovery_url"),
        };
        let why = "would let the network put in keys of its own";
        match form {
            Form::Table => {
                let switch = (&*at("insecure_http"), insecure_http);
                plain(reader, &path, Some(url), switch, why);
            }
            Form::Entry if url.scheme() == "http" && !is_loopback(url) => {
                reader.conflict(&path, &format!("plain http:// {why}; write https://"));
            }
            Form::Entry => {}
        }
    }
    let algorithms = reader.list(&at("algorithms"), algorithm);
    let audiences = reader.list(&at("audiences"), |given| given.text().map(str::to_owned));
    let token_types = reader.list(&at("token_types"), |given| given.text().map(str::to_owned));
    for (list, example) in [
        ("algorithms", "[\"RS256\"]"),
        ("token_types", "[\"access\"]"),
    ] {
        let is_empty = match list {
            "algorithms" => algorithms.is_empty(),
            _ => token_types.is_empty(),
        };
        if is_empty && reader.is_sound(&[&at(list)]) {
            let text =
                format!("is empty, so that every token is refused; write one, as in {example}");
            reader.conflict(&at(list), &text);
        }
    }
    let leeway = reader.required(&at("leeway"), |given| {
        given.duration_from("0s", MOST_LEEWAY)
    });
    let max_lifetime =
        reader.required(&at("max_lifetime"), |given| given.duration_from("1s", YEAR));
    let required_claims = reader.map(&at("required_claims"), name, values);
    let identity_headers = identity_headers(reader, &at("identity_headers"));
    let unqualified = reader.required(&at("allow_unqualified_identity"), |given| given.bool());
    let [jwks_refresh, jwks_cooldown, jwks_max_stale] =
        ["jwks_refresh", "jwks_cooldown", "jwks_max_stale"]
            .map(|name| reader.required(&at(name), |given| given.duration_from("1s", YEAR)));
    let (refresh, stale) = (at("jwks_refresh"), at("jwks_max_stale"));
    if jwks_max_stale < jwks_refresh && reader.is_sound(&[&refresh, &stale]) {
        let (refresh_text, stale_text) =
            (in_time_units(jwks_refresh), in_time_units(jwks_max_stale));
        match reader.is_given(&stale) {
            true => reader.conflict(
                &stale,
                &format!(
                    "\"{stale_text}\" is over before keys are fetched again; write \"{refresh_text}\" (jwks_refresh) or more"
                ),
            ),
            false => reader.conflict(
                &refresh,
                &format!(
                    "\"{refresh_text}\" is longer than keys may be used; write \"{stale_text}\" (jwks_max_stale) or less, or a longer jwks_max_stale"
                ),
            ),
        }
    }
    Some(Issuer {
        name: own_name.to_owned(),
        issuer: issuer?,
        keys: keys?,
        ca_file,
        proxy,
        insecure_http,
        algorithms,
        audiences,
        token_types,
        leeway,
        max_lifetime,
        required_claims: required_claims.unwrap_or_default(),
        identity_headers,
        allow_unqualified_identity: unqualified,
        jwks_refresh,
        jwks_cooldown,
        jwks_max_stale,
    })
}

/// Names that differ in case alone. A variable's name is read in lower case: it would begin a second
/// issuer instead of changing the first.
fn like_another(reader: &mut Reader<'_>, table: &str, tables: &[String]) {
    let before = tables.iter().take_while(|other| *other != table);
    let same = |other: &&String| other.eq_ignore_ascii_case(table);
    if let Some(other) = before.into_iter().find(same) {
        let text = format!("is {other} in other letters; rename one of them");
        reader.conflict(table, &text);
    }
}

/// A token is judged by the issuer that it names: two with one value cannot be told apart.
fn same_issuer(reader: &mut Reader<'_>, path: &str, issuer: &str, before: &[(String, String)]) {
    if let Some((other, _)) = before.iter().find(|(_, value)| value == issuer) {
        let text = format!(
            "{} is the issuer of {other} too, and a token could not tell them apart; write another, or remove one of them",
            quoted(issuer)
        );
        reader.conflict(path, &text);
        return;
    }
    let near = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
    let close = |(_, value): &&(String, String)| near(value) == near(issuer);
    if let Some((other, _)) = before.iter().find(close) {
        reader.note(
            path,
            format!("not the issuer of {other}: case and a last slash count"),
        );
    }
}

/// Exactly one.
fn key_source(reader: &mut Reader<'_>, table: &str, form: Form) -> Option<KeySource> {
    let sources: &[&str] = match form {
        Form::Table => &[
            "public_key_file",
            "public_key",
            "jwks_file",
            "jwks_url",
            "discovery_url",
        ],
        Form::Entry => &["public_key", "jwks", "jwks_url", "discovery_url"],
    };
    let at = |name: &str| format!("{table}.{name}");
    let public_key_file = reader.optional(&at("public_key_file"), |given| given.path());
    let public_key = reader.optional(&at("public_key"), pem);
    let jwks = match form {
        Form::Table => None,
        Form::Entry => reader.optional(&at("jwks"), jwk_set),
    };
    let jwks_file = reader.optional(&at("jwks_file"), |given| given.path());
    let jwks_url = reader.optional(&at("jwks_url"), address::url);
    let discovery_url = reader.optional(&at("discovery_url"), address::url);
    let mut given = sources.iter().filter(|name| reader.is_given(&at(name)));
    let (first, others) = (given.next(), given.collect::<Vec<_>>());
    match first {
        None if reader.is_sound(&[]) => {
            let text = format!("has no keys; write one of {}", sources.join(", "));
            reader.conflict(table, &text);
        }
        None => {}
        Some(first) => {
            for other in others {
                let text = format!("stands beside {first}; keep one of them");
                reader.conflict(&at(other), &text);
            }
        }
    }
    (public_key_file.map(KeySource::PublicKeyFile))
        .or(public_key.map(KeySource::PublicKey))
        .or(jwks.map(KeySource::Jwks))
        .or(jwks_file.map(KeySource::JwksFile))
        .or(jwks_url.map(KeySource::JwksUrl))
        .or(discovery_url.map(KeySource::DiscoveryUrl))
}

/// A JWK set as it stands in JSON, as a table or as text. What is in it is judged with those of files.
fn jwk_set(given: &Given<'_>) -> Result<String, Wrong> {
    match given.value() {
        Value::Text(text) => Ok(text.clone()),
        _ => {
            given.entries()?;
            let set = json(given.node()).ok_or("has a date in it, and is no JWK set")?;
            Ok(set.to_string())
        }
    }
}

/// Looks like a public key; whether it is a good one is judged with those of files. Never quoted: it
/// may be the wrong half of the pair.
fn pem(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let wrong = if text.contains("PRIVATE KEY") {
        "is a private key, with which tokens can be made; replace the pair, and write the public key, as `openssl pkey -pubout` prints it"
    } else if text.contains("-----BEGIN CERTIFICATE") {
        "is a certificate; write its public key, as `openssl x509 -noout -pubkey` prints it"
    } else if ["-----BEGIN PUBLIC KEY", "-----BEGIN RSA PUBLIC KEY"]
        .iter()
        .any(|start| text.trim_start().starts_with(start))
    {
        return Ok(text.to_owned());
    } else if text.trim_start().starts_with('{') {
        "is a JWK and no PEM; write a JWK set into a file, and name that in jwks_file"
    } else if text.ends_with(".pem") || text.starts_with(['/', '~']) {
        "is a file's name; write it as public_key_file"
    } else {
        "is no PEM; write what begins with -----BEGIN PUBLIC KEY-----"
    };
    Err(wrong.to_owned())
}

fn algorithm(given: &Given<'_>) -> Result<String, Wrong> {
    let text = given.text()?;
    let is_hmac = text
        .get(..2)
        .is_some_and(|start| start.eq_ignore_ascii_case("HS"));
    let never = match text {
        text if text.eq_ignore_ascii_case("none") => "such tokens are not signed",
        _ if is_hmac => "whoever can verify such a token can make one",
        _ => {
            let names = ALGORITHMS.map(|name| (name, name));
            return given.one_of(&names).map(str::to_owned);
        }
    };
    Err(format!(
        "{} is never allowed: {never}; write one such as \"RS256\"",
        quoted(text)
    ))
}
