//! Issuers that come from a list: taken one by one, at run time, and gone at once when they leave
//! (cases.md, E01 to E08).

use std::time::Duration;

use regent::reason::Reason;
use serde_json::{Value, json};

use crate::forge::Forge;
use crate::gate::*;
use crate::issuer::new_key;
use crate::signer::{KEYS, Signer};
use crate::world::HOME;

/// Longer than a change of a file goes unseen.
const SEEN: Duration = Duration::from_secs(6);

struct Case {
    world: World,
    setup: Setup,
    gate: Gate,
}

/// `home`, and the list.
fn case(list: &str, change: impl FnOnce(Setup) -> Setup) -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let setup = Setup::new(&world, workload.at);
    let file = setup.file("list", list);
    let setup = setup.set(&format!("inbound.federation.file={}", file.display()));
    let setup = change(setup);
    let gate = setup.start(workload.serve(say_identity));
    Case { world, setup, gate }
}

fn document(entries: &[Value]) -> String {
    json!({ "issuers": entries }).to_string()
}

fn jwks(signer: &Signer) -> Value {
    json!({ "keys": [signer.jwk()] })
}

/// An issuer whose keys stand in the list.
fn entry(name: &str, signer: &Signer) -> Value {
    json!({
        "name": name, "issuer": iss(name), "algorithms": ["ES256"], "jwks": jwks(signer),
    })
}

fn iss(name: &str) -> String {
    format!("https://{name}.example")
}

/// With this in place of what it says.
fn but(mut entry: Value, key: &str, value: impl Into<Value>) -> Value {
    entry[key] = value.into();
    entry
}

impl Case {
    fn forge(&self, name: &str, signer: &'static Signer) -> Forge {
        let forge = Forge::home(self.world.clock.unix()).header("alg", "ES256");
        forge.claim("iss", iss(name)).by(signer)
    }

    fn with(&self, name: &str, signer: &'static Signer) -> String {
        get(
            "/",
            &[("Authorization", &bearer(&self.forge(name, signer).token()))],
        )
    }

    async fn list(&self, document: &str) {
        self.setup.file("list", document);
        tokio::time::sleep(SEEN).await;
    }

    async fn degraded(&self) -> Vec<String> {
        let (status, said) = self.gate.probe("/readyz").await;
        assert_eq!(status, 200);
        let lines = said["degraded"].as_array().expect("a list").iter();
        lines
            .map(|line| line.as_str().expect("a line").to_owned())
            .collect()
    }

    async fn quarantined(&self) -> String {
        let metrics = self.gate.admin("/metrics").await.text();
        let mut lines = metrics
            .lines()
            .filter(|line| line.starts_with("regent_federation_quarantined "));
        lines
            .next()
            .expect("a line")
            .rsplit_once(' ')
            .expect("a number")
            .1
            .to_owned()
    }
}

