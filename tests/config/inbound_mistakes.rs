//! What is wrong in `[inbound]`, told with its place and what to write.

use crate::Case;
use crate::inbound::{HOME, INBOUND, bare, home, inbound};

#[test]
fn many_mistakes_are_told_at_once() {
    let case = Case::toml(
        r#"[inbound]
listen = 8000
upstream = "127.0.0.1:8001"
identity_headers = { "Host" = "username", x-user = "hash_password" }

[inbound.issuers.home]
issuer = "iss"
public_key_file = "/k.pem"
jwks_url = "http://keys.example.com"
algorithms = ["none", "HS256", "rs265"]
audience = ["x"]

[inbound.issuers.west]
issuer = "iss"
leeway = "6m"

[[inbound.rules]]
anonymous = true
claims = { role = [] }
"#,
    );
    assert_eq!(
        case.problems(),
        [
            r#"a.toml:2:10: inbound.listen: expected a string, found the number 8000; write "[::]:8000""#,
            r#"a.toml:3:12: inbound.upstream: "127.0.0.1:8001" has no scheme; write "http://127.0.0.1:8001""#,
            r#"a.toml:4:22: inbound.identity_headers: "Host" has a meaning of its own and cannot carry an identity; write another, such as "x-regent-user""#,
            r#"a.toml:4:52: inbound.identity_headers.x-user: "hash_password" is never sent on: it is made from a password; write another claim, such as "username""#,
            "a.toml:9:12: inbound.issuers.home.jwks_url: stands beside public_key_file; keep one of them",
            r#"a.toml:10:15: inbound.issuers.home.algorithms[0]: "none" is never allowed: such tokens are not signed; write one such as "RS256""#,
            r#"a.toml:10:23: inbound.issuers.home.algorithms[1]: "HS256" is never allowed: whoever can verify such a token can make one; write one such as "RS256""#,
            r#"a.toml:10:32: inbound.issuers.home.algorithms[2]: "rs265" is unknown; write "RS256""#,
            r#"a.toml:11:1: no key "audience" in [inbound.issuers.home]; write "audiences""#,
            "a.toml:13:1: inbound.issuers.west: has no keys; write one of public_key_file, public_key, jwks_file, jwks_url, discovery_url",
            r#"a.toml:14:10: inbound.issuers.west.issuer: "iss" is the issuer of inbound.issuers.home too, and a token could not tell them apart; write another, or remove one of them"#,
            r#"a.toml:15:10: inbound.issuers.west.leeway: "6m" is too long; write "5m" or less"#,
            r#"a.toml:17:1: inbound.rules[0].path: is missing; write one, such as path = "/admin""#,
            "a.toml:19:19: inbound.rules[0].claims.role: is an empty list, which no token meets; name a value, or remove it",
        ]
    );
}

/// Each config has this one mistake, and it is told so.
fn told(table: &[(String, &str)]) {
    for (text, expected) in table {
        assert_eq!(Case::toml(text).problems(), [*expected], "{text}");
    }
}

#[test]
fn what_must_be_there_is_asked_for() {
    told(&[
        (
            format!("[inbound]\nupstream = 'http://127.0.0.1:1'\n{HOME}"),
            r#"a.toml:1:1: inbound.listen: is missing; write one, such as listen = "[::]:8000""#,
        ),
        (
            format!("[inbound]\nlisten = '[::]:1'\n{HOME}"),
            r#"a.toml:1:1: inbound.upstream: is missing; write one, such as upstream = "http://127.0.0.1:8001""#,
        ),
        (
            INBOUND.to_owned(),
            "a.toml:1:1: inbound.issuers: is missing, so that every token would be refused; write [inbound.issuers.home] with issuer and public_key_file",
        ),
        (
            bare("jwks_file = '/j'"),
            r#"a.toml:4:1: inbound.issuers.home.issuer: is missing; write the exact iss of its tokens, or issuer = "" where they carry none"#,
        ),
        (
            bare("issuer = ''"),
            "a.toml:4:1: inbound.issuers.home: has no keys; write one of public_key_file, public_key, jwks_file, jwks_url, discovery_url",
        ),
        (
            home("[inbound.tls]\ncert_file = '/c'"),
            r#"a.toml:7:1: inbound.tls.key_file: is missing; write one, such as key_file = "/etc/regent/tls/tls.key""#,
        ),
        (
            home("[inbound.tls]\nkey_file = '/k'"),
            r#"a.toml:7:1: inbound.tls.cert_file: is missing; write one, such as cert_file = "/etc/regent/tls/tls.crt""#,
        ),
    ]);
}

