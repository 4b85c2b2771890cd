//! The fields of a call to the auth API, and Django REST framework's words for what it cannot use.

use http::header::CONTENT_TYPE;
use http::{Method, Request, StatusCode};
use serde_json::Value;
use url::form_urlencoded;

use super::answer::Received;

/// The status and the JSON that a request without usable fields gets.
pub(super) struct Unusable(pub(super) StatusCode, pub(super) String);

/// The fields of a POST, or the answer that says what is wrong with all of them.
pub(super) fn fields<const N: usize>(
    request: &Request<Received>,
    names: [&str; N],
) -> Result<[String; N], Unusable> {
    let method = request.method();
    if method == Method::OPTIONS {
        let text = r#"{"parses":["application/json","application/x-www-form-urlencoded"]}"#;
        return Err(Unusable(StatusCode::OK, text.to_owned()));
    }
    if method != Method::POST {
        let text = format!("Method \"{method}\" not allowed.");
        return Err(detail(StatusCode::METHOD_NOT_ALLOWED, &text));
    }
    let data = data(request)?;
    let mut errors = Vec::new();
    let values = names.map(|name| {
        field(data.field(name)).unwrap_or_else(|error| {
            errors.push(format!(r#""{name}":["{error}"]"#));
            String::new()
        })
    });
    if errors.is_empty() {
        return Ok(values);
    }
    let text = format!("{{{}}}", errors.join(","));
    Err(Unusable(StatusCode::BAD_REQUEST, text))
}

/// One `CharField`: trimmed, and numbers are text.
fn field(value: Option<Value>) -> Result<String, &'static str> {
    let text = match value {
        None => return Err("This field is required."),
        Some(Value::Null) => return Err("This field may not be null."),
        Some(value @ (Value::String(_) | Value::Number(_))) => as_text(&value),
        Some(_) => return Err("Not a valid string."),
    };
    match text.trim() {
        "" => Err("This field may not be blank."),
        text if text.contains('\0') => Err("Null characters are not allowed."),
        text => Ok(text.to_owned()),
    }
}

pub(super) fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

enum Data {
    Form(Vec<(String, String)>),
    Json(serde_json::Map<String, Value>),
}

impl Data {
    /// A field; of several of one name in a form, the last.
    fn field(&self, name: &str) -> Option<Value> {
        match self {
            Data::Form(pairs) => {
                let mut found = pairs.iter().rev().filter(|(key, _)| key == name);
                found.next().map(|(_, value)| Value::from(value.as_str()))
            }
            Data::Json(map) => map.get(name).cloned(),
        }
    }
}

fn data(request: &Request<Received>) -> Result<Data, Unusable> {
    let received = request.body();
    if received.length == 0 {
        return Ok(Data::Form(Vec::new()));
    }
    if received.length != received.bytes.len() as u64 {
        return Err(detail(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The request's body is too large.",
        ));
    }
    let header = request.headers().get(CONTENT_TYPE);
    let content_type = header.map_or("", |value| value.to_str().unwrap_or(""));
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    match media_type.to_ascii_lowercase().as_str() {
        "application/x-www-form-urlencoded" => Ok(Data::Form(
            form_urlencoded::parse(&received.bytes)
                .into_owned()
                .collect(),
        )),
        "application/json" => object(&received.bytes).map(Data::Json),
        _ => Err(detail(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("Unsupported media type \"{content_type}\" in request."),
        )),
    }
}

fn object(bytes: &[u8]) -> Result<serde_json::Map<String, Value>, Unusable> {
    let python_type = match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => return Ok(map),
        Ok(Value::Null) => return Err(non_field("No data provided")),
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::String(_)) => "str",
        Ok(Value::Array(_)) => "list",
        Ok(Value::Number(number)) if number.is_f64() => "float",
        Ok(Value::Number(_)) => "int",
        Err(error) => {
            let text = format!("JSON parse error - {error}");
            return Err(detail(StatusCode::BAD_REQUEST, &text));
        }
    };
    Err(non_field(&format!(
        "Invalid data. Expected a dictionary, but got {python_type}."
    )))
}

fn non_field(text: &str) -> Unusable {
    let body = format!(r#"{{"non_field_errors":["{text}"]}}"#);
    Unusable(StatusCode::BAD_REQUEST, body)
}

fn detail(status: StatusCode, text: &str) -> Unusable {
    Unusable(status, format!(r#"{{"detail":{}}}"#, Value::from(text)))
}
