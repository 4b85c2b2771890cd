//! The auth API: simplejwt's views for login, refresh and verify.

use http::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Request, Response, StatusCode};

use super::answer::{Received, Said, django_page};
use super::fields::{Unusable, fields};
use super::sign::{Claims, SigningKey};
use super::{Body, State};
use crate::secret::Digest;

pub(super) fn login(
    state: &mut State,
    key: &SigningKey,
    request: &Request<Received>,
    now: i64,
) -> Said {
    let [email, password] = match fields(request, ["email", "password"]) {
        Ok(fields) => fields,
        Err(Unusable(status, body)) => return said(json(status, body), None),
    };
    let user = state.user_by_email(&email).filter(|user| user.active);
    let Some(user) = user
        .filter(|user| user.password.expose() == password)
        .cloned()
    else {
        let code = state.settings.login_code.then_some("no_active_account");
        let detail = "No active account found with the given credentials";
        return said(unauthorized(detail, code), None);
    };
    let refresh = state.new_refresh(&user, now);
    let access = state.new_access(&refresh, now);
    let body = format!(
        r#"{{"refresh":"{}","access":"{}"}}"#,
        key.sign(&refresh).expose(),
        key.sign(&access).expose()
    );
    said(json(StatusCode::OK, body), None)
}

pub(super) fn refresh(
    state: &mut State,
    key: &SigningKey,
    request: &Request<Received>,
    now: i64,
) -> Said {
    let [token] = match fields(request, ["refresh"]) {
        Ok(fields) => fields,
        Err(Unusable(status, body)) => return said(json(status, body), None),
    };
    let answer = refreshed(state, key, &token, now);
    said(answer, Some(Digest::of(token.as_bytes())))
}

fn refreshed(state: &mut State, key: &SigningKey, token: &str, now: i64) -> Response<Body> {
    let old = match key.verified(token, state.settings.issuer.as_deref(), now) {
        Ok(claims) => claims,
        Err(detail) => return not_valid(detail),
    };
    // The blacklist comes first, and asks for a `jti` that nobody has checked yet.
    let Some(jti) = old.jti.clone() else {
        return server_error();
    };
    if state.blacklist.contains(&jti) {
        return not_valid("Token is blacklisted");
    }
    if let Err(detail) = of_type(&old, "refresh") {
        return not_valid(detail);
    }
    if let Some(user_id) = &old.user_id {
        match state.user_by_id(user_id) {
            None => return server_error(),
            Some(user) if !user.active => {
                let code = state.settings.login_code.then_some("no_active_account");
                let detail = "No active account found for the given token.";
                return unauthorized(detail, code);
            }
            Some(_) => {}
        }
    }
    let access = key.sign(&state.new_access(&old, now));
    if !state.settings.rotate {
        return json(
            StatusCode::OK,
            format!(r#"{{"access":"{}"}}"#, access.expose()),
        );
    }
    if state.settings.blacklist_after_rotation {
        state.blacklist.insert(jti);
    }
    let new = key.sign(&state.rotated(&old, now));
    let (access, new) = (access.expose(), new.expose());
    json(
        StatusCode::OK,
        format!(r#"{{"access":"{access}","refresh":"{new}"}}"#),
    )
}

pub(super) fn verify(
    state: &mut State,
    key: &SigningKey,
    request: &Request<Received>,
    now: i64,
) -> Said {
    let [token] = match fields(request, ["token"]) {
        Ok(fields) => fields,
        Err(Unusable(status, body)) => return said(json(status, body), None),
    };
    let answer = verified(state, key, &token, now);
    said(answer, Some(Digest::of(token.as_bytes())))
}

/// Takes either kind of token. A blacklisted one is a mistake in a field, not a 401.
fn verified(state: &State, key: &SigningKey, token: &str, now: i64) -> Response<Body> {
    let claims = match key.verified(token, state.settings.issuer.as_deref(), now) {
        Ok(claims) => claims,
        Err(detail) => return not_valid(detail),
    };
    if claims.exp.is_none() {
        return not_valid("Token has no 'exp' claim");
    }
    let Some(jti) = claims.jti else {
        return not_valid("Token has no id");
    };
    if state.settings.blacklist_after_rotation && state.blacklist.contains(&jti) {
        return json(
            StatusCode::BAD_REQUEST,
            r#"{"non_field_errors":["Token is blacklisted"]}"#.to_owned(),
        );
    }
    json(StatusCode::OK, "{}".to_owned())
}

/// What simplejwt asks of a token of one kind once its signature and times are right.
pub(super) fn of_type(claims: &Claims, wanted: &str) -> Result<(), &'static str> {
    if claims.exp.is_none() {
        return Err("Token has no 'exp' claim");
    }
    if claims.jti.is_none() {
        return Err("Token has no id");
    }
    match claims.token_type.as_deref() {
        None => Err("Token has no type"),
        Some(found) if found == wanted => Ok(()),
        Some(_) => Err("Token has wrong type"),
    }
}

fn said(answer: Response<Body>, token: Option<Digest>) -> Said {
    Said { answer, token }
}

fn not_valid(detail: &str) -> Response<Body> {
    unauthorized(detail, Some("token_not_valid"))
}

fn unauthorized(detail: &str, code: Option<&str>) -> Response<Body> {
    let body = match code {
        Some(code) => format!(r#"{{"detail":"{detail}","code":"{code}"}}"#),
        None => format!(r#"{{"detail":"{detail}"}}"#),
    };
    let mut answer = json(StatusCode::UNAUTHORIZED, body);
    let challenge = HeaderValue::from_static(r#"Bearer realm="api""#);
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

fn server_error() -> Response<Body> {
    let page = django_page("Server Error (500)", "");
    let mut answer = Response::new(Body::Whole(page));
    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, html);
    answer
}

fn json(status: StatusCode, body: String) -> Response<Body> {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    answer
}
