//! Lists that change, break, hang and go away, on paused time.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header;
use tokio::task::JoinSet;

use super::*;
use crate::fetch::fake::{Fake, response};
use crate::files::{OsFiles, beside};
use crate::jwt::algorithm::Algorithm;
use crate::jwt::key_set::KeySet;
use crate::jwt::keys::{self, Source};

const SECOND: Duration = Duration::from_secs(1);
const AT: &str = "https://lists.example/l.json";

/// Words with spaces between them; a question mark makes it none.
fn words(document: &[u8]) -> Result<Vec<String>, String> {
    let text = String::from_utf8_lossy(document);
    match text.contains('?') {
        true => Err("it has a question mark".to_owned()),
        false => Ok(text.split_whitespace().map(str::to_owned).collect()),
    }
}

type Words = Vec<String>;

/// A list that is read again; that ends with the value.
struct Case {
    handle: Handle<Words>,
    clock: Clock,
    _running: JoinSet<()>,
}

fn deps(clock: &Clock) -> Deps {
    Deps {
        clock: clock.clone(),
        files: Arc::new(OsFiles),
        dice: fastrand::Rng::with_seed(7),
    }
}

fn at_url(service: fetch::Service) -> Settings {
    Settings {
        table: "inbound.test",
        place: Place::Url(AT.parse().expect("a URL")),
        refresh: Duration::from_secs(300),
        fetch: Some(service),
        signer: None,
    }
}

fn at_file(path: &Path) -> Settings {
    Settings {
        place: Place::File(path.to_owned()),
        fetch: None,
        ..at_url(Fake::new().1)
    }
}

impl Case {
    fn after(settings: Settings, before: Option<&Case>) -> Result<Case, String> {
        let clock = match before {
            Some(before) => before.clock.clone(),
            None => Clock::manual(1_760_000_000),
        };
        let before = before.map(|before| &before.handle);
        let (handle, task) = new(settings, words, deps(&clock), before)?;
        let mut running = JoinSet::new();
        running.spawn(task.run());
        Ok(Case {
            handle,
            clock,
            _running: running,
        })
    }

    fn start(settings: Settings) -> Case {
        Case::after(settings, None).expect("a good start")
    }

    /// What holds now, and whether something is wrong.
    fn says(&self) -> (Option<String>, u64, Option<String>) {
        let state = self.handle.state();
        let list = state.list.as_ref().map(|list| list.join(" "));
        (list, state.epoch, state.trouble.clone())
    }

    fn holds(&self, list: &str, epoch: u64) {
        assert_eq!(self.says(), (Some(list.to_owned()), epoch, None));
    }

