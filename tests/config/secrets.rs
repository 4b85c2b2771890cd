//! What `check` prints, and that no secret is in it.

use regent::config::load::load;
use regent::config::schema::KEYS;

use crate::Case;
use crate::inbound::{bare, home};

const CANARY: &str = "canary";

/// What people have at hand where a key is asked for.
const PASTED: [&str; 4] = [
    "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n",
    "-----BEGIN RSA PRIVATE KEY-----canary",
    "{\"kty\": \"RSA\", \"d\": \"canary\"}",
    "eyJhbGciOiJSUzI1NiJ9.canary.canary",
];

/// The secret in every place of `[inbound]` where somebody may think that it belongs.
fn pasted(secret: &str) -> Vec<Case> {
    let base = bare("issuer = 'i'");
    let set = |path: &str, value: &str| Case::toml(&base).set(&format!("{path}={value}"));
    let json = serde_json::to_string(secret).expect("JSON");
    let line = |line: String| Case::toml(format!("{base}{line}\n"));
    vec![
        set("inbound.issuers.home.public_key", secret),
        set("inbound.issuers.home.public_key_file", secret),
        set("inbound.issuers.home.jwks_file", secret),
        line(format!("public_key = {json}")),
        line(format!("public_key = [{json}]")),
        line(format!("public_key.pem = {json}")),
        line(format!("jwks_file = {json}")),
        line(format!("private_key = {json}")),
        line(format!("key = {json}")),
    ]
}

/// The same where only keys and tokens are known for what they are.
fn pasted_elsewhere(secret: &str) -> Vec<Case> {
    let base = bare("issuer = 'i'\njwks_file = '/j'");
    let set = |path: &str, value: &str| Case::toml(&base).set(&format!("{path}={value}"));
    let json = serde_json::to_string(secret).expect("JSON");
    vec![
        set("inbound.issuers.home.jwks_url", secret),
        set("inbound.issuers.home.discovery_url", secret),
        set("inbound.issuers.home.leeway", secret),
        set("inbound.issuers.home.algorithms", &format!("[{json}]")),
        set("inbound.identity_headers", secret),
        set("inbound.upstream", secret),
        set("inbound.listen", secret),
        set("inbound.ca_file", secret),
        set("inbound.authorization", secret),
        set("inbound.rules", &format!("[{{\"path\": {json}}}]")),
        set(
            "inbound.identity_headers",
            &format!("{{{json}: \"a\", \"\": 1}}"),
        ),
        Case::toml(format!("{base}{json} = 1\n")),
        Case::toml(format!("{base}[inbound.issuers.{json}]\n")),
    ]
}

/// The password of a proxy, where it may stand, where it may not, and with slips on the way.
fn proxies() -> Vec<Case> {
    let urls = [
        "http://alice:canary@p:1",
        "http://canary@p:1",
        "http://alice:ca/canary@p:1",
        "http://alice:ca#canary@p:1",
        "http://alice:ca?canary@p:1",
        "http://alice:canary@p:99999",
        "http://alice:canary@p:1/x",
        "http://alice:canary p@p:1",
        "http://alice:canary%FF@p:1",
        "http://alice:canary%0A@p:1",
        "https://alice:canary@p:1",
        "alice:canary@p:1",
    ];
    let text = home("[inbound.revocations]\nurl = 'https://a.b/'");
    let mut cases = vec![
        Case::toml("[region]\nproxy = 'http://alice:canary@p:1"),
        Case::toml("[region]\nproxy = ['http://alice:canary@p:1']"),
        Case::toml("[region]\nproxy.url = 'http://alice:canary@p:1'"),
        Case::toml("[region]\nproxi = 'http://alice:canary@p:1'"),
        Case::yaml("region:\n  proxy: !x http://alice:canary@p:1"),
    ];
    for url in urls {
        let json = serde_json::to_string(url).expect("JSON");
        cases.extend([
            Case::toml(format!("[region]\nproxy = {json}")),
            Case::yaml(format!("outbound:\n  proxy: {json}")),
            Case::new().env(&[("REGENT__REGION__PROXY", url)]),
            Case::toml(text.replace("issuer = ", &format!("proxy = {json}\nissuer = "))),
            Case::toml(format!("{text}\nproxy = {json}")),
            Case::toml(&text).set(&format!("inbound.revocations.proxy={url}")),
        ]);
    }
    cases
}