#[test]
fn a_list_grows_to_a_thousand_issuers_of_which_ten_are_broken() {
    paused(async {
        let key = new_key();
        let case = case(&document(&[entry("i0", key)]), |setup| setup);
        case.gate.passes(case.with("i0", key)).await;
        case.gate
            .refuses(case.with("i1", key), Reason::UnknownIssuer)
            .await;
        assert_eq!(case.quarantined().await, "0");

        let private = "-----BEGIN PRIVATE KEY-----\ncanary\n";
        let mut entries: Vec<Value> = (0..1000).map(|at| entry(&format!("i{at}"), key)).collect();
        let broken = [
            (100, json!("i100")),
            (200, but(entry("i200", key), "leeway", "1h")),
            (300, but(entry("i300", key), "jwks", json!({ "keys": [] }))),
            (400, but(entry("i400", key), "name", "home")),
            (500, but(entry("i500", key), "issuer", HOME)),
            (600, but(entry("i600", key), "name", "i1")),
            (700, but(entry("i700", key), "issuer", iss("i1"))),
            (800, but(entry("i800", key), "algorithms", json!(["HS256"]))),
            (
                900,
                but(entry("i900", key), "public_key_file", "/etc/passwd"),
            ),
            (
                999,
                json!({ "name": "i999", "issuer": iss("i999"), "public_key": private }),
            ),
        ];
        for (at, entry) in &broken {
            entries[*at] = entry.clone();
        }
        case.list(&document(&entries)).await;
        for at in 0..1000 {
            let name = format!("i{at}");
            let request = case.with(&name, key);
            if broken.iter().any(|(broken, _)| *broken == at) {
                case.gate.refuses(request, Reason::UnknownIssuer).await;
            } else {
                let seen = case.gate.passes(request).await.head;
                assert_eq!(seen.get("x-regent-user"), Some(&*format!("{name}:alice")));
                assert_eq!(seen.get("x-regent-issuer"), Some(&*name));
            }
        }
        assert_eq!(case.quarantined().await, "10");
        let degraded = case.degraded().await;
        let faults = [
            "issuers[100]: expected a table",
            "issuers[200] \"i200\": \"leeway\": only the config may set it",
            "issuers[300] \"i300\": jwks: there is no key in the JWK set",
            "issuers[400] \"home\": name: home is the config's own",
            "issuers[500] \"i500\": issuer: it is the config's already",
            "issuers[600] \"i1\": name: it is an earlier entry's already",
            "issuers[700] \"i700\": issuer: it is an earlier entry's already",
            "issuers[800] \"i800\": algorithms[0]: \"HS256\" is never allowed",
            "issuers[900] \"i900\": \"public_key_file\": a list names no file",
            "issuers[999] \"i999\": public_key: is a private key",
        ];
        assert_eq!(degraded.len(), faults.len(), "{degraded:#?}");
        for (line, fault) in degraded.iter().zip(faults) {
            let whole = format!("inbound.federation: left out: {fault}");
            assert!(line.starts_with(&whole), "{line}\n{whole}");
            assert!(!line.contains("canary"), "{line}");
        }
        let home = get(
            "/",
            &[("Authorization", &bearer(&token_of(&case.world, "alice")))],
        );
        assert_eq!(identity(&case.gate.passes(home).await.head), alice());
    });
}

#[test]
fn an_issuer_that_leaves_the_list_is_refused_at_once_though_its_verdict_is_known() {
    paused(async {
        let key = new_key();
        let both = document(&[entry("west", key), entry("east", key)]);
        let case = case(&both, |setup| setup);
        let (west, east) = (case.with("west", key), case.with("east", key));
        let mut caller = case.gate.caller().await;
        for request in [&west, &east, &west] {
            assert_eq!(caller.ask(request).await.status, 200);
        }
        case.list(&document(&[entry("east", key)])).await;
        assert_eq!(caller.ask(&west).await.reason(), "unknown_issuer");
        case.gate.refuses(&west, Reason::UnknownIssuer).await;
        // In the place of the one that left, with the same key, and nobody else.
        let seen = case.gate.passes(&east).await.head;
        assert_eq!(seen.get("x-regent-issuer"), Some("east"));
        case.list(&both).await;
        case.gate.passes(&west).await;
        case.list(&document(&[])).await;
        for request in [&west, &east] {
            case.gate.refuses(request, Reason::UnknownIssuer).await;
        }
    });
}

#[test]
fn another_key_in_the_list_ends_what_the_old_one_signed() {
    paused(async {
        let (old, new) = (new_key(), new_key());
        let case = case(&document(&[entry("west", old)]), |setup| setup);
        let before = case.with("west", old);
        case.gate.passes(&before).await;
        case.list(&document(&[entry("west", new)])).await;
        case.gate.refuses(&before, Reason::BadSignature).await;
        case.gate.passes(case.with("west", new)).await;
        let narrow = but(entry("west", new), "audiences", json!(["me"]));
        case.list(&document(&[narrow])).await;
        case.gate
            .refuses(case.with("west", new), Reason::MissingClaim)
            .await;
    });
}

#[test]
fn what_is_no_list_leaves_the_last_good_one_in_force() {
    paused(async {
        let key = new_key();
        let case = case(&document(&[entry("west", key)]), |setup| setup);
        let west = case.with("west", key);
        for broken in [
            "",
            "{",
            "[]",
            "{\"issuers\":[]",
            "{\"issuers\":[],\"more\":1}",
            "<html>",
        ] {
            case.list(broken).await;
            case.gate.passes(&west).await;
            let degraded = case.degraded().await;
            assert_eq!(degraded.len(), 1, "{broken}: {degraded:?}");
            assert!(
                degraded[0].ends_with("; the last good list stays in use"),
                "{degraded:?}"
            );
        }
        case.list(&document(&[entry("west", key)])).await;
        assert!(case.degraded().await.is_empty());
    });
}

