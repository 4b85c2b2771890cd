//! `[inbound]`: what its fields make of their values, and which source holds.

use std::time::Duration;

use regent::config::inbound::ALGORITHMS;
use regent::config::{
    IdentityHeader, Inbound, InboundAuthorization, Issuer, KeySource, Listen, StreamLifetime,
    Upstream,
};
use regent::jwt::algorithm::Algorithm;
use serde_json::{Value, json};

use crate::Case;

/// A config that is whole but for what follows in `[inbound]`.
pub(crate) const INBOUND: &str =
    "[inbound]\nlisten = '127.0.0.1:8000'\nupstream = 'http://127.0.0.1:8001'\n";
/// And an issuer, with all that it must have.
pub(crate) const HOME: &str =
    "[inbound.issuers.home]\nissuer = 'iss'\npublic_key_file = '/k.pem'\n";

/// With more keys in `[inbound]`.
pub(crate) fn inbound(keys: &str) -> String {
    format!("{INBOUND}{keys}\n{HOME}")
}

/// With more keys in `[inbound.issuers.home]`.
pub(crate) fn home(keys: &str) -> String {
    format!("{INBOUND}{HOME}{keys}\n")
}

/// The issuer `home` with nothing but these keys.
pub(crate) fn bare(keys: &str) -> String {
    format!("{INBOUND}[inbound.issuers.home]\n{keys}\n")
}

fn load(text: &str) -> Inbound {
    Case::toml(text).load().config.inbound.expect("inbound")
}

fn first_issuer(text: &str) -> Issuer {
    load(text).issuers.remove(0)
}

fn names(inbound: &Inbound) -> Vec<&str> {
    inbound.issuers.iter().map(|issuer| &*issuer.name).collect()
}

fn headers(headers: &[IdentityHeader]) -> Vec<(&str, &str)> {
    let pairs = headers.iter();
    pairs.map(|pair| (&*pair.header, &*pair.claim)).collect()
}