/// A listener that was meant to speak TLS must not speak plain http.
#[test]
fn an_empty_table_of_tls_is_not_taken_for_none() {
    let problems = Case::toml(home("[inbound.tls]")).problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|problem| problem.contains("is missing"))
    );
}

#[test]
fn beside_forward_auth_half_a_proxy_is_a_mistake() {
    let with = |keys: &str| {
        format!("[inbound]\n{keys}\n[inbound.forward_auth]\nlisten = '[::]:8082'\n{HOME}")
    };
    told(&[
        (
            with("listen = '[::]:8000'"),
            r#"a.toml:1:1: inbound.upstream: is missing; write one, such as upstream = "http://127.0.0.1:8001""#,
        ),
        (
            with("upstream = 'http://127.0.0.1:8001'"),
            r#"a.toml:1:1: inbound.listen: is missing; write one, such as listen = "[::]:8000""#,
        ),
        (
            format!("[inbound.forward_auth]\n{HOME}"),
            r#"a.toml:1:1: inbound.forward_auth.listen: is missing; write one, such as listen = "127.0.0.1:8082""#,
        ),
        (
            format!(
                "[inbound.forward_auth]\nlisten = '[::]:8082'\n[inbound.tls]\ncert_file = '/c'\n\
                 key_file = '/k'\n{HOME}"
            ),
            "a.toml:4:13: inbound.tls.cert_file: has no meaning: forward_auth alone listens, and speaks plain http; remove inbound.tls, or write inbound.listen and inbound.upstream",
        ),
        (
            format!("[inbound.forward_auth]\nlisten = 8082\n{HOME}"),
            r#"a.toml:2:10: inbound.forward_auth.listen: expected a string, found the number 8082; write "127.0.0.1:8082""#,
        ),
        (
            format!("[inbound.forward_auth]\nlisten = '127.0.0.1:9180'\n{HOME}"),
            r#"a.toml:2:10: inbound.forward_auth.listen: "127.0.0.1:9180" is admin.listen too; write another"#,
        ),
        (
            home("[inbound.forward_auth]\nlisten = '127.0.0.1:8000'"),
            r#"a.toml:8:10: inbound.forward_auth.listen: "127.0.0.1:8000" is inbound.listen too; write another"#,
        ),
        (
            home("[inbound.forward_auth]\nlisten = '127.0.0.1:8082'\npath = '/verify'"),
            r#"a.toml:9:1: no key "path" in [inbound.forward_auth]; it is outbound.routes[].path or inbound.rules[].path"#,
        ),
    ]);
}

#[test]
fn mistakes_of_the_side_itself() {
    let with = |listen: &str, upstream: &str| {
        format!("[inbound]\nlisten = {listen}\nupstream = {upstream}\n{HOME}")
    };
    told(&[
        (
            inbound("authorization = 'keep'"),
            r#"a.toml:4:17: inbound.authorization: "keep" is unknown; write "strip" or "forward""#,
        ),
        (
            inbound("stream_lifetime = '5m'"),
            r#"a.toml:4:19: inbound.stream_lifetime: "5m" is unknown; write "unlimited" or "token""#,
        ),
        (
            inbound("reveal_reason = false"),
            r#"a.toml:4:1: no key "reveal_reason" in [inbound]; write "reveal_reasons""#,
        ),
        (
            inbound("public_key_file = '/k.pem'"),
            r#"a.toml:4:1: no key "public_key_file" in [inbound]; it is inbound.issuers.NAME.public_key_file"#,
        ),
        (
            inbound("anonymus = true"),
            r#"a.toml:4:1: no key "anonymus" in [inbound]; did you mean inbound.rules[].anonymous?"#,
        ),
        (
            inbound("authorization = 'forward'").replace("127.0.0.1:8001", "app"),
            "a.toml:3:12: inbound.upstream: plain http:// would show the token to the network; write https://, or insecure_http = true beside it",
        ),
        (
            with("'[::]:1'", "8001"),
            r#"a.toml:3:12: inbound.upstream: expected a string, found the number 8001; write "http://127.0.0.1:8001""#,
        ),
        (
            with("'[::]:1'", "'unix:app.sock'"),
            r#"a.toml:3:12: inbound.upstream: "unix:app.sock" needs a whole path; write one such as "unix:/run/regent/http.sock""#,
        ),
        (
            with("'8000'", "'https://a.b'"),
            r#"a.toml:2:10: inbound.listen: "8000" has no address; write "[::]:8000""#,
        ),
    ]);
}