#[test]
fn nobody_of_a_list_takes_the_place_of_an_issuer_in_the_config() {
    paused(async {
        let key = new_key();
        let shadows = [
            but(entry("home", key), "issuer", iss("home")),
            but(entry("Home", key), "issuer", iss("Home")),
            but(entry("other", key), "issuer", HOME),
        ];
        let case = case(&document(&shadows), |setup| setup);
        let now = case.world.clock.unix();
        let forged = Forge::home(now).header("alg", "ES256").by(key);
        let forged = get("/", &[("Authorization", &bearer(&forged.token()))]);
        case.gate.refuses(forged, Reason::AlgorithmNotAllowed).await;
        for name in ["home", "Home"] {
            case.gate
                .refuses(case.with(name, key), Reason::UnknownIssuer)
                .await;
        }
        assert_eq!(case.quarantined().await, "3");
        // A reload that gives the config an issuer of the list takes it from there.
        case.list(&document(&[entry("west", key)])).await;
        case.gate.passes(case.with("west", key)).await;
        let pem = new_key();
        let keys = format!(
            "issuer = '{}'\nalgorithms = ['ES256']\njwks_file = '{}'",
            iss("west"),
            case.setup
                .file("west.json", &jwks(pem).to_string())
                .display()
        );
        case.gate
            .reload(&case.setup.clone().issuer("mine", keys))
            .await;
        case.gate
            .refuses(case.with("west", key), Reason::BadSignature)
            .await;
        let seen = case.gate.passes(case.with("west", pem)).await.head;
        assert_eq!(seen.get("x-regent-issuer"), Some("mine"));
        assert_eq!(case.quarantined().await, "1");
        case.gate.reload(&case.setup).await;
        let seen = case.gate.passes(case.with("west", key)).await.head;
        assert_eq!(seen.get("x-regent-issuer"), Some("west"));
    });
}

#[test]
fn a_user_of_home_is_not_called_as_if_of_a_listed_issuer() {
    paused(async {
        let case = case(&document(&[entry("west", new_key())]), |setup| setup);
        let poses = |name: &str| {
            get(
                "/",
                &[("Authorization", &bearer(&token_of(&case.world, name)))],
            )
        };
        case.gate
            .refuses(poses("WEST:bob"), Reason::UnsafeClaim)
            .await;
        // One that is not in the list may have been, or will be: the workload knows its users.
        case.gate
            .refuses(poses("east:bob"), Reason::UnsafeClaim)
            .await;
        case.list(&document(&[])).await;
        case.gate
            .refuses(poses("west:bob"), Reason::UnsafeClaim)
            .await;
        // What no issuer can be called says nothing of one.
        for name in ["a+b:bob", ":bob", "bob"] {
            case.gate.passes(poses(name)).await;
        }
    });
}

#[test]
fn keys_that_a_list_leads_to_are_fetched_and_kept_over_a_change_of_the_list() {
    paused(async {
        let key = new_key();
        let west = crate::issuer::Issuer::with(&[("k", key)]);
        let url = |name: &str| {
            json!({
                "name": name, "issuer": iss(name), "algorithms": ["ES256"],
                "jwks_url": format!("https://{name}.example/jwks"),
            })
        };
        let service = west.service();
        let case = case(&document(&[url("west")]), |setup| setup.fetch(service));
        tokio::time::sleep(Duration::from_secs(1)).await;
        case.gate.passes(case.with("west", key)).await;
        assert_eq!(west.calls(), 1);
        case.list(&document(&[url("east"), url("west")])).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for name in ["east", "west"] {
            case.gate.passes(case.with(name, key)).await;
        }
        assert_eq!(west.calls(), 2, "the one that was there is not asked again");
    });
}

