//! Which tokens are good for what, and for how long.

use super::*;

#[tokio::test(start_paused = true)]
async fn tokens_are_laid_out_as_simplejwt_does() {
    let (region, _) = region();
    let access = alice_access(&region);
    let parts: Vec<&str> = access.expose().split('.').collect();
    let text = |part: &str| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part);
        String::from_utf8(bytes.expect("base64url")).expect("text")
    };
    assert_eq!(text(parts[0]), r#"{"alg":"RS256","typ":"JWT"}"#);
    let jti = sign::claims_of(access.expose()).and_then(|claims| claims.jti);
    let jti = jti.expect("a jti");
    assert!(jti.len() == 32 && jti.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(
        text(parts[1]),
        format!(
            concat!(
                r#"{{"token_type":"access","exp":{},"iat":{},"jti":"{}","user_id":"1","#,
                r#""username":"alice","email":"alice@example.com","iss":"iss.my_company.com"}}"#
            ),
            NOW + 300,
            NOW,
            jti
        )
    );
    let claims = compact::peek(alice(&region).expose()).expect("a token");
    assert_eq!(claims.exp, Some(NOW + 86_400));
    assert_eq!(claims.token_type.as_deref(), Some("refresh"));
}

#[tokio::test(start_paused = true)]
async fn the_public_key_verifies_what_the_region_signed() {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};
    let (region, _) = region();
    let key = DecodingKey::from_rsa_pem(region.public_key_pem().as_bytes()).expect("a PEM");
    let mut rules = Validation::new(Algorithm::RS256);
    rules.validate_exp = false;
    let token = alice(&region);
    let read = jsonwebtoken::decode::<Value>(token.expose(), &key, &rules).expect("ours");
    assert_eq!(read.claims["username"], "alice");
    assert_eq!(read.header.kid, None);
}

#[tokio::test(start_paused = true)]
async fn the_key_set_holds_the_same_key_under_a_name() {
    use crate::jwt::algorithm::Algorithm;
    use crate::jwt::key_set::KeySet;
    let (region, _) = region();
    let answer = ask(&region, &request("GET", KEYS, "text/plain", ""));
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/jwk-set+json");
    let set: Value = serde_json::from_str(answer.body()).expect("JSON");
    let keys = set["keys"].as_array().expect("a list");
    assert_eq!(keys.len(), 1);
    assert_eq!(
        (&keys[0]["use"], &keys[0]["alg"]),
        (&json!("sig"), &json!("RS256"))
    );
    // A SHA-256 in base64url.
    assert_eq!(keys[0]["kid"].as_str().map(str::len), Some(43));
    let by_url = KeySet::from_jwks(answer.body().as_bytes()).expect("a key set");
    assert!(by_url.ignored.is_empty(), "{:?}", by_url.ignored);
    let by_file = KeySet::from_pem(region.public_key_pem().as_bytes()).expect("a PEM");
    let token = alice(&region);
    let (message, signature) = token.expose().rsplit_once('.').expect("three parts");
    use base64::Engine as _;
    let signature = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(signature);
    let signature = signature.expect("base64url");
    for set in [by_url, by_file] {
        let (rs256, message) = (Algorithm::Rs256, message.as_bytes());
        assert!(set.keys()[0].verify(rs256, message, &signature));
    }
}

#[tokio::test(start_paused = true)]
async fn a_users_own_claims_stand_in_no_other_users_tokens() {
    let (region, _) = region();
    region.change(|settings| {
        let carol = User::new("2", "carol", "carol@example.com", "teapot");
        settings.users.push(carol.with_claim("role", "admin"));
    });
    let role = |email| {
        let token = region.issue_access(email).expect("a user");
        let claims = sign::claims_of(token.expose()).expect("claims");
        claims.extra.get("role").cloned()
    };
    assert_eq!(role("carol@example.com"), Some(json!("admin")));
    assert_eq!(role("alice@example.com"), None);
}

#[tokio::test(start_paused = true)]
async fn a_forged_token_is_invalid() {
    let (region, _) = region();
    let good = alice(&region);
    let (message, signature) = good.expose().rsplit_once('.').expect("three parts");
    let (header, payload) = message.split_once('.').expect("three parts");
    let other = Region::new(
        SigningKey::generate().expect("another key"),
        Settings::default(),
        Clock::manual(NOW),
    );
    use base64::Engine as _;
    let none = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    for forged in [
        format!("{header}.{payload}.AAAA"),
        format!("{header}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{header}.{header}.{signature}"),
        alice(&other).expose().to_owned(),
    ] {
        let found = refresh(&region, &Secret::new(forged));
        let body = r#"{"detail":"Token is invalid","code":"token_not_valid"}"#;
        assert_eq!(found, (401, body.to_owned()));
    }
    assert_eq!(refresh(&region, &good).0, 200);
}

#[tokio::test(start_paused = true)]
async fn rotation_kills_the_old_token_without_grace() {
    let (region, _) = region();
    let first = alice(&region);
    let second = rotated(&region, &first);
    let dead = r#"{"detail":"Token is blacklisted","code":"token_not_valid"}"#;
    assert_eq!(refresh(&region, &first), (401, dead.to_owned()));
    let verify = post(&region, VERIFY, FORM, &format!("token={}", first.expose()));
    let body = r#"{"non_field_errors":["Token is blacklisted"]}"#;
    assert_eq!(verify, (400, body.to_owned()));
    let third = rotated(&region, &second);
    assert_eq!(refresh(&region, &third).0, 200);
}