#[test]
fn mistakes_of_identity_headers() {
    let map = |map: &str| inbound(&format!("identity_headers = {map}"));
    told(&[
        (
            map("{ 'x user' = 'a' }"),
            r#"a.toml:4:22: inbound.identity_headers: "x user" is no header's name; write one such as "x-regent-user""#,
        ),
        (
            map("{ 'X_Request.Id' = 'a' }"),
            r#"a.toml:4:22: inbound.identity_headers: "X_Request.Id" has a meaning of its own and cannot carry an identity; write another, such as "x-regent-user""#,
        ),
        (
            map("{ x-forwarded-user = 'a' }"),
            r#"a.toml:4:22: inbound.identity_headers: "x-forwarded-user" has a meaning of its own and cannot carry an identity; write another, such as "x-regent-user""#,
        ),
        (
            map("{ x-regent-issuer = 'a' }"),
            r#"a.toml:4:22: inbound.identity_headers: "x-regent-issuer" has a meaning of its own and cannot carry an identity; write another, such as "x-regent-user""#,
        ),
        (
            map("{ x-user = 'a', X_User = 'b' }"),
            r#"a.toml:4:20: inbound.identity_headers: "x-user" and "x_user" are one name to a CGI or WSGI server; remove one of them"#,
        ),
        (
            map("{ x-user = 3 }"),
            r#"a.toml:4:31: inbound.identity_headers.x-user: expected a string, found the number 3; write "3""#,
        ),
        (
            map("{ x-user = '' }"),
            "a.toml:4:31: inbound.identity_headers.x-user: is empty; write a value or remove it",
        ),
        (
            map("{ x-user = '/a~b' }"),
            r#"a.toml:4:31: inbound.identity_headers.x-user: "/a~b" is no JSON pointer: "~" is written "~0" in one, and "/" in a name "~1""#,
        ),
        (
            map("{ x-user = '/hash_password' }"),
            r#"a.toml:4:31: inbound.identity_headers.x-user: "/hash_password" is never sent on: it is made from a password; write another claim, such as "username""#,
        ),
        (
            map("['x-user']"),
            r#"a.toml:4:20: inbound.identity_headers: expected a table, found a list; write one, as in { name = "value" }"#,
        ),
        (
            home("identity_headers = { cookie = 'a' }"),
            r#"a.toml:7:22: inbound.issuers.home.identity_headers: "cookie" has a meaning of its own and cannot carry an identity; write another, such as "x-regent-user""#,
        ),
    ]);
}

#[test]
fn mistakes_of_issuers() {
    told(&[
        (
            home("[inbound.issuers.'a.b']\nissuer = 'x'\njwks_file = '/j'"),
            r#"a.toml:7:18: inbound.issuers: "a.b" is no name; write up to 64 letters, digits, "-" and "_""#,
        ),
        (
            home("[inbound.issuers.Home]\nissuer = 'x'\njwks_file = '/j'"),
            "a.toml:7:1: inbound.issuers.Home: is inbound.issuers.home in other letters; rename one of them",
        ),
        (
            format!("{INBOUND}issuers = ['home']"),
            "a.toml:4:11: inbound.issuers: expected a table, found a value; write its keys, such as inbound.issuers.home.issuer",
        ),
        (
            format!("{INBOUND}issuers.west = 'iss'"),
            "a.toml:4:16: inbound.issuers.west: expected a table, found a value; write its keys, such as inbound.issuers.west.issuer",
        ),
        (
            home("algorithms = []"),
            r#"a.toml:7:14: inbound.issuers.home.algorithms: is empty, so that every token is refused; write one, as in ["RS256"]"#,
        ),
        (
            home("algorithms = ['ES256K']"),
            r#"a.toml:7:15: inbound.issuers.home.algorithms[0]: "ES256K" is unknown; write "ES256""#,
        ),
        (
            home("token_types = []"),
            r#"a.toml:7:15: inbound.issuers.home.token_types: is empty, so that every token is refused; write one, as in ["access"]"#,
        ),
        (
            home("audiences = 'me'"),
            r#"a.toml:7:13: inbound.issuers.home.audiences: expected a list, found the string "me"; write a list, as in ["a", "b"]"#,
        ),
        (
            home("max_lifetime = '0s'"),
            r#"a.toml:7:16: inbound.issuers.home.max_lifetime: "0s" would never leave time; write a duration such as "10s""#,
        ),
        (
            home("jwks_refresh = '500ms'"),
            r#"a.toml:7:16: inbound.issuers.home.jwks_refresh: "500ms" is too short; write "1s" or more"#,
        ),
        (
            home("jwks_cooldown = 30"),
            r#"a.toml:7:17: inbound.issuers.home.jwks_cooldown: "30" has no unit; write "30s""#,
        ),
        (
            home("jwks_max_stale = '90s'"),
            r#"a.toml:7:18: inbound.issuers.home.jwks_max_stale: "90s" is over before keys are fetched again; write "5m" (jwks_refresh) or more"#,
        ),
        (
            home("jwks_refresh = '2d'"),
            r#"a.toml:7:16: inbound.issuers.home.jwks_refresh: "2d" is longer than keys may be used; write "1d" (jwks_max_stale) or less, or a longer jwks_max_stale"#,
        ),
    ]);
}

