//! Lists that the config names: where they are, and what may stand in one.

use std::time::Duration;

use regent::config::inbound::federation::{MOST, read};
use regent::config::inbound::{Fault, Federation, List, ListAt};
use regent::config::{Inbound, Issuer, KeySource};
use serde_json::{Value, json};

use crate::Case;
use crate::inbound::home;

const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n";

fn load(text: &str) -> Inbound {
    Case::toml(text).load().config.inbound.expect("inbound")
}

/// The entries of a list, each as its name or its fault.
fn listed(entries: &Value) -> Vec<Result<Issuer, String>> {
    let document = json!({ "issuers": entries }).to_string();
    let read = read(document.as_bytes()).expect("a list");
    let told = |entry: Result<Issuer, _>| entry.map_err(|fault: Fault| fault.to_string());
    read.into_iter().map(told).collect()
}

fn fault(entry: Value) -> String {
    let read = listed(&json!([entry])).remove(0);
    read.err().unwrap_or_default()
}

/// A good entry with this changed.
fn with(key: &str, value: impl Into<Value>) -> Value {
    let mut entry = json!({ "name": "west", "issuer": "https://west", "public_key": PEM });
    entry[key] = value.into();
    entry
}

#[test]
fn a_list_of_issuers_is_named_by_file_or_url() {
    let federation = |keys: &str| load(&home(&format!("[inbound.federation]\n{keys}"))).federation;
    let list = |at| List {
        at,
        refresh: Duration::from_secs(300),
        ca_file: None,
        proxy: None,
        insecure_http: false,
    };
    let file = list(ListAt::File("/l.json".into()));
    let plain = Federation {
        list: file,
        signed: false,
    };
    assert_eq!(federation("file = '/l.json'"), Some(plain));
    let url = ListAt::Url("https://a.b/l".parse().expect("a URL"));
    let signed = Federation {
        list: List {
            refresh: Duration::from_secs(60),
            ca_file: Some("/ca".into()),
            ..list(url)
        },
        signed: true,
    };
    let keys = "url = 'https://a.b/l'\nrefresh = '60s'\nca_file = '/ca'\nsigned = true";
    assert_eq!(federation(keys), Some(signed));
    assert_eq!(load(&home("")).federation, None);
}

#[test]
fn mistakes_about_where_a_list_is() {
    let other = home("").replace("issuers.home", "issuers.west");
    for (text, told) in [
        (
            home("[inbound.federation]"),
            "a.toml:7:1: inbound.federation: has no list; write one, such as file = \"/etc/regent/issuers.json\", or url",
        ),
        (
            home("[inbound.federation]\nfile = '/l'\nurl = 'https://a.b/'"),
            "a.toml:9:7: inbound.federation.url: stands beside file; keep one of them",
        ),
        (
            home("[inbound.federation]\nurl = 'http://a.b/'"),
            "a.toml:8:7: inbound.federation.url: plain http:// would let the network put in issuers of its own; write https://, or insecure_http = true beside it",
        ),
        (
            home("[inbound.federation]\nfile = '/l'\nrefresh = '1s'"),
            "a.toml:9:11: inbound.federation.refresh: \"1s\" is too short; write \"5s\" or more",
        ),
        (
            home("[inbound.federation]\nfiles = '/l'"),
            "a.toml:8:1: no key \"files\" in [inbound.federation]; write \"file\"",
        ),
        (
            format!("{other}[inbound.federation]\nfile = '/l'\nsigned = true"),
            "a.toml:10:10: inbound.federation.signed: asks for a signature of home, and there is no such issuer; write [inbound.issuers.home]",
        ),
    ] {
        let problems = Case::toml(&text).problems();
        assert!(
            problems.iter().any(|problem| problem == told),
            "{text}\n{problems:#?}"
        );
    }
    let local = home("[inbound.federation]\nurl = 'http://127.0.0.1:1/'");
    assert_eq!(Case::toml(local).problems(), [""; 0]);
}

#[test]
fn an_entry_has_the_defaults_of_an_issuer_in_the_config() {
    let of_config = format!(
        "{}[inbound.issuers.west]\nissuer = 'https://west'\npublic_key = '''\n{PEM}'''",
        home("")
    );
    let expected = load(&of_config).issuers.remove(1);
    assert_eq!(listed(&json!([with("name", "west")])), [Ok(expected)]);
}