#[test]
fn a_side_runs_if_its_table_is_there() {
    let both = format!("[outbound]\n{}", home(""));
    let table = [
        (Case::new(), (true, false)),
        (Case::toml("[outbound]"), (true, false)),
        (Case::toml(home("")), (false, true)),
        (Case::toml(both), (true, true)),
        (
            Case::toml(home("")).set("outbound.token_wait=1s"),
            (true, true),
        ),
        (
            Case::toml(home("")).env(&[("REGENT__OUTBOUND__TOKEN_WAIT", "1s")]),
            (true, true),
        ),
        (
            Case::toml(home("")).file("b.yaml", "outbound:\n"),
            (true, true),
        ),
    ];
    for (case, expected) in table {
        let config = case.load().config;
        let runs = (config.outbound.is_some(), config.inbound.is_some());
        assert_eq!(runs, expected, "{:?}", case.sources);
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let inbound = load(&home(""));
    assert_eq!(inbound.authorization, InboundAuthorization::Strip);
    assert_eq!(inbound.stream_lifetime, StreamLifetime::Unlimited);
    assert!(inbound.reveal_reasons && !inbound.insecure_shadow_mode && !inbound.insecure_http);
    assert_eq!(
        headers(&inbound.identity_headers),
        [
            ("x-regent-user", "username"),
            ("x-regent-user-id", "user_id")
        ]
    );
    assert_eq!(inbound.rules, []);
    let home = &inbound.issuers[0];
    assert_eq!((&*home.name, &*home.issuer), ("home", "iss"));
    assert_eq!(home.keys, KeySource::PublicKeyFile("/k.pem".into()));
    assert_eq!(home.algorithms, ["RS256"]);
    assert_eq!(home.token_types, ["access"]);
    assert_eq!(home.audiences, [""; 0]);
    assert_eq!(
        (&*home.required_claims, &home.identity_headers),
        (&[][..], &None)
    );
    assert!(!home.allow_unqualified_identity && !home.insecure_http);
    let spans = [
        (home.leeway, 30),
        (home.max_lifetime, 24 * 3600),
        (home.jwks_refresh, 300),
        (home.jwks_cooldown, 30),
        (home.jwks_max_stale, 24 * 3600),
    ];
    for (span, seconds) in spans {
        assert_eq!(span, Duration::from_secs(seconds));
    }
}

#[test]
fn listener_and_upstream_are_addresses_or_sockets() {
    let text = |listen, upstream| {
        format!(
            "[inbound]\nlisten = '{listen}'\nsocket_mode = '0660'\nupstream = '{upstream}'\n{HOME}"
        )
    };
    let inbound = load(&text("[::]:8000", "unix:/run/app.sock"));
    let address = "[::]:8000".parse().expect("an address");
    assert_eq!(inbound.listen, Some(Listen::Tcp(address)));
    let socket = Upstream::Unix("/run/app.sock".into());
    assert_eq!(inbound.upstream, Some(socket));
    let inbound = load(&text("unix:/run/in.sock", "https://app.example.com/base"));
    let path = "/run/in.sock".into();
    assert_eq!(inbound.listen, Some(Listen::Unix { path, mode: 0o660 }));
    let url = "https://app.example.com/base".parse().expect("a URL");
    assert_eq!(inbound.upstream, Some(Upstream::Url(url)));
}

#[test]
fn forward_auth_may_stand_beside_the_proxy_or_alone() {
    let beside = load(&home("[inbound.forward_auth]\nlisten = '127.0.0.1:8082'"));
    assert!(beside.listen.is_some() && beside.upstream.is_some());
    let address = "127.0.0.1:8082".parse().expect("an address");
    assert_eq!(beside.forward_auth, Some(Listen::Tcp(address)));

    let keys = "[inbound]\nsocket_mode = '0660'\nforward_auth = { listen = 'unix:/run/v.sock' }\n";
    let case = Case::toml(format!("{keys}{HOME}"));
    let loaded = case.load();
    let alone = loaded.config.inbound.as_ref().expect("inbound");
    assert_eq!((&alone.listen, &alone.upstream), (&None, &None));
    let path = "/run/v.sock".into();
    let socket = Listen::Unix { path, mode: 0o660 };
    assert_eq!(alone.forward_auth, Some(socket));
    assert!(loaded.config.outbound.is_none(), "it is a side of its own");
    let render = loaded.render();
    let line = render
        .lines()
        .find(|line| line.starts_with("inbound.listen "));
    assert!(
        line.is_some_and(|line| line.contains("(forward_auth alone)")),
        "{render}"
    );
    assert_eq!(load(&home("")).forward_auth, None);
}

#[test]
fn plain_http_is_taken_where_nothing_is_lost() {
    let elsewhere = "[inbound]\nlisten = '[::]:8000'\nupstream = 'http://app:8001'\n";
    let west = |keys: &str| bare(&format!("issuer = 'w'\n{keys}"));
    let fine = [
        format!("{elsewhere}{HOME}"),
        format!("{elsewhere}authorization = 'forward'\ninsecure_http = true\n{HOME}"),
        inbound("authorization = 'forward'"),
        west("jwks_url = 'http://localhost:9/keys'"),
        west("discovery_url = 'http://[::1]/d'"),
        west("jwks_url = 'http://a.b/keys'\ninsecure_http = true"),
    ];
    for text in fine {
        assert_eq!(Case::toml(&text).problems(), [""; 0], "{text}");
    }
}

#[test]
fn every_algorithm_that_is_understood_can_be_named() {
    assert_eq!(ALGORITHMS, Algorithm::ALL.map(Algorithm::name));
    let issuer = first_issuer(&home(&format!("algorithms = {ALGORITHMS:?}")));
    assert_eq!(issuer.algorithms, ALGORITHMS);
}

#[test]
fn an_issuer_has_one_key_source() {
    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
    let url = |text: &str| text.parse().expect("a URL");
    let inline = format!("public_key = '''\n{PEM}'''");
    let table = [
        (
            "public_key_file = '~/k.pem'",
            KeySource::PublicKeyFile("/home/alice/k.pem".into()),
        ),
        (&inline, KeySource::PublicKey(PEM.to_owned())),
        ("jwks_file = '/j'", KeySource::JwksFile("/j".into())),
        (
            "jwks_url = 'https://a.b/j'",
            KeySource::JwksUrl(url("https://a.b/j")),
        ),
        (
            "discovery_url = 'https://a.b/d'",
            KeySource::DiscoveryUrl(url("https://a.b/d")),
        ),
    ];
    for (key, source) in table {
        let issuer = first_issuer(&bare(&format!("issuer = ''\n{key}")));
        assert_eq!((issuer.keys, &*issuer.issuer), (source, ""));
    }
    let case = Case::toml(bare(&format!("issuer = ''\n{inline}")));
    assert_eq!(
        case.row("inbound.issuers.home.public_key").0,
        r#""-----BEGIN PUBLIC KEY-----...""#
    );
}

#[test]
fn the_values_of_claims_keep_their_types() {
    let toml = home(
        r#"[inbound.issuers.home.required_claims]
a = "1"
b = 1
c = [true, "true", 0x10, -3, 1.5, 1_000, 1.0]
"https://example.com/role" = "x"
"/realm_access/a~1b" = ["y"]
"dotted.name" = false
"empty" = ""
"#,
    );
    let yaml = r#"
inbound:
  listen: 127.0.0.1:8000
  upstream: http://127.0.0.1:8001
  issuers:
    home:
      issuer: iss
      public_key_file: /k.pem
      required_claims:
        a: "1"
        b: 1
        c: [true, "true", 0x10, -3, 1.5, 1000, 1.0]
        https://example.com/role: x
        /realm_access/a~1b: [y]
        dotted.name: false
        empty: ""
"#;
    let json = r#"{"a": "1", "b": 1, "c": [true, "true", 16, -3, 1.5, 1000, 1.0],
        "https://example.com/role": "x", "/realm_access/a~1b": ["y"], "dotted.name": false, "empty": ""}"#;
    let name = "REGENT__INBOUND__ISSUERS__HOME__REQUIRED_CLAIMS";
    let expected: Vec<(String, Vec<Value>)> = [
        ("a", json!(["1"])),
        ("b", json!([1])),
        ("c", json!([true, "true", 16, -3, 1.5, 1000, 1.0])),
        ("https://example.com/role", json!(["x"])),
        ("/realm_access/a~1b", json!(["y"])),
        ("dotted.name", json!([false])),
        ("empty", json!([""])),
    ]
    .into_iter()
    .map(|(name, values)| (name.to_owned(), values.as_array().expect("a list").clone()))
    .collect();
    let cases = [
        Case::toml(toml),
        Case::yaml(yaml),
        Case::toml(home("")).env(&[(name, json)]),
        Case::toml(home("")).set(&format!("inbound.issuers.home.required_claims={json}")),
    ];
    for case in cases {
        let inbound = case.load().config.inbound.expect("inbound");
        let claims = &inbound.issuers[0].required_claims;
        assert_eq!(*claims, expected);
    }
}