#[test]
fn a_list_that_is_not_there_at_the_start_is_a_mistake_and_so_is_one_that_is_none() {
    let world = World::pipes();
    let setup = Setup::new(&world, world.address());
    let set = |name: &str| {
        format!(
            "inbound.federation.file={}",
            setup.file(name, "?").with_file_name(name).display()
        )
    };
    let broken = setup.clone().set(&set("broken")).problem();
    assert!(
        broken.contains("inbound.federation.file: ") && broken.contains("not TOML"),
        "{broken}"
    );
    let missing = set("broken").replace("broken", "missing");
    let missing = setup.clone().set(&missing).problem();
    assert!(
        missing.contains("inbound.federation.file: cannot read"),
        "{missing}"
    );
}

#[test]
fn until_a_list_has_been_read_an_unknown_issuer_is_not_called_unknown() {
    paused(async {
        let key = new_key();
        let lists = crate::issuer::Issuer::with(&[]);
        lists.down(true);
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at)
            .set("inbound.federation.url=https://lists.example/l")
            .set("inbound.federation.refresh=10s")
            .fetch(lists.service());
        let gate = setup.start(workload.serve(say_identity));
        let case = Case { world, setup, gate };
        let west = case.with("west", key);
        let answer = case
            .gate
            .refuses(&west, Reason::IssuerKeysUnavailable)
            .await;
        assert!(answer.head.has("retry-after"), "{answer:?}");
        let home = get(
            "/",
            &[("Authorization", &bearer(&token_of(&case.world, "alice")))],
        );
        case.gate.passes(&home).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let degraded = case.degraded().await;
        assert!(
            degraded[0].ends_with("there is no list until then"),
            "{degraded:?}"
        );
        assert_eq!(case.gate.probe("/startupz").await.0, 200);
        lists.say(document(&[entry("west", key)]));
        lists.down(false);
        tokio::time::sleep(Duration::from_secs(121)).await;
        case.gate.passes(&west).await;
        case.gate
            .refuses(case.with("east", key), Reason::UnknownIssuer)
            .await;
        // It goes away, and is kept for ever.
        lists.down(true);
        tokio::time::sleep(Duration::from_secs(2_000)).await;
        case.gate.passes(case.with("west", key)).await;
    });
}

#[test]
fn a_list_from_elsewhere_leads_to_no_address_on_this_machine() {
    paused(async {
        let entries: Vec<Value> = ["http://127.0.0.1:9/", "https://[::1]/", "https://localhost/", "https://west.example/"]
            .iter()
            .enumerate()
            .map(|(at, url)| json!({ "name": format!("i{at}"), "issuer": iss(&format!("i{at}")), "jwks_url": url }))
            .collect();
        let lists = crate::issuer::Issuer::with(&[]);
        lists.say(document(&entries));
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at)
            .set("inbound.federation.url=https://lists.example/l")
            .fetch(lists.service());
        let gate = setup.start(workload.serve(say_identity));
        let case = Case { world, setup, gate };
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(case.quarantined().await, "3");
        let degraded = case.degraded().await;
        assert!(
            degraded[0].contains("jwks_url: is on this machine"),
            "{degraded:?}"
        );
        assert!(lists.public_only("https://west.example/"));
        assert!(!lists.public_only("https://lists.example/l"));
    });
}