#[test]
fn an_entry_says_what_it_may_say() {
    let entry = json!({
        "name": "west", "issuer": "https://west", "algorithms": ["ES256", "EdDSA"],
        "audiences": ["me"], "required_claims": { "role": ["admin", 7], "/a/b": true },
        "discovery_url": "https://west/",
    });
    let issuer = listed(&json!([entry])).remove(0).expect("good");
    assert_eq!(issuer.algorithms, ["ES256", "EdDSA"]);
    assert_eq!(issuer.audiences, ["me"]);
    let mut claims = issuer.required_claims;
    claims.sort_by(|one, other| one.0.cmp(&other.0));
    let expected = [
        ("/a/b".to_owned(), vec![json!(true)]),
        ("role".to_owned(), vec![json!("admin"), json!(7)]),
    ];
    assert_eq!(claims, expected);
    assert!(matches!(issuer.keys, KeySource::DiscoveryUrl(_)));
    let set = json!({ "keys": [{ "kty": "EC", "x": "1" }] });
    for set in [set.clone(), json!(set.to_string())] {
        let entry = json!({ "name": "west", "issuer": "w", "jwks": set });
        let KeySource::Jwks(text) = listed(&json!([entry])).remove(0).expect("good").keys else {
            panic!("a set");
        };
        let read: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(read, json!({ "keys": [{ "kty": "EC", "x": "1" }] }));
    }
}

#[test]
fn toml_says_the_same_as_json() {
    let toml = format!(
        "[[issuers]]\nname = 'west'\nissuer = 'https://west'\npublic_key = '''\n{PEM}'''\n"
    );
    let read = read(toml.as_bytes()).expect("a list");
    let json = listed(&json!([with("name", "west")]));
    assert_eq!(read[0].as_ref().ok(), json[0].as_ref().ok());
}

#[test]
fn what_an_entry_may_not_say_is_named() {
    let only_config = |key: &str| {
        format!(
            "issuers[0] \"west\": \"{key}\": only the config may set it; remove it, or write the \
             issuer into the config"
        )
    };
    let no_file = |key: &str| {
        format!(
            "issuers[0] \"west\": \"{key}\": a list names no file; write public_key, jwks or a URL"
        )
    };
    for key in ["public_key_file", "jwks_file", "ca_file"] {
        assert_eq!(fault(with(key, "/etc/passwd")), no_file(key));
    }
    for (key, value) in [
        ("leeway", json!("1s")),
        ("max_lifetime", json!("365d")),
        ("token_types", json!(["refresh"])),
        ("allow_unqualified_identity", json!(true)),
        ("identity_headers", json!({})),
        ("insecure_http", json!(true)),
        ("jwks_max_stale", json!("365d")),
        ("jwks_cooldown", json!("1s")),
    ] {
        assert_eq!(fault(with(key, value)), only_config(key));
    }
    let names = "name, issuer, public_key, jwks, jwks_url, discovery_url, algorithms, audiences, required_claims";
    for (entry, why) in [
        (
            with("keys", "x"),
            format!("issuers[0] \"west\": no key \"keys\" in an entry; there are {names}"),
        ),
        (json!("west"), "issuers[0]: expected a table; write one with name, issuer and its keys".to_owned()),
        (
            json!({ "issuer": "x", "public_key": PEM }),
            "issuers[0]: name is missing; write one, such as name = \"west\"".to_owned(),
        ),
        (
            with("name", "a.b"),
            "issuers[0]: name: is no name; write up to 64 letters, digits, \"-\" and \"_\"".to_owned(),
        ),
        (
            with("algorithms", json!(["HS256"])),
            "issuers[0] \"west\": algorithms[0]: \"HS256\" is never allowed: whoever can verify such a token can make one; write one such as \"RS256\"".to_owned(),
        ),
        (
            with("algorithms", json!([])),
            "issuers[0] \"west\": algorithms: is empty, so that every token is refused; write one, as in [\"RS256\"]".to_owned(),
        ),
        (
            with("jwks_url", "https://west/"),
            "issuers[0] \"west\": jwks_url: stands beside public_key; keep one of them".to_owned(),
        ),
        (
            json!({ "name": "west", "issuer": "w" }),
            "issuers[0] \"west\": has no keys; write one of public_key, jwks, jwks_url, discovery_url".to_owned(),
        ),
        (
            json!({ "name": "west", "issuer": "w", "jwks_url": "http://west/" }),
            "issuers[0] \"west\": jwks_url: plain http:// would let the network put in keys of its own; write https://".to_owned(),
        ),
        (
            json!({ "name": "west", "public_key": PEM }),
            "issuers[0] \"west\": issuer: is missing; write the exact iss of its tokens, or issuer = \"\" where they carry none".to_owned(),
        ),
        (
            with("public_key", "-----BEGIN PRIVATE KEY-----\ncanary"),
            "issuers[0] \"west\": public_key: is a private key, with which tokens can be made; replace the pair, and write the public key, as `openssl pkey -pubout` prints it".to_owned(),
        ),
    ] {
        assert_eq!(fault(entry.clone()), why, "{entry}");
    }
}