#[tokio::test(start_paused = true)]
async fn without_the_blacklist_the_old_token_lives_on() {
    let (region, _) = region();
    region.change(|settings| settings.blacklist_after_rotation = false);
    let first = alice(&region);
    rotated(&region, &first);
    assert_eq!(refresh(&region, &first).0, 200);
}

#[tokio::test(start_paused = true)]
async fn without_rotation_only_an_access_token_comes() {
    let (region, _) = region();
    region.change(|settings| settings.rotate = false);
    let token = alice(&region);
    for _ in 0..3 {
        let (status, body) = refresh(&region, &token);
        assert_eq!(status, 200);
        assert!(body.starts_with(r#"{"access":"eyJ"#));
        assert!(tokens(&body).1.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn an_access_token_dies_at_its_expiry_to_the_second() {
    let (region, _) = region();
    region.change(|settings| settings.access_lifetime = Duration::from_secs(5));
    let token = alice_access(&region);
    tokio::time::advance(Duration::from_millis(4_999)).await;
    assert_eq!(with_bearer(&region, &token).0, 200);
    tokio::time::advance(Duration::from_millis(1)).await;
    let (status, body) = with_bearer(&region, &token);
    assert_eq!(status, 401);
    assert!(body.contains(r#""message":"Token is expired""#));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_left_is_refused_everywhere() {
    let (region, _) = region();
    let (token, access) = (alice(&region), alice_access(&region));
    region.change(|settings| settings.users[0].active = false);
    let inactive = r#"{"detail":"No active account found for the given token."}"#;
    assert_eq!(refresh(&region, &token), (401, inactive.to_owned()));
    let login = r#"{"email":"alice@example.com","password":"wonderland"}"#;
    assert_eq!(post(&region, LOGIN, JSON, login).0, 401);
    let body = r#"{"detail":"User is inactive","code":"user_inactive"}"#;
    assert_eq!(with_bearer(&region, &access), (401, body.to_owned()));
    region.change(|settings| settings.login_code = true);
    let coded = post(&region, LOGIN, JSON, login).1;
    assert!(coded.ends_with(r#","code":"no_active_account"}"#));
}

#[tokio::test(start_paused = true)]
async fn a_revoked_token_is_refused_and_others_are_not() {
    let (region, _) = region();
    let (one, two) = (alice_access(&region), alice_access(&region));
    region.revoke_access(one.expose());
    assert_eq!(with_bearer(&region, &one).0, 401);
    assert_eq!(with_bearer(&region, &two).0, 200);
    assert_eq!(region.revoke_all_access(), 2);
    assert_eq!(with_bearer(&region, &two).0, 401);
    assert_eq!(with_bearer(&region, &alice_access(&region)).0, 200);
    region.change(|settings| settings.accept_access = false);
    assert_eq!(with_bearer(&region, &alice_access(&region)).0, 401);

    let token = alice(&region);
    let jti = sign::claims_of(token.expose()).and_then(|claims| claims.jti);
    region.revoke_refresh(&jti.expect("a jti"));
    assert_eq!(refresh(&region, &token).0, 401);
}

#[tokio::test(start_paused = true)]
async fn extra_claims_stand_in_both_kinds() {
    let (region, _) = region();
    region.change(|settings| {
        settings
            .extra_claims
            .insert("hash_password".to_owned(), json!("canary"));
        settings.issuer = None;
        settings.users[0].user_id = json!(7);
    });
    let (_, body) = refresh(&region, &alice(&region));
    let claims = sign::claims_of(tokens(&body).0.expose()).expect("claims");
    assert_eq!(claims.extra["hash_password"], "canary");
    assert_eq!(claims.user_id, Some(json!(7)));
    assert_eq!(claims.iss, None);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_it_shows_of_itself_is_a_secret() {
    let (region, _) = region();
    let token = alice(&region);
    refresh(&region, &token);
    let body = format!("refresh={}", alice(&region).expose());
    let call = request("POST", REFRESH, FORM, &body);
    let reply = region.answer(&call);
    let shown = format!("{region:?} {call:?} {reply:?}");
    assert!(shown.contains("bytes"), "{shown}");
    assert!(!shown.contains("wonderland") && !shown.contains("eyJ"));
    assert_eq!(region.calls()[0].token, Some(token.digest()));
}

#[tokio::test(start_paused = true)]
async fn the_log_numbers_calls_and_forgets_the_oldest() {
    let (region, _) = region();
    let calls = region.watch_calls();
    let extra = 3;
    for _ in 0..LOG_LIMIT + extra {
        ask(&region, &request("GET", LOGIN, JSON, ""));
    }
    let (limit, all) = (LOG_LIMIT as u64, (LOG_LIMIT + extra) as u64);
    assert_eq!((*calls.borrow(), region.count(Kind::Login)), (all, all));
    let kept = region.calls();
    assert_eq!(
        (kept.len() as u64, kept[0].number),
        (limit, all - limit + 1)
    );
    let last: Vec<u64> = region
        .calls_after(all - 2)
        .iter()
        .map(|call| call.number)
        .collect();
    assert_eq!(last, [all - 1, all]);
    assert!(region.calls_after(all).is_empty());
}