/// As `config/federation-list.toml` shows how to make a signature.
fn sign(folder: &std::path::Path, key: &str) {
    let example = include_str!("../../config/federation-list.toml");
    let lines = example.lines().filter_map(|line| line.strip_prefix("#   "));
    let script: Vec<&str> = lines
        .skip_while(|line| !line.starts_with("b64()"))
        .collect();
    assert_eq!(script.len(), 4, "{script:?}");
    std::fs::write(folder.join("region.key"), key).expect("a file");
    let mut shell = std::process::Command::new("sh");
    let done = shell
        .args(["-euc", &script.join("\n")])
        .current_dir(folder)
        .output();
    let done = done.expect("a shell");
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_list_is_signed_as_the_example_shows() {
    paused(async {
        let key = new_key();
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let pem = setup.file("home.pem", &pair.public_key_pem());
        let list = setup.file("issuers.json", &document(&[entry("west", key)]));
        let folder = list.parent().expect("a folder");
        sign(folder, &pair.serialize_pem());
        assert!(pem.starts_with(folder));
        let set = format!("inbound.federation.file={}", list.display());
        let setup = setup.set(&set).set("inbound.federation.signed=true");
        let gate = setup.start(workload.serve(say_identity));
        let case = Case { world, setup, gate };
        tokio::time::sleep(SEEN).await;
        assert!(case.degraded().await.is_empty());
        case.gate.passes(case.with("west", key)).await;
        // The signature is over these bytes and no others.
        case.setup.file(
            "issuers.json",
            &document(&[entry("west", key), entry("east", key)]),
        );
        tokio::time::sleep(SEEN).await;
        case.gate
            .refuses(case.with("east", key), Reason::UnknownIssuer)
            .await;
        let degraded = case.degraded().await;
        assert!(degraded[0].contains("by none of the keys"), "{degraded:?}");
        sign(folder, &pair.serialize_pem());
        tokio::time::sleep(SEEN).await;
        case.gate.passes(case.with("east", key)).await;
        // The keys that count are those that home has now, after the list has changed too.
        let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("a key");
        case.setup.file("home.pem", &other.public_key_pem());
        tokio::time::sleep(SEEN).await;
        let north = document(&[entry("north", key)]);
        case.setup.file("issuers.json", &north);
        sign(folder, &pair.serialize_pem());
        tokio::time::sleep(SEEN).await;
        case.gate
            .refuses(case.with("north", key), Reason::UnknownIssuer)
            .await;
        sign(folder, &other.serialize_pem());
        tokio::time::sleep(SEEN).await;
        case.gate.passes(case.with("north", key)).await;
    });
}

/// The issuers of a list wait for each other, or a long list would be a flood of calls.
#[test]
fn a_long_list_is_not_as_many_calls_at_once() {
    paused(async {
        let key = new_key();
        let each = |at: usize| {
            let name = format!("i{at}");
            let url = format!("https://{name}.example/jwks");
            json!({ "name": name, "issuer": iss(&name), "algorithms": ["ES256"], "jwks_url": url })
        };
        let entries: Vec<Value> = (0..200).map(each).collect();
        let issuers = crate::issuer::Issuer::with(&[("k", key)]);
        issuers.slow(Duration::from_secs(1));
        let service = issuers.service();
        let case = case(&document(&entries), |setup| setup.fetch(service));
        tokio::time::sleep(Duration::from_millis(500)).await;
        let first = issuers.calls();
        assert!((1..=32).contains(&first), "{first}");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(issuers.calls(), 200);
        case.gate.passes(case.with("i199", key)).await;
    });
}

#[test]
fn the_signature_of_a_list_is_no_token_and_a_token_is_no_signature() {
    paused(async {
        let key = new_key();
        let list = document(&[entry("west", key)]);
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let setup = Setup::new(&world, workload.at);
        let now = world.clock.unix();
        // Whatever signs tokens was made to sign the list.
        let token = Forge::home(now).raw_payload(&list).token();
        let file = setup.file("list", &list);
        let detached = |token: &str| {
            let parts: Vec<&str> = token.split('.').collect();
            format!("{}..{}", parts[0], parts[2])
        };
        setup.file("list.sig", &detached(&token));
        let set = format!("inbound.federation.file={}", file.display());
        let setup = setup.set(&set).set("inbound.federation.signed=true");
        let gate = setup.start(workload.serve(say_identity));
        let case = Case { world, setup, gate };
        tokio::time::sleep(SEEN).await;
        let degraded = case.degraded().await;
        assert!(degraded[0].contains("typ is not"), "{degraded:?}");
        // Until it has been read once, the list is not known.
        case.gate
            .refuses(case.with("west", key), Reason::IssuerKeysUnavailable)
            .await;
        let typ = "regent-federation+jws";
        let claims = Forge::home(now).header("typ", typ).by(&KEYS.rsa);
        let as_token = get("/", &[("Authorization", &bearer(&claims.token()))]);
        case.gate.refuses(as_token, Reason::WrongTokenType).await;
        let good = Forge::home(now)
            .header("typ", typ)
            .raw_payload(&list)
            .token();
        case.setup.file("list.sig", &detached(&good));
        tokio::time::sleep(SEEN).await;
        case.gate.passes(case.with("west", key)).await;
    });
}
