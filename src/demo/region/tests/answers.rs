//! What is answered, byte for byte.

use super::*;

/// A status and the `detail` of its body.
type Refused = (u16, &'static str);

#[tokio::test(start_paused = true)]
async fn what_it_cannot_use_is_answered_as_the_framework_does() {
    let (region, _) = region();
    let required =
        r#"{"email":["This field is required."],"password":["This field is required."]}"#;
    let blank =
        r#"{"email":["This field may not be blank."],"password":["This field may not be blank."]}"#;
    let wrong = r#"{"detail":"No active account found with the given credentials"}"#;
    let invalid = r#"{"detail":"Token is invalid","code":"token_not_valid"}"#;
    let media = r#"{"detail":"Unsupported media type \"text/plain\" in request."}"#;
    let table: &[(&str, &str, &str, u16, &str)] = &[
        (
            LOGIN,
            FORM,
            "email=alice%40example.com&password=no",
            401,
            wrong,
        ),
        (LOGIN, JSON, r#"{"email":"x","password":"no"}"#, 401, wrong),
        (LOGIN, FORM, "", 400, required),
        (LOGIN, "text/plain", "", 400, required),
        (LOGIN, JSON, "{}", 400, required),
        (LOGIN, FORM, "email=&password=", 400, blank),
        (
            LOGIN,
            JSON,
            r#"{"email":"x"}"#,
            400,
            r#"{"password":["This field is required."]}"#,
        ),
        (
            LOGIN,
            JSON,
            r#"{"email":null,"password":7}"#,
            400,
            r#"{"email":["This field may not be null."]}"#,
        ),
        (
            LOGIN,
            JSON,
            r#"{"email":true,"password":[1]}"#,
            400,
            r#"{"email":["Not a valid string."],"password":["Not a valid string."]}"#,
        ),
        (
            LOGIN,
            JSON,
            r#"{"email":"  ","password":" x "}"#,
            400,
            r#"{"email":["This field may not be blank."]}"#,
        ),
        (
            LOGIN,
            JSON,
            "[1]",
            400,
            r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}"#,
        ),
        (
            LOGIN,
            JSON,
            r#""x""#,
            400,
            r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got str."]}"#,
        ),
        (
            LOGIN,
            JSON,
            "7",
            400,
            r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got int."]}"#,
        ),
        (
            LOGIN,
            JSON,
            "1.5",
            400,
            r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got float."]}"#,
        ),
        (
            LOGIN,
            JSON,
            "true",
            400,
            r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got bool."]}"#,
        ),
        (
            LOGIN,
            JSON,
            "null",
            400,
            r#"{"non_field_errors":["No data provided"]}"#,
        ),
        (LOGIN, "text/plain", "x", 415, media),
        (
            LOGIN,
            "",
            "x",
            415,
            r#"{"detail":"Unsupported media type \"\" in request."}"#,
        ),
        (REFRESH, FORM, "refresh=abc", 401, invalid),
        (REFRESH, JSON, r#"{"refresh":7}"#, 401, invalid),
        (
            REFRESH,
            FORM,
            "",
            400,
            r#"{"refresh":["This field is required."]}"#,
        ),
        (
            REFRESH,
            FORM,
            "refresh=",
            400,
            r#"{"refresh":["This field may not be blank."]}"#,
        ),
        (
            REFRESH,
            JSON,
            r#"{"refresh":null}"#,
            400,
            r#"{"refresh":["This field may not be null."]}"#,
        ),
        (
            REFRESH,
            JSON,
            r#"{"refresh":["x"]}"#,
            400,
            r#"{"refresh":["Not a valid string."]}"#,
        ),
        (REFRESH, "text/plain", "x", 415, media),
        (VERIFY, FORM, "token=x", 401, invalid),
        (
            VERIFY,
            FORM,
            "",
            400,
            r#"{"token":["This field is required."]}"#,
        ),
        (
            VERIFY,
            JSON,
            r#"{"token":""}"#,
            400,
            r#"{"token":["This field may not be blank."]}"#,
        ),
    ];
    for (path, media_type, body, status, expected) in table {
        let found = post(&region, path, media_type, body);
        assert_eq!(
            found,
            (*status, (*expected).to_owned()),
            "{path} {media_type} {body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_works_as_a_form_and_as_json() {
    let (region, _) = region();
    for (media_type, body) in [
        (FORM, "email=alice%40example.com&password=wonderland"),
        (
            JSON,
            r#"{"email":"alice@example.com","password":"wonderland"}"#,
        ),
        (
            "application/json; charset=utf-8",
            r#"{"password":"wonderland","email":"alice@example.com"}"#,
        ),
    ] {
        let (status, body) = post(&region, LOGIN, media_type, body);
        assert_eq!(status, 200);
        assert!(body.starts_with(r#"{"refresh":"eyJ"#) && body.contains(r#"","access":"eyJ"#));
        let (access, refresh_token) = tokens(&body);
        assert_eq!(with_bearer(&region, &access).0, 200);
        assert_eq!(
            refresh(&region, &refresh_token.expect("a login gives both")).0,
            200
        );
    }
}

#[tokio::test(start_paused = true)]
async fn odd_tokens_are_refused_in_the_words_of_simplejwt() {
    let (region, _) = region();
    let table: &[(&str, &str, Value, Refused, Refused)] = &[
        (
            "expired",
            "exp",
            json!(NOW - 1),
            (401, "Token is expired"),
            (401, "Token is expired"),
        ),
        (
            "expires now",
            "exp",
            json!(NOW),
            (401, "Token is expired"),
            (401, "Token is expired"),
        ),
        (
            "no exp",
            "exp",
            Value::Null,
            (401, "Token has no 'exp' claim"),
            (401, "Token has no 'exp' claim"),
        ),
        (
            "exp is text",
            "exp",
            json!("x"),
            (401, "Token is invalid"),
            (401, "Token is invalid"),
        ),
        (
            "no jti",
            "jti",
            Value::Null,
            (500, ""),
            (401, "Token has no id"),
        ),
        (
            "no type",
            "token_type",
            Value::Null,
            (401, "Token has no type"),
            (200, ""),
        ),
        (
            "access",
            "token_type",
            json!("access"),
            (401, "Token has wrong type"),
            (200, ""),
        ),
        (
            "other issuer",
            "iss",
            json!("x"),
            (401, "Token is invalid"),
            (401, "Token is invalid"),
        ),
        (
            "no issuer",
            "iss",
            Value::Null,
            (401, "Token is invalid"),
            (401, "Token is invalid"),
        ),
        (
            "issued later",
            "iat",
            json!(NOW + 50),
            (401, "Token is invalid"),
            (401, "Token is invalid"),
        ),
        (
            "valid later",
            "nbf",
            json!(NOW + 50),
            (401, "Token is invalid"),
            (401, "Token is invalid"),
        ),
        ("unknown user", "user_id", json!("99"), (500, ""), (200, "")),
    ];
    for (what, claim, value, at_refresh, at_verify) in table {
        let token = odd(&region, |claims| {
            if value.is_null() {
                claims.remove(*claim);
            } else {
                claims.insert((*claim).to_owned(), value.clone());
            }
        });
        let verify = post(&region, VERIFY, FORM, &format!("token={}", token.expose()));
        for (found, (status, detail)) in
            [(refresh(&region, &token), at_refresh), (verify, at_verify)]
        {
            assert_eq!(found.0, *status, "{what}: {}", found.1);
            if *status == 401 {
                let body = format!(r#"{{"detail":"{detail}","code":"token_not_valid"}}"#);
                assert_eq!(found.1, body, "{what}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn methods_and_slashes_are_djangos() {
    let (region, _) = region();
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let answer = ask(&region, &request(method, LOGIN, JSON, ""));
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.headers()["allow"], "POST, OPTIONS");
        assert_eq!(
            answer.body(),
            &format!(r#"{{"detail":"Method \"{method}\" not allowed."}}"#)
        );
    }
    let answer = ask(&region, &request("HEAD", LOGIN, JSON, ""));
    assert_eq!(
        (answer.status().as_u16(), answer.body().as_str()),
        (405, "")
    );

    for path in [LOGIN, REFRESH, VERIFY] {
        let bare = path.trim_end_matches('/');
        let answer = ask(
            &region,
            &request("POST", &format!("{bare}?a=b"), FORM, "refresh=x"),
        );
        assert_eq!(answer.status(), 301);
        assert_eq!(answer.headers()[LOCATION], format!("{path}?a=b"));
    }
    let answer = ask(
        &region,
        &request("POST", "/console/api/auth/other/", FORM, ""),
    );
    assert_eq!(answer.status(), 404);
    assert!(
        answer.headers()[CONTENT_TYPE]
            .to_str()
            .expect("text")
            .starts_with("text/html")
    );
    assert_eq!(answer.body().len(), 179);
    assert_eq!(region.count(Kind::Login), 5);
    assert_eq!(region.count(Kind::Astray), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_its_scheme_and_the_regions_time() {
    let (region, clock) = region();
    clock.shift_wall(-3600);
    let answer = ask(&region, &request("POST", REFRESH, FORM, "refresh=x"));
    assert_eq!(answer.headers()[WWW_AUTHENTICATE], r#"Bearer realm="api""#);
    assert_eq!(answer.headers()["date"], "Fri, 15 Jan 2027 07:00:00 GMT");
}

#[tokio::test(start_paused = true)]
async fn the_api_answers_as_simplejwt_guards_it() {
    let (region, _) = region();
    let missing = r#"{"detail":"Authentication credentials were not provided."}"#;
    let two = r#"{"detail":"Authorization header must contain two space-delimited values","code":"bad_authorization_header"}"#;
    let not_valid = |message: &str| {
        format!(
            r#"{{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":[{{"token_class":"AccessToken","token_type":"access","message":"{message}"}}]}}"#
        )
    };
    let access = alice_access(&region);
    let bearer = |token: &Secret| format!("Bearer {}", token.expose());
    let odd_access = |claim: &str, value: Value| {
        let token = odd(&region, |claims| {
            claims.insert("token_type".to_owned(), json!("access"));
            claims.insert(claim.to_owned(), value);
            claims.retain(|_, value| !value.is_null());
        });
        bearer(&token)
    };
    let no_user = r#"{"detail":"Token contained no recognizable user identification","code":"token_not_valid"}"#;
    let table = [
        (String::new(), missing.to_owned()),
        ("Basic eHg6eHg=".to_owned(), missing.to_owned()),
        (
            bearer(&access).replace("Bearer", "bearer"),
            missing.to_owned(),
        ),
        ("Bearer".to_owned(), two.to_owned()),
        ("Bearer a b".to_owned(), two.to_owned()),
        ("Bearer x".to_owned(), not_valid("Token is invalid")),
        (bearer(&alice(&region)), not_valid("Token has wrong type")),
        (odd_access("exp", json!(NOW)), not_valid("Token is expired")),
        (odd_access("iss", json!("x")), not_valid("Token is invalid")),
        (
            odd_access("token_type", Value::Null),
            not_valid("Token has no type"),
        ),
        (odd_access("user_id", Value::Null), no_user.to_owned()),
        (
            odd_access("user_id", json!("99")),
            r#"{"detail":"User not found","code":"user_not_found"}"#.to_owned(),
        ),
    ];
    for (authorization, body) in table {
        assert_eq!(call_api(&region, &authorization), (401, body));
    }
    let (status, body) = with_bearer(&region, &access);
    assert_eq!(status, 200);
    let echo: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        echo,
        json!({"user": "alice", "method": "GET", "path": "/x?y=1",
               "headers": ["content-type", "authorization"], "body_bytes": 0})
    );
}