    fn keeps(&self, list: &str, epoch: u64, trouble: &str) {
        let (held, at, told) = self.says();
        assert_eq!((held.as_deref(), at), (Some(list), epoch));
        assert!(
            told.as_ref().is_some_and(|told| told.contains(trouble)),
            "{told:?}"
        );
    }
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_is_read_again_and_a_broken_one_costs_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("l");
    let write = |text: &str| std::fs::write(&path, text).expect("written");
    write("a b");
    let case = Case::start(at_file(&path));
    case.holds("a b", 1);
    write("a b c");
    pass(6 * SECOND).await;
    case.holds("a b c", 2);
    pass(60 * SECOND).await;
    case.holds("a b c", 2);
    write("?");
    pass(6 * SECOND).await;
    case.keeps("a b c", 2, "it has a question mark");
    std::fs::remove_file(&path).expect("removed");
    pass(6 * SECOND).await;
    case.keeps("a b c", 2, "cannot read");
    write(&"x".repeat(BODY_LIMIT + 1));
    pass(6 * SECOND).await;
    case.keeps("a b c", 2, "too large");
    // What it says again is no new list.
    write("a b c");
    pass(6 * SECOND).await;
    case.holds("a b c", 2);
    write("");
    pass(6 * SECOND).await;
    case.holds("", 3);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_woken_by_a_file_that_does_not_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("l");
    std::fs::write(&path, "a").expect("written");
    let case = Case::start(at_file(&path));
    pass(6 * SECOND).await;
    let mut watch = case.handle.watch();
    watch.mark_unchanged();
    pass(600 * SECOND).await;
    assert!(!watch.has_changed().expect("it runs"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_there_at_the_start_is_a_mistake() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("l");
    let why = Case::after(at_file(&path), None).err().expect("a mistake");
    assert!(why.contains("cannot read"), "{why}");
    std::fs::write(&path, "?").expect("written");
    let why = Case::after(at_file(&path), None).err().expect("a mistake");
    assert!(why.ends_with("/l\": it has a question mark"), "{why}");
    // Where one was read there before, it is not.
    std::fs::write(&path, "a").expect("written");
    let before = Case::start(at_file(&path));
    std::fs::write(&path, "?").expect("written");
    let after = Case::after(at_file(&path), Some(&before)).expect("it goes on");
    after.holds("a", 1);
    pass(6 * SECOND).await;
    after.keeps("a", 1, "question");
}

#[tokio::test(start_paused = true)]
async fn a_url_is_fetched_with_its_etag_within_the_refresh() {
    let (fake, service) = Fake::new();
    fake.answer(Ok(response(200, &[("etag", "\"one\"")], "a b")));
    let case = Case::start(at_url(service));
    assert_eq!(case.says().0, None);
    pass(SECOND).await;
    case.holds("a b", 1);
    for answer in [
        response(304, &[], ""),
        response(304, &[], ""),
        response(200, &[("etag", "\"two\"")], "a"),
    ] {
        let before = fake.calls().len();
        fake.answer(Ok(answer));
        pass(149 * SECOND).await;
        assert_eq!(fake.calls().len(), before);
        while fake.calls().len() == before {
            pass(SECOND).await;
        }
        pass(SECOND).await;
        assert_eq!(case.says().2, None);
        assert!(case.clock.boot() <= case.handle.state().next_attempt_at);
    }
    case.holds("a", 2);
    let etags: Vec<_> = (fake.calls().iter())
        .map(|call| call.headers.get(header::IF_NONE_MATCH).cloned())
        .collect();
    let one = Some(HeaderValue::from_static("\"one\""));
    assert_eq!(etags, [None, one.clone(), one.clone(), one]);
}

#[tokio::test(start_paused = true)]
async fn no_answer_that_is_no_list_takes_a_good_one_away() {
    let (fake, service) = Fake::new();
    fake.answer(Ok(response(200, &[], "a")));
    let case = Case::start(at_url(service));
    let html = [("content-type", "text/html; charset=utf-8")];
    let faults = [
        (
            Ok(response(200, &[], "?")),
            "https://lists.example/l.json: it has a question mark",
        ),
        (Ok(response(200, &html, "a")), "it is a web page"),
        (
            Ok(response(304, &[], "")),
            "nothing was said to be known already",
        ),
        (
            Ok(response(
                302,
                &[("location", "https://evil.example/l")],
                "b",
            )),
            "a redirect to https://evil.example, which is not followed",
        ),
        (Ok(response(403, &[], "b")), "answered 403"),
        (Ok(response(404, &[], "b")), "is the address right?"),
        (Ok(response(500, &[], "b")), "in trouble"),
        (Ok(response(206, &[], "b")), "where 200 is expected"),
        (Err(fetch::Error::Timeout), "no whole answer in time"),
        (
            Err(fetch::Error::TooLarge(BODY_LIMIT)),
            "longer than 1024 KiB",
        ),
    ];
    for (attempts, (answer, trouble)) in (2..).zip(faults) {
        fake.answer(answer);
        let mut watch = case.handle.watch();
        let done = watch.wait_for(|state| state.attempts >= attempts).await;
        drop(done.expect("it runs"));
        case.keeps("a", 1, trouble);
    }
    fake.answer(Ok(response(200, &[], "a")));
    pass(121 * SECOND).await;
    case.holds("a", 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_cannot_be_fetched_is_asked_for_with_growing_pauses() {
    let (fake, service) = Fake::new();
    for _ in 0..1000 {
        fake.answer(Err(fetch::Error::Connect("refused".to_owned())));
    }
    let case = Case::start(at_url(service));
    pass(3600 * SECOND).await;
    let calls = fake.calls().len();
    assert!((30..120).contains(&calls), "{calls} in an hour");
    assert_eq!(case.says().0, None);
}

#[tokio::test(start_paused = true)]
async fn a_reload_goes_on_with_what_was_read() {
    let (fake, service) = Fake::new();
    fake.answer(Ok(response(200, &[("etag", "\"one\"")], "a")));
    let before = Case::start(at_url(service.clone()));
    pass(SECOND).await;
    let quicker = Settings {
        refresh: 10 * SECOND,
        ..at_url(service.clone())
    };
    let after = Case::after(quicker, Some(&before)).expect("it goes on");
    drop(before);
    after.holds("a", 1);
    fake.answer(Ok(response(304, &[], "")));
    pass(9 * SECOND).await;
    assert_eq!(fake.calls().len(), 1, "and no sooner for the reload");
    pass(2 * SECOND).await;
    assert_eq!(fake.calls().len(), 2);
    after.holds("a", 1);
    // From another place comes another list; until then this one holds.
    let elsewhere = Settings {
        place: Place::Url("https://other.example/".parse().expect("a URL")),
        ..at_url(service)
    };
    let moved = Case::after(elsewhere, Some(&after)).expect("it goes on");
    drop(after);
    moved.keeps("a", 1, "not been read yet");
    fake.answer(Ok(response(200, &[], "b")));
    pass(SECOND).await;
    moved.holds("b", 2);
    assert!(!fake.calls()[2].headers.contains_key(header::IF_NONE_MATCH));
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_last_reader() {
    let (fake, service) = Fake::new();
    fake.answer(Ok(response(200, &[], "a")));
    let (handle, task) = new(at_url(service), words, deps(&Clock::manual(0)), None).expect("good");
    let mut running = JoinSet::new();
    running.spawn(task.run());
    pass(SECOND).await;
    drop(handle);
    running.join_next().await.expect("one").expect("no panic");
}

/// Who signs lists.
struct Home {
    pair: EcdsaKeyPair,
    signer: Signer,
}

impl Home {
    fn new(clock: &Clock) -> Home {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let home = Home {
            pair,
            signer: Signer::default(),
        };
        home.publish(clock);
        home
    }

    fn publish(&self, clock: &Clock) {
        let point = self.pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwks = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{}","y":"{}"}}]}}"#,
            part(&point[1..33]),
            part(&point[33..])
        );
        let set = KeySet::from_jwks(jwks.as_bytes()).expect("a set");
        let settings = keys::Settings {
            name: "home".to_owned(),
            issuer: "iss".to_owned(),
            source: Source::Fixed(Arc::new(set)),
            refresh: SECOND,
            cooldown: SECOND,
            max_stale: SECOND,
            insecure_http: false,
            fetch: None,
            public_only: false,
            lane: None,
        };
        let deps = keys::Deps {
            clock: clock.clone(),
            files: Arc::new(OsFiles),
            dice: fastrand::Rng::with_seed(1),
        };
        let (handle, _) = keys::new(vec![settings], deps, None);
        let algorithms = [Algorithm::named("ES256").expect("known")]
            .into_iter()
            .collect();
        self.signer.set(algorithms, handle, 0);
    }

    /// A compact JWS.
    fn sign(&self, header: &str, document: &str) -> [String; 3] {
        let (header, document) = (
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(document),
        );
        let input = format!("{header}.{document}");
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.expect("a signature"));
        [header, document, signature]
    }

    fn detached(&self, header: &str, document: &str) -> String {
        let [header, _, signature] = self.sign(header, document);
        format!("{header}..{signature}")
    }
}

const HEADER: &str = r#"{"alg":"ES256","typ":"regent-federation+jws"}"#;

#[tokio::test(start_paused = true)]
async fn a_signed_list_is_taken_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("l");
    let clock = Clock::manual(1_760_000_000);
    let (home, other) = (Home::new(&clock), Home::new(&clock));
    let good = home.detached(HEADER, "a");
    std::fs::write(&path, "a").expect("written");
    let signed = Settings {
        signer: Some(home.signer.clone()),
        ..at_file(&path)
    };
    assert!(
        Case::after(signed.clone(), None).is_err(),
        "there is no signature"
    );
    std::fs::write(beside(&path, ".sig"), format!("{good}\n")).expect("written");
    let case = Case::start(signed);
    pass(SECOND).await;
    case.holds("a", 1);
    let crit = r#"{"alg":"ES256","typ":"regent-federation+jws","b64":false,"crit":["b64"]}"#;
    for (signature, why) in [
        (String::new(), "HEADER..SIGNATURE"),
        ("..".to_owned(), "the token's header is no JSON object"),
        (home.sign(HEADER, "b").join("."), "HEADER..SIGNATURE"),
        (home.detached(HEADER, "a"), "by none of the keys"),
        (other.detached(HEADER, "b"), "by none of the keys"),
        (
            home.detached(r#"{"alg":"ES256","typ":"JWT"}"#, "b"),
            "typ is not",
        ),
        (home.detached(r#"{"alg":"ES256"}"#, "b"), "typ is not"),
        (home.detached(crit, "b"), "crit"),
        (
            home.detached(&HEADER.replace("ES256", "none"), "b"),
            "algorithm",
        ),
        (
            home.detached(&HEADER.replace("ES256", "RS256"), "b"),
            "algorithm",
        ),
        (
            home.detached(&HEADER.replace("{", r#"{"zip":"DEF","#), "b"),
            "typ is not",
        ),
        (home.detached(HEADER, "b") + "=", "base64url"),
    ] {
        std::fs::write(&path, "b").expect("written");
        std::fs::write(beside(&path, ".sig"), &signature).expect("written");
        pass(6 * SECOND).await;
        case.keeps("a", 1, why);
    }
    std::fs::remove_file(beside(&path, ".sig")).expect("removed");
    pass(6 * SECOND).await;
    case.keeps("a", 1, "cannot read");
    std::fs::write(beside(&path, ".sig"), home.detached(HEADER, "b")).expect("written");
    pass(6 * SECOND).await;
    case.holds("b", 2);
}

#[tokio::test(start_paused = true)]
async fn a_signature_is_fetched_beside_the_list_and_waits_for_keys() {
    let clock = Clock::manual(1_760_000_000);
    let home = Home::new(&clock);
    let signer = Signer::default();
    let (fake, service) = Fake::new();
    let settings = Settings {
        place: Place::Url("https://lists.example/l.json?v=2".parse().expect("a URL")),
        signer: Some(signer.clone()),
        ..at_url(service)
    };
    let answer = || {
        fake.answer(Ok(response(200, &[("etag", "\"one\"")], "a")));
        fake.answer(Ok(response(200, &[], &home.detached(HEADER, "a"))));
    };
    answer();
    let case = Case::start(settings);
    pass(SECOND / 10).await;
    let (list, _, trouble) = case.says();
    assert_eq!(list, None);
    assert!(trouble.is_some_and(|why| why.contains("not there yet")));
    *signer.0.lock().expect("no panic") = home.signer.0.lock().expect("no panic").clone();
    answer();
    pass(2 * SECOND).await;
    case.holds("a", 1);
    let calls = fake.calls();
    let urls: Vec<&str> = calls.iter().map(|call| call.url.as_str()).collect();
    let (list, signature) = (
        "https://lists.example/l.json?v=2",
        "https://lists.example/l.json.sig?v=2",
    );
    assert_eq!(urls, [list, signature, list, signature]);
    assert!(
        calls
            .iter()
            .all(|call| !call.headers.contains_key(header::IF_NONE_MATCH))
    );
}