#[test]
fn mistakes_of_key_sources() {
    let west = |keys: &str| bare(&format!("issuer = 'w'\n{keys}"));
    told(&[
        (
            west("jwks_url = 'http://a.b/j'"),
            "a.toml:6:12: inbound.issuers.home.jwks_url: plain http:// would let the network put in keys of its own; write https://, or insecure_http = true beside it",
        ),
        (
            west("discovery_url = 'http://a.b/j'"),
            "a.toml:6:17: inbound.issuers.home.discovery_url: plain http:// would let the network put in keys of its own; write https://, or insecure_http = true beside it",
        ),
        (
            west("discovery_url = 'west.example.com'"),
            r#"a.toml:6:17: inbound.issuers.home.discovery_url: "west.example.com" has no scheme; write "https://" before it"#,
        ),
        (
            west("public_key = '-----BEGIN PRIVATE KEY-----'"),
            "a.toml:6:14: inbound.issuers.home.public_key: is a private key, with which tokens can be made; replace the pair, and write the public key, as `openssl pkey -pubout` prints it",
        ),
        (
            west("public_key = '/etc/regent/region.pem'"),
            "a.toml:6:14: inbound.issuers.home.public_key: is a file's name; write it as public_key_file",
        ),
        (
            west("public_key = '-----BEGIN CERTIFICATE-----'"),
            "a.toml:6:14: inbound.issuers.home.public_key: is a certificate; write its public key, as `openssl x509 -noout -pubkey` prints it",
        ),
        (
            west("public_key = '{\"kty\": \"RSA\"}'"),
            "a.toml:6:14: inbound.issuers.home.public_key: is a JWK and no PEM; write a JWK set into a file, and name that in jwks_file",
        ),
        (
            west("public_key = 'MIIB'"),
            "a.toml:6:14: inbound.issuers.home.public_key: is no PEM; write what begins with -----BEGIN PUBLIC KEY-----",
        ),
        (
            west("public_key_file = '-----BEGIN PUBLIC KEY-----'"),
            "a.toml:6:19: inbound.issuers.home.public_key_file: is a key, not a file's name; write the key into a file and name that",
        ),
    ]);
}

#[test]
fn mistakes_of_claims_and_rules() {
    let rule = |keys: &str| home(&format!("[[inbound.rules]]\npath = '/a'\n{keys}"));
    told(&[
        (
            rule("anonymous = true\nclaims = { role = 'x' }"),
            "a.toml:10:10: inbound.rules[0].claims: has no meaning where no token is needed; remove it, or anonymous = true",
        ),
        (
            rule("claim = { role = 'x' }"),
            r#"a.toml:9:1: no key "claim" in [[inbound.rules]]; write "claims""#,
        ),
        (
            rule("methods = ['get']"),
            r#"a.toml:9:12: inbound.rules[0].methods[0]: "get" is not how it is sent; write "GET""#,
        ),
        (
            rule("claims = { role = ['x', {}] }"),
            "a.toml:9:19: inbound.rules[0].claims.role: expected a string, a number, true or false, found a table; write a string, a number, true or false",
        ),
        (
            rule("claims = { role = 1979-05-27 }"),
            "a.toml:9:19: inbound.rules[0].claims.role: expected a string, a number, true or false, found the date 1979-05-27; write a string, a number, true or false",
        ),
        (
            rule("claims = { id = 18446744073709551616 }"),
            r#"a.toml:9:17: inbound.rules[0].claims.id: "18446744073709551616" is no number that can be compared exactly; write it in quotes if the claim is a string"#,
        ),
        (
            rule("claims = { id = nan }"),
            r#"a.toml:9:17: inbound.rules[0].claims.id: "nan" is no number that can be compared exactly; write it in quotes if the claim is a string"#,
        ),
        (
            rule("claims = { '' = 1 }"),
            r#"a.toml:9:12: inbound.rules[0].claims: a claim without a name; write one such as "role""#,
        ),
        (
            home("required_claims = { '/a~' = 1 }"),
            r#"a.toml:7:21: inbound.issuers.home.required_claims: "/a~" is no JSON pointer: "~" is written "~0" in one, and "/" in a name "~1""#,
        ),
        (
            home("[[inbound.rules]]\npath = 'a'"),
            r#"a.toml:8:8: inbound.rules[0].path: "a" does not begin with a slash; write "/a""#,
        ),
        (
            home("[inbound.rules]\npath = '/a'"),
            "a.toml:7:1: inbound.rules: expected a list of tables; write [[inbound.rules]] before each of them",
        ),
    ]);
}