#[test]
fn a_broken_entry_costs_no_other() {
    let good = |at: usize| json!({ "name": format!("i{at}"), "issuer": format!("iss{at}"), "public_key": PEM });
    let entries: Vec<Value> = (0..30)
        .map(|at| match at % 3 {
            0 => json!([at]),
            _ => good(at),
        })
        .collect();
    let read = listed(&json!(entries));
    for (at, entry) in read.iter().enumerate() {
        match (at % 3, entry) {
            (0, Err(fault)) => assert!(fault.starts_with(&format!("issuers[{at}]:")), "{fault}"),
            (1 | 2, Ok(issuer)) => assert_eq!(issuer.name, format!("i{at}")),
            other => panic!("{other:?}"),
        }
    }
    let twice = br#"{"issuers":[{"name":"a","name":"b","issuer":"x","jwks_url":"https://x/"},
        {"name":"b","issuer":"x","jwks_url":"https://x/"}]}"#;
    let read = read_names(twice);
    assert_eq!(
        read,
        [
            "issuers[0] \"b\": a key stands twice in it; remove one of them",
            "b"
        ]
    );
}

fn read_names(document: &[u8]) -> Vec<String> {
    let read = read(document).expect("a list");
    let told = read.into_iter().map(|entry| match entry {
        Ok(issuer) => issuer.name,
        Err(fault) => fault.to_string(),
    });
    told.collect()
}

#[test]
fn a_list_has_its_bound() {
    let entries = |many: usize| json!({ "issuers": vec![json!(1); many] }).to_string();
    assert_eq!(
        read(entries(MOST).as_bytes()).map(|read| read.len()),
        Ok(MOST)
    );
    let why = "it has 4097 entries, and 4096 is the most".to_owned();
    assert_eq!(read(entries(MOST + 1).as_bytes()), Err(why));
    assert_eq!(
        read(b"{\"issuers\": []}"),
        Ok(Vec::new()),
        "an empty list is one"
    );
}

/// A page of text, YAML, or a list in one line: read in the time of its length, not of its square.
#[test]
fn what_is_no_list_costs_what_it_is_long() {
    let line = format!("issuers = [{}]", "1,".repeat(100_000));
    for document in [
        "x\n".repeat(100_000),
        "- x: [\n".repeat(30_000),
        "x = ".repeat(50_000),
    ] {
        assert!(read(document.as_bytes()).is_err());
    }
    assert!(read(line.as_bytes()).is_err(), "too many");
}

#[test]
fn a_list_of_revoked_tokens_is_named_in_the_same_way() {
    let list = |keys: &str| load(&home(&format!("[inbound.revocations]\n{keys}"))).revocations;
    let expected = List {
        at: ListAt::File("/r".into()),
        refresh: Duration::from_secs(300),
        ca_file: None,
        proxy: None,
        insecure_http: false,
    };
    assert_eq!(list("file = '/r'"), Some(expected));
    assert_eq!(load(&home("")).revocations, None);
    for (keys, told) in [
        (
            "",
            "a.toml:7:1: inbound.revocations: has no list; write one, such as file = \"/etc/regent/revoked.json\", or url",
        ),
        (
            "url = 'http://a.b/'",
            "a.toml:8:7: inbound.revocations.url: plain http:// would let the network leave out what it likes; write https://, or insecure_http = true beside it",
        ),
        (
            "file = '/r'\nsigned = true",
            "a.toml:9:1: no key \"signed\" in [inbound.revocations]; it is inbound.federation.signed",
        ),
    ] {
        let text = home(&format!("[inbound.revocations]\n{keys}"));
        assert_eq!(Case::toml(text).problems(), [told]);
    }
}
