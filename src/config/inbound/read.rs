//! `[inbound]` and its rules.

use super::claim::{identity_headers, name, values};
use super::issuer::issuers;
use super::list::list;
use super::{
    Federation, HOME, Inbound, InboundAuthorization, Issuer, Rule, StreamLifetime, Tls, Upstream,
};
use crate::config::address;
use crate::config::listeners::{socket_mode, with_mode};
use crate::config::network::network;
use crate::config::read::Reader;
use crate::config::typed::{plain_http, spoken, upstream_protocol};
use crate::config::value::{Given, Wrong};

/// `None` where it has a mistake that leaves nothing to hold.
pub(in crate::config) fn inbound(reader: &mut Reader<'_>) -> Option<Inbound> {
    // Beside forward_auth the proxy may be left out, but not one half of it.
    let asks = reader.is_table("inbound.forward_auth");
    let proxies = !asks || reader.is_given("inbound.listen") || reader.is_given("inbound.upstream");
    let listen = needed(
        reader,
        proxies,
        "inbound.listen",
        "listen = \"[::]:8000\"",
        |given| address::listen(given, "[::]"),
    );
    let mode = reader.required("inbound.socket_mode", socket_mode);
    let proxy_protocol = reader.list("inbound.proxy_protocol", network);
    if !proxy_protocol.is_empty() && !proxies && reader.is_sound(&["inbound.proxy_protocol"]) {
        let text = "has no meaning: forward_auth alone listens, and takes plain http alone; remove \
                    it, or write inbound.listen and inbound.upstream";
        reader.conflict("inbound.proxy_protocol", text);
    }
    let example = "upstream = \"http://127.0.0.1:8001\"";
    let upstream = needed(
        reader,
        proxies,
        "inbound.upstream",
        example,
        address::upstream,
    );
    let upstream_protocol = reader.required("inbound.upstream_protocol", upstream_protocol);
    if let Some(upstream) = &upstream {
        let is_tls = matches!(upstream, Upstream::Url(url) if url.scheme() == "https");
        spoken(
            reader,
            "inbound.upstream_protocol",
            upstream_protocol,
            is_tls,
        );
    }
    let ca_file = reader.optional("inbound.ca_file", |given| given.path());
    let insecure_http = reader.required("inbound.insecure_http", |given| given.bool());
    let tls = tls(reader);
    if tls.is_some() && !proxies && reader.is_sound(&["inbound.tls.cert_file"]) {
        let text = "has no meaning: forward_auth alone listens, and speaks plain http; remove \
                    inbound.tls, or write inbound.listen and inbound.upstream";
        reader.conflict("inbound.tls.cert_file", text);
    }
    let authorization = reader.required("inbound.authorization", |given| {
        given.one_of(&[
            ("strip", InboundAuthorization::Strip),
            ("forward", InboundAuthorization::Forward),
        ])
    });
    if let (Some(Upstream::Url(url)), InboundAuthorization::Forward) = (&upstream, authorization) {
        let switch = ("inbound.insecure_http", insecure_http);
        plain_http(reader, "inbound.upstream", Some(url), switch);
    }
    let identity_headers = identity_headers(reader, "inbound.identity_headers");
    let reveal_reasons = reader.required("inbound.reveal_reasons", |given| given.bool());
    let insecure_shadow_mode =
        reader.required("inbound.insecure_shadow_mode", |given| given.bool());
    let stream_lifetime = reader.required("inbound.stream_lifetime", |given| {
        given.one_of(&[
            ("unlimited", StreamLifetime::Unlimited),
            ("token", StreamLifetime::Token),
        ])
    });
    let issuers = issuers(reader);
    let federation = federation(reader, &issuers);
    let why = "would let the network leave out what it likes";
    let revocations = list(reader, "inbound.revocations", "revoked.json", why);
    let rules = rules(reader);
    let example = "listen = \"127.0.0.1:8082\"";
    let path = "inbound.forward_auth.listen";
    let forward_auth = needed(reader, asks, path, example, |given| {
        address::listen(given, "127.0.0.1")
    });
    Some(Inbound {
        listen: listen.map(|listen| with_mode(listen, mode)),
        proxy_protocol,
        upstream,
        upstream_protocol,
        insecure_http,
        ca_file,
        tls,
        authorization,
        identity_headers: identity_headers?,
        reveal_reasons,
        insecure_shadow_mode,
        stream_lifetime,
        issuers,
        federation,
        revocations,
        rules,
        forward_auth: forward_auth.map(|listen| with_mode(listen, mode)),
    })
}

fn federation(reader: &mut Reader<'_>, issuers: &[Issuer]) -> Option<Federation> {
    let why = "would let the network put in issuers of its own";
    let list = list(reader, "inbound.federation", "issuers.json", why);
    let signed = reader.required("inbound.federation.signed", |given| given.bool());
    let has_home = issuers.iter().any(|issuer| issuer.name == HOME);
    if signed && !has_home && reader.is_sound(&[]) && reader.problems.is_empty() {
        reader.conflict(
            "inbound.federation.signed",
            "asks for a signature of home, and there is no such issuer; write [inbound.issuers.home]",
        );
    }
    Some(Federation {
        list: list?,
        signed,
    })
}

fn tls(reader: &mut Reader<'_>) -> Option<Tls> {
    let [cert, key, client_ca] =
        ["cert_file", "key_file", "client_ca_file"].map(|name| format!("inbound.tls.{name}"));
    let cert_file = reader.optional(&cert, |given| given.path());
    let key_file = reader.optional(&key, |given| given.path());
    let client_ca_file = reader.optional(&client_ca, |given| given.path());
    // A table that is there and says nothing must not leave the listener without TLS.
    if reader.is_table("inbound.tls") {
        for (path, example, is_there) in [
            (
                &cert,
                "cert_file = \"/etc/regent/tls/tls.crt\"",
                cert_file.is_some(),
            ),
            (
                &key,
                "key_file = \"/etc/regent/tls/tls.key\"",
                key_file.is_some(),
            ),
        ] {
            if !is_there && reader.is_sound(&[path]) {
                reader.conflict(path, &format!("is missing; write one, such as {example}"));
            }
        }
    }
    Some(Tls {
        cert_file: cert_file?,
        key_file: key_file?,
        client_ca_file,
    })
}

/// A field that must be there where `is_needed`.
fn needed<T>(
    reader: &mut Reader<'_>,
    is_needed: bool,
    path: &str,
    example: &str,
    parse: impl Fn(&Given<'_>) -> Result<T, Wrong>,
) -> Option<T> {
    match is_needed {
        true => reader.must(path, example, parse),
        false => reader.optional(path, parse),
    }
}

fn rules(reader: &mut Reader<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    for table in reader.tables("inbound.rules") {
        let at = |name: &str| format!("{table}.{name}");
        let path = reader.must(&at("path"), "path = \"/admin\"", address::route_path);
        let exact = reader.required(&at("exact"), |given| given.bool());
        let methods = reader.list(&at("methods"), address::method);
        let anonymous = reader.required(&at("anonymous"), |given| given.bool());
        let claims = reader.map(&at("claims"), name, values);
        let claims = claims.unwrap_or_default();
        let sound = reader.is_sound(&[&at("anonymous"), &at("claims")]);
        if anonymous && !claims.is_empty() && sound {
            let text = "has no meaning where no token is needed; remove it, or anonymous = true";
            reader.conflict(&at("claims"), text);
        }
        rules.extend(path.map(|path| Rule {
            path,
            exact,
            methods,
            anonymous,
            claims,
        }));
    }
    rules
}
