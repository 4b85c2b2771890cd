//! What each kind of refusal advises.

use regent::cli::explain::{Explanation, by_keys};
use regent::jwt::key_set::KeySet;
use regent::reason::Reason;
use serde_json::json;

use crate::world::{NOW, Signer, World, b64, claims, now};

#[track_caller]
fn advises(told: &Explanation, reason: Reason, words: &str) {
    let text = told.text();
    let was = told.refused.as_ref().map(|(reason, _)| *reason);
    assert_eq!(was, Some(reason), "{text}");
    let advised = told.advice.iter().any(|line| line.contains(words));
    assert!(advised, "no \"{words}\" in\n{text}");
    assert!(
        told.steps.iter().any(|step| step.ok == Some(false)),
        "no step is NO:\n{text}"
    );
}

#[test]
fn a_good_token_shows_its_way_and_its_headers() {
    let world = World::new();
    let told = world.at(&world.home(json!({})), "/admin/x");
    let text = told.text();
    assert!(told.is_accepted() && told.advice.is_empty(), "{text}");
    for line in [
        " ok path         GET \"/admin/x\" meets inbound.rules[1], \"/admin\"\n",
        " ok issuer       \"iss.home\" is inbound.issuers.home\n",
        " ok signature    good, by the key Ed25519, no kid\n",
        " ok exp          2026-11-25T04:04:12Z, in 4 min 12 s; must be after 2026-11-25T03:59:30Z \
         (now less the leeway of 30 s)\n",
        " ok iat          2026-11-25T03:59:48Z, 12 s ago; must not be after 2026-11-25T04:00:30Z \
         (now and the leeway of 30 s)\n",
        " ok rule         role is \"admin\"; must be \"admin\"\n",
        " x-regent-issuer: home\n",
        " x-regent-user: alice\n",
        "\naccepted: such a request is forwarded to the workload\n",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    let told = world.explain(&world.west(json!({})));
    assert!(
        told.text().contains(" x-regent-user: west:alice\n"),
        "{}",
        told.text()
    );
    assert!(
        told.notes.iter().any(|note| note.contains("odd")),
        "{:?}",
        told.notes
    );
}

#[test]
fn each_claim_that_is_refused_says_what_to_change() {
    let world = World::new();
    for (changes, reason, words) in [
        (
            json!({"iss": "iss.other"}),
            Reason::UnknownIssuer,
            "home \"iss.home\", west \"https://west.example/\"",
        ),
        (
            json!({"iss": "ISS.home"}),
            Reason::UnknownIssuer,
            "differ in case",
        ),
        (json!({"iss": ""}), Reason::UnknownIssuer, "there and empty"),
        (
            json!({"iss": "none"}),
            Reason::MissingClaim,
            "must write iss",
        ),
        (json!({"exp": NOW - 214}), Reason::MalformedClaim, "iat"),
        (
            json!({"exp": NOW - 214, "iat": NOW - 500}),
            Reason::Expired,
            "it expired 3 min 34 s ago (the leeway is 30 s)",
        ),
        (
            json!({"exp": "soon"}),
            Reason::MalformedClaim,
            "must write exp",
        ),
        (
            json!({"exp": "none"}),
            Reason::MissingClaim,
            "must write exp",
        ),
        (
            json!({"nbf": NOW + 90}),
            Reason::NotYetValid,
            "its nbf is 1 min 30 s ahead",
        ),
        (
            json!({"iat": NOW + 90}),
            Reason::IssuedInFuture,
            "its iat is 1 min 30 s ahead",
        ),
        (
            json!({"exp": NOW + 100_000}),
            Reason::LifetimeTooLong,
            "raise inbound.issuers.home.max_lifetime",
        ),
        (
            json!({"token_type": "refresh"}),
            Reason::WrongTokenType,
            "this is a refresh token: send the access token",
        ),
        (
            json!({"token_type": "odd"}),
            Reason::WrongTokenType,
            "token_type must be \"access\" here: send the access token; if the issuer calls its access \
             tokens \"odd\", add that to inbound.issuers.home.token_types",
        ),
        (
            json!({"at_hash": "x"}),
            Reason::WrongTokenType,
            "this is an ID token",
        ),
        (
            json!({"events": {}}),
            Reason::WrongTokenType,
            "security event",
        ),
        (
            json!({"token_type": "none"}),
            Reason::MissingClaim,
            "no setting here takes them unmarked: let it write the claim token_type (\"access\"), or \
             the header typ at+jwt",
        ),
        (
            json!({"token_type": "none", "nonce": "x"}),
            Reason::MissingClaim,
            "this is an ID token",
        ),
        (json!({"cnf": {}}), Reason::BoundToken, "bound to no key"),
        (
            json!({"username": "a\u{7}b"}),
            Reason::UnsafeClaim,
            "username must be",
        ),
        (
            json!({"username": "west:bob"}),
            Reason::UnsafeClaim,
            "an issuer's name and a colon",
        ),
    ] {
        let told = world.explain(&world.home(changes));
        advises(&told, reason, words);
    }
    for (changes, reason, words) in [
        (
            json!({"aud": ["x", "y"]}),
            Reason::WrongAudience,
            "it is for [\"x\",\"y\"], here it must be for one of \"here\", \"there\"",
        ),
        (
            json!({"aud": "none"}),
            Reason::MissingClaim,
            "inbound.issuers.west.audiences",
        ),
        (
            json!({"tenant": "c"}),
            Reason::WrongClaim,
            "inbound.issuers.west.required_claims",
        ),
        (
            json!({"tenant": "none"}),
            Reason::MissingClaim,
            "tenant is required by",
        ),
    ] {
        let told = world.explain(&world.west(changes));
        advises(&told, reason, words);
    }
}

#[test]
fn each_header_that_is_refused_says_what_to_change() {
    let world = World::new();
    let west = |extra: serde_json::Value| {
        let mut all = json!({"iss": "https://west.example/", "aud": "here", "tenant": "a"});
        all["x"] = extra;
        claims(all)
    };
    for (header, reason, words) in [
        (
            json!({"alg": "none"}),
            Reason::AlgorithmNotAllowed,
            "not signed",
        ),
        (
            json!({"alg": "HS256"}),
            Reason::AlgorithmNotAllowed,
            "HS256 needs a secret",
        ),
        (
            json!({"alg": "XX"}),
            Reason::AlgorithmNotAllowed,
            "not known here",
        ),
        (
            json!({"alg": "ES256"}),
            Reason::AlgorithmNotAllowed,
            "add it to inbound.issuers.west.algorithms (now: RS256, EdDSA)",
        ),
        (
            json!({"alg": "RS256", "kid": "west-1"}),
            Reason::AlgorithmNotAllowed,
            "not for RS256",
        ),
        (
            json!({"alg": "RS256"}),
            Reason::UnknownKey,
            "none of the keys is for its algorithm",
        ),
        (
            json!({"alg": "EdDSA", "kid": "west-2"}),
            Reason::UnknownKey,
            "it names \"west-2\"; the keys here: \"west-1\"",
        ),
        (
            json!({"alg": "EdDSA", "typ": "dpop+jwt"}),
            Reason::WrongTokenType,
            "JWT or at+jwt",
        ),
        (
            json!({"alg": "EdDSA", "zip": "DEF"}),
            Reason::WrongTokenType,
            "plain signed",
        ),
        (
            json!({"alg": "EdDSA", "crit": ["b64"]}),
            Reason::UnsupportedCriticalHeader,
            "without crit",
        ),
    ] {
        let told = world.explain(&world.west.sign(&header, west(json!(1))));
        advises(&told, reason, words);
    }
    let forged = Signer::new().sign(&json!({"alg": "EdDSA"}), west(json!(1)));
    advises(
        &world.explain(&forged),
        Reason::BadSignature,
        "the keys here: Ed25519, kid \"west-1\"",
    );
}

#[test]
fn each_thing_that_is_no_token_says_what_it_may_be() {
    let world = World::new();
    let good = world.home(json!({}));
    let twice = world
        .home
        .sign(&json!({"alg": "EdDSA"}), r#"{"iss":"iss.home","iss":"x"}"#);
    let part = b64("{}");
    let plain = world.home.sign(&json!({"alg": "EdDSA"}), "no claims");
    for (token, reason, words) in [
        (String::new(), Reason::MissingToken, "pipe the token in"),
        (
            good.replacen('.', ".\n", 1),
            Reason::MalformedToken,
            "white space",
        ),
        (
            good.replacen('.', ". ", 1),
            Reason::MalformedToken,
            "white space",
        ),
        (
            format!("{{\"access_token\":\"{good}\"}}"),
            Reason::MalformedToken,
            "its member access_token",
        ),
        (format!("\"{good}\""), Reason::MalformedToken, "quotes"),
        (format!("{good}=="), Reason::MalformedToken, "base64url"),
        (
            format!("{good}\u{1b}"),
            Reason::MalformedToken,
            "a character in it",
        ),
        (
            format!("{part}.{part}.{part}.{part}.{part}"),
            Reason::MalformedToken,
            "encrypted (JWE)",
        ),
        (
            "0123456789abcdef".to_owned(),
            Reason::MalformedToken,
            "opaque",
        ),
        (
            format!("{part}.{part}"),
            Reason::MalformedToken,
            "copy it again",
        ),
        (
            format!("{good},{good}"),
            Reason::MultipleTokens,
            "one token alone",
        ),
        (
            format!("{good}{}", "A".repeat(17_000)),
            Reason::TokenTooLarge,
            "the most is 16384",
        ),
        (plain, Reason::MalformedToken, "--signature-only"),
        (twice, Reason::DuplicateMember, "must write it once"),
    ] {
        advises(&world.explain(&token), reason, words);
    }
}

#[test]
fn the_rule_of_the_path_is_told_and_held_against_the_token() {
    let world = World::new();
    let user = world.home(json!({"role": "user"}));
    advises(
        &world.at(&user, "/admin"),
        Reason::ClaimsNotMet,
        "role does not suffice for \"/admin\"",
    );
    advises(
        &world.at(&user, "/a/../admin"),
        Reason::AmbiguousPath,
        "different ways",
    );
    assert!(world.at(&user, "/administrator").is_accepted());
    assert!(world.at(&user, "/healthz").is_accepted());

    let told = world.at("", "/healthz");
    assert!(told.is_accepted(), "no token is needed");
    assert_eq!(told.headers.as_deref(), Some(&[][..]));
    assert!(
        told.rule
            .as_ref()
            .is_some_and(|rule| rule.anonymous && rule.path == "/healthz")
    );
    let expired = world.home(json!({"exp": NOW - 100, "iat": NOW - 200}));
    advises(
        &world.at(&expired, "/healthz"),
        Reason::Expired,
        "1 min 40 s",
    );
}

#[test]
fn a_shorter_rule_does_not_count_where_those_of_the_path_are_for_other_methods() {
    let world = World::new();
    let told = world.at(&world.home(json!({"role": "user"})), "/admin/hooks/x");
    let text = told.text();
    assert!(told.is_accepted(), "{text}");
    assert!(
        text.contains("are for POST, PUT alone, and shorter ones do not count"),
        "{text}"
    );
}

/// As on the way of a request, which makes the headers before it looks at the list.
#[test]
fn a_claim_that_no_header_can_carry_is_told_before_the_list_of_revoked_tokens() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("revoked.json");
    let entries = json!({"revoked": [{"issuer": "home", "jti": "0a1b"}]});
    std::fs::write(&list, entries.to_string()).expect("a file");
    let table = format!("[inbound.revocations]\nfile = '{}'", list.display());
    let world = World::with(&table);
    for (changes, reason) in [
        (json!({"username": "a\nb"}), Reason::UnsafeClaim),
        (json!({}), Reason::Revoked),
    ] {
        let told = world.explain(&world.home(changes));
        let refused = told.refused.as_ref().map(|(reason, _)| *reason);
        assert_eq!(refused, Some(reason), "{}", told.text());
    }
}

#[test]
fn what_is_left_open_is_noted() {
    let world = World::with("insecure_shadow_mode = true");
    let told = world.explain(&world.home(json!({})));
    for words in [
        "insecure_shadow_mode is on",
        "home.audiences is not set",
        "give --path",
    ] {
        let noted = told.notes.iter().any(|note| note.contains(words));
        assert!(noted, "no \"{words}\" in {:?}", told.notes);
    }
}

#[test]
fn keys_alone_take_any_issuer_audience_and_lifetime() {
    let signer = Signer::new();
    let set = || KeySet::from_any(signer.pem().as_bytes()).expect("a key");
    let header = json!({"alg": "EdDSA"});
    for changes in [
        json!({"iss": "anybody", "aud": "anything", "exp": NOW + 1_000_000_000}),
        json!({"iss": "none"}),
    ] {
        let token = signer.sign(&header, claims(changes));
        let told = by_keys(token.as_bytes(), set(), now());
        assert!(told.is_accepted(), "{}", told.text());
        assert_eq!(told.headers, None, "nobody knows which");
    }
    let refresh = signer.sign(&header, claims(json!({"token_type": "refresh"})));
    advises(
        &by_keys(refresh.as_bytes(), set(), now()),
        Reason::WrongTokenType,
        "this is a refresh token",
    );
    let old = signer.sign(&header, claims(json!({"iat": NOW - 90, "exp": NOW - 31})));
    advises(
        &by_keys(old.as_bytes(), set(), now()),
        Reason::Expired,
        "31 s ago",
    );
}