#[test]
fn all_stands_in_the_order_in_which_it_was_written() {
    let text = format!(
        "{INBOUND}identity_headers = {{ X-B = 'b', x-a = '/a/0' }}\n\
        [inbound.issuers.zeta]\nissuer = 'z'\njwks_file = '/z'\nidentity_headers = {{}}\n\
        [[inbound.rules]]\npath = '/b'\nanonymous = true\n\
        [[inbound.rules]]\npath = '/a'\nexact = true\nmethods = ['GET']\nclaims = {{ z = 1, a = [2] }}\n\
        [inbound.issuers.alpha]\nissuer = 'a'\njwks_file = '/a'\n"
    );
    let case = Case::toml(text).file(
        "b.yaml",
        "inbound:\n  issuers:\n    beta: {issuer: b, jwks_file: /b}\n    zeta: {leeway: 1s}\n    alpha:\n",
    );
    let inbound = case.load().config.inbound.expect("inbound");
    assert_eq!(names(&inbound), ["zeta", "alpha", "beta"]);
    let zeta = &inbound.issuers[0];
    assert_eq!((zeta.leeway, &*zeta.issuer), (Duration::from_secs(1), "z"));
    assert_eq!(zeta.identity_headers, Some(vec![]));
    assert_eq!(
        headers(&inbound.identity_headers),
        [("x-b", "b"), ("x-a", "/a/0")]
    );
    let [first, second] = &inbound.rules[..] else {
        panic!("two rules")
    };
    assert!(first.path == "/b" && first.anonymous && !first.exact && first.methods.is_empty());
    assert!(second.path == "/a" && !second.anonymous && second.exact && second.methods == ["GET"]);
    let claims = [
        ("z".to_owned(), vec![json!(1)]),
        ("a".to_owned(), vec![json!(2)]),
    ];
    assert_eq!(second.claims, claims);
}

#[test]
fn maps_are_replaced_as_a_whole() {
    let base = || Case::toml(inbound("identity_headers = { x-a = 'a', x-b = 'b' }"));
    let json = r#"{"X-C": "c"}"#;
    let cases = [
        base().file("b.toml", "[inbound.identity_headers]\nx-c = 'c'"),
        base().env(&[("REGENT__INBOUND__IDENTITY_HEADERS", json)]),
        base().set(&format!("inbound.identity_headers={json}")),
    ];
    for case in cases {
        let inbound = case.load().config.inbound.expect("inbound");
        assert_eq!(headers(&inbound.identity_headers), [("x-c", "c")]);
    }
}