#[test]
fn two_listeners_at_one_place_are_a_mistake() {
    let both = |outbound: &str, inbound: &str| {
        let side = format!("[inbound]\nlisten = '{inbound}'\nupstream = 'http://127.0.0.1:1'");
        format!("[outbound]\nlisten = '{outbound}'\n{side}\n{HOME}")
    };
    told(&[
        (
            both("127.0.0.1:8080", "127.0.0.1:8080"),
            r#"a.toml:4:10: inbound.listen: "127.0.0.1:8080" is outbound.listen too; write another"#,
        ),
        (
            both("127.0.0.1:8080", "[::]:8080"),
            r#"a.toml:4:10: inbound.listen: "[::]:8080" is taken by outbound.listen, "127.0.0.1:8080"; write another port"#,
        ),
        (
            both("127.0.0.1:8080", "0.0.0.0:9180"),
            r#"a.toml:4:10: inbound.listen: "0.0.0.0:9180" is taken by admin.listen, "127.0.0.1:9180"; write another port"#,
        ),
        (
            both("unix:/s", "unix:/s"),
            r#"a.toml:4:10: inbound.listen: "unix:/s" is outbound.listen too; write another"#,
        ),
    ]);
    let beside = [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:8080", "127.0.0.1:8080"),
        ("[::1]:8080", "0.0.0.0:8080"),
        ("unix:/a", "unix:/b"),
    ];
    for (outbound, inbound) in beside {
        assert_eq!(Case::toml(both(outbound, inbound)).problems(), [""; 0]);
    }
}

#[test]
fn variables_and_flags_take_whole_maps_as_json() {
    let base = || Case::toml(home(""));
    let table = [
        (
            base().env(&[("REGENT__INBOUND__IDENTITY_HEADERS__X_USER", "a")]),
            r#"variable REGENT__INBOUND__IDENTITY_HEADERS__X_USER: inbound.identity_headers is one table; write it as JSON, as in REGENT__INBOUND__IDENTITY_HEADERS={"name": "value"}"#,
        ),
        (
            base().set("inbound.issuers.home.required_claims.role=a"),
            r#"--set inbound.issuers.home.required_claims.role: inbound.issuers.home.required_claims is one table; write it as JSON, as in --set inbound.issuers.home.required_claims={"name": "value"}"#,
        ),
        (
            base().set("inbound.identity_headers=x-user"),
            r#"--set inbound.identity_headers: inbound.identity_headers: "x-user" is no JSON object; write one, as in {"name": "value"}"#,
        ),
        (
            base().set(r#"inbound.identity_headers={"x-user": 3}"#),
            r#"--set inbound.identity_headers: inbound.identity_headers.x-user: expected a string, found the number 3; write "3""#,
        ),
        (
            base().env(&[("REGENT__INBOUND__ISSUERS", "home")]),
            r#"variable REGENT__INBOUND__ISSUERS: inbound.issuers: "home" is no JSON object; write one, as in {"home": {"issuer": "iss.example.com"}}"#,
        ),
        (
            base().env(&[("REGENT__INBOUND__ISSUERS__HOME", "x")]),
            "variable REGENT__INBOUND__ISSUERS__HOME: inbound.issuers.home: expected a table, found a value; write REGENT__INBOUND__ISSUERS__HOME__ISSUER",
        ),
        (
            base().set("inbound.issuers.home.isuer=x"),
            r#"--set inbound.issuers.home.isuer: no key "isuer" in [inbound.issuers.home]; write "issuer""#,
        ),
        (
            base().set(r#"inbound.issuers.home.required_claims={"a": 1, "a": 2}"#),
            r#"--set inbound.issuers.home.required_claims: inbound.issuers.home.required_claims: "{\"a\": 1, \"a\": 2}" is no JSON object that can be read (a key stands twice at line 1 column 16); write one, as in {"name": "value"}"#,
        ),
    ];
    for (case, expected) in table {
        assert_eq!(case.problems(), [expected]);
    }
}