#[test]
fn no_secret_is_ever_shown() {
    let cases = [
        Case::new().env(&[("PRT_TOKEN", CANARY)]),
        Case::toml("[region.credential]\nrefresh_token_env = 'T'").env(&[("T", CANARY)]),
        Case::toml("[region.credential]\nrefresh_token = 'canary'"),
        Case::toml("[region.credential]\npassword = 'canary'"),
        Case::toml("[region.credential]\npassword = canary"),
        Case::toml("[region.credential]\npassword_file = 'canary"),
        Case::toml("[region.credential]\nemail = 'canary'"),
        Case::toml("[region.credential]\nrefresh_token_env = 'canary-token'"),
        Case::toml("[region.credential]\nrefresh_token_file = 'eyJh.canary.x'"),
        Case::toml("[region.credential]\npassword_file = '~canary'"),
        Case::yaml("region:\n  credential:\n    password_file: !canary x"),
        Case::yaml("region:\n  credential:\n    password: \"canary"),
        Case::yaml("region:\n  credential:\n    password_file: [canary]"),
        Case::toml("[region]\nurl = 'https://alice:canary@a.b'"),
        Case::toml("[region]\nurl = 'https://a.b/?token=canary'"),
        Case::toml("[region]\nurl = 'alice:canary@a.b'"),
        Case::toml("[outbound]\nhosts = ['alice:canary@a.b']"),
        Case::toml("[outbound]\nallow_origins = ['https://alice:canary@a.b']"),
        Case::new().env(&[("REGENT__REGION__CREDENTIAL__TOKEN", CANARY)]),
        Case::new().set("region.credential.password=canary"),
        Case::new().set("region.credential.password canary"),
    ];
    let cases = cases.into_iter().chain(proxies());
    let cases = cases
        .into_iter()
        .chain(PASTED.iter().flat_map(|secret| pasted(secret)));
    let [pem, rsa, _, token] = PASTED;
    let cases = cases.chain([pem, rsa, token].into_iter().flat_map(pasted_elsewhere));
    for case in cases {
        let text = match load(&case.sources) {
            Ok(loaded) => format!("{loaded:?}{}{:?}", loaded.render(), case.sources),
            Err(problems) => format!("{problems:?}{:?}", case.sources.env),
        };
        assert!(!text.contains(CANARY), "{text}");
    }
    // A number is as secret as a word.
    let problems = Case::yaml("region:\n  credential:\n    password_file: 123456").problems();
    assert!(
        problems[0].contains("not shown") && !problems[0].contains("123456"),
        "{problems:?}"
    );
}

#[test]
fn check_says_whether_the_variable_is_set() {
    let render = |case: Case| case.load().render();
    assert!(render(Case::new()).contains("\"PRT_TOKEN\"  (implicit, not set)"));
    assert!(
        render(Case::new().env(&[("PRT_TOKEN", "t")])).contains("\"PRT_TOKEN\"  (implicit, set)")
    );
}

#[test]
fn check_prints_every_key_of_the_sides_that_run() {
    let render = Case::new().load().render();
    for key in KEYS.iter().filter(|key| !key.path.starts_with("inbound.")) {
        let line = render
            .lines()
            .filter(|line| line.starts_with(&format!("{} ", key.path)));
        assert_eq!(line.count(), 1, "{}", key.path);
    }
    assert!(render.lines().all(|line| line.ends_with("  default")));
}