#[test]
fn issuers_merge_by_name() {
    let rules = r#"[{"path": "/x", "claims": {"a.b": 1}}]"#;
    let west = r#"{"west-2": {"issuer": "w", "jwks_url": "https://w.example.com/keys"}}"#;
    let case = Case::toml(home(""))
        .env(&[
            ("REGENT__INBOUND__LISTEN", "unix:/s"),
            ("REGENT__INBOUND__ISSUERS__HOME__LEEWAY", "5s"),
            ("REGENT__INBOUND__ISSUERS__HOME__AUDIENCES", r#"["me"]"#),
            ("REGENT__INBOUND__RULES", rules),
            ("REGENT__INBOUND__ISSUERS", west),
        ])
        .set("inbound.issuers.home.audiences=[\"you\"]")
        .set("inbound.issuers.West.issuer=W")
        .set("inbound.issuers.West.public_key_file=/w.pem");
    let inbound = case.load().config.inbound.expect("inbound");
    assert_eq!(names(&inbound), ["home", "west-2", "West"]);
    assert_eq!(inbound.issuers[0].audiences, ["you"]);
    assert_eq!(inbound.issuers[0].leeway, Duration::from_secs(5));
    let claims = [("a.b".to_owned(), vec![json!(1)])];
    assert_eq!(inbound.rules[0].claims, claims);
}

#[test]
fn an_inbound_side_can_stand_in_variables_alone() {
    let key = "-----BEGIN PUBLIC KEY-----\nx";
    let case = Case::new().env(&[
        ("REGENT__INBOUND__LISTEN", "[::]:8000"),
        ("REGENT__INBOUND__UPSTREAM", "http://127.0.0.1:8001"),
        ("REGENT__INBOUND__ISSUERS__HOME__ISSUER", ""),
        ("REGENT__INBOUND__ISSUERS__HOME__PUBLIC_KEY", key),
    ]);
    let inbound = case.load().config.inbound.expect("inbound");
    assert_eq!(inbound.issuers[0].issuer, "");
    assert_eq!(
        inbound.issuers[0].keys,
        KeySource::PublicKey(key.to_owned())
    );
}

#[test]
fn tables_with_all_their_keys_commented_out_take_nothing_away() {
    let base = || Case::toml(home("leeway = '1s'\n[[inbound.rules]]\npath = '/a'"));
    let case = base()
        .file("b.yaml", "inbound:\n  issuers:\n    home:\n")
        .file("c.yaml", "inbound:\n  issuers:\n  rules:\n")
        .file("d.yaml", "inbound:\n");
    assert_eq!(case.load().config, base().load().config);
}

#[test]
fn check_says_where_each_value_comes_from() {
    let case = Case::toml(home(
        "required_claims = { 'a.b' = [1, 'x'], c = true }\n[[inbound.rules]]\npath = '/a'",
    ))
    .set("inbound.issuers.home.leeway=1s");
    let table = [
        ("inbound.listen", "\"127.0.0.1:8000\"", "a.toml:2:10"),
        (
            "inbound.identity_headers",
            r#"{ x-regent-user = "username", x-regent-user-id = "user_id" }"#,
            "default",
        ),
        ("inbound.issuers.home.issuer", "\"iss\"", "a.toml:5:10"),
        ("inbound.issuers.home.algorithms", "[\"RS256\"]", "default"),
        (
            "inbound.issuers.home.leeway",
            "\"1s\"",
            "--set inbound.issuers.home.leeway",
        ),
        (
            "inbound.issuers.home.required_claims",
            r#"{ "a.b" = [1, "x"], c = true }"#,
            "a.toml:7:19",
        ),
        ("inbound.rules[0].path", "\"/a\"", "a.toml:9:8"),
        ("inbound.rules[0].claims", "{}", "default"),
    ];
    for (path, value, origin) in table {
        let expected = (value.to_owned(), origin.to_owned());
        assert_eq!(case.row(path), expected, "{path}");
    }
}

#[test]
fn issuers_that_look_alike_are_told_apart_aloud() {
    let west = "[inbound.issuers.west]\nissuer = 'ISS/'\njwks_file = '/w'\n";
    let render = Case::toml(format!("{}{west}", home(""))).load().render();
    let note = "\"ISS/\"  (not the issuer of inbound.issuers.home: case and a last slash count)";
    assert!(render.contains(note), "{render}");
}
