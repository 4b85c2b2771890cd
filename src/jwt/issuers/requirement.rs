//! A claim that must have one of some values.
//!
//! - Values are compared by type and exactly: `1` is not `"1"`, `true` not `"true"`. `1` is `1.0`:
//!   JSON has one kind of number.
//! - A claim that is a list matches by any of its elements.
//! - Only `scope` and `scp` are split, at spaces (RFC 6749 section 3.3).
//! - A name that begins with `/` is a JSON pointer (RFC 6901) into nested claims.

use serde_json::Value;

use super::Claims;

/// A claim that must have one of some values.
#[derive(Clone, Debug, PartialEq)]
pub struct Requirement {
    name: String,
    /// The name's steps into the claims.
    path: Vec<String>,
    accepted: Vec<Value>,
}

impl Requirement {
    /// A claim's name, or a JSON pointer (RFC 6901) where it begins with `/`.
    #[must_use]
    pub fn new(name: String, accepted: Vec<Value>) -> Requirement {
        let path = match name.strip_prefix('/') {
            None => vec![name.clone()],
            // The order matters: `~01` is `~1`, and no slash.
            Some(pointer) => pointer
                .split('/')
                .map(|step| step.replace("~1", "/").replace("~0", "~"))
                .collect(),
        };
        Requirement {
            name,
            path,
            accepted,
        }
    }

    /// What is wrong with a name: a pointer's `~` stands only in `~0` and `~1`.
    #[must_use]
    pub fn trouble(name: &str) -> Option<&'static str> {
        let is_pointer = name.starts_with('/');
        let mut escapes = name.split('~').skip(1);
        if name.is_empty() {
            Some("a claim needs a name")
        } else if is_pointer && escapes.any(|after| !after.starts_with(['0', '1'])) {
            Some("in a JSON pointer write ~ as ~0 and a / inside a name as ~1")
        } else {
            None
        }
    }

    /// The name as it was given.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The values that will do.
    #[must_use]
    pub fn accepted(&self) -> &[Value] {
        &self.accepted
    }

    /// The claim, where there is one.
    #[must_use]
    pub fn find<'a>(&self, claims: &'a Claims) -> Option<&'a Value> {
        let (first, rest) = self.path.split_first()?;
        rest.iter()
            .try_fold(claims.get(first)?, |value, step| match value {
                Value::Object(members) => members.get(step),
                Value::Array(items) => items.get(index(step)?),
                _ => None,
            })
    }

    /// Whether the claims have it.
    #[must_use]
    pub fn is_met(&self, claims: &Claims) -> bool {
        self.find(claims).is_some_and(|value| self.accepts(value))
    }

    fn accepts(&self, value: &Value) -> bool {
        if self.is_accepted(value) {
            return true;
        }
        match value {
            Value::Array(items) => items.iter().any(|item| self.is_accepted(item)),
            Value::String(words) if self.is_scope() => words
                .split(' ')
                .any(|word| self.accepted.iter().any(|accepted| accepted == word)),
            _ => false,
        }
    }

    fn is_scope(&self) -> bool {
        matches!(self.path.as_slice(), [name] if name == "scope" || name == "scp")
    }

    fn is_accepted(&self, value: &Value) -> bool {
        self.accepted
            .iter()
            .any(|accepted| is_same(accepted, value))
    }
}

/// RFC 6901 section 4: no sign, no leading zero.
fn index(step: &str) -> Option<usize> {
    let is_plain = step.bytes().all(|byte| byte.is_ascii_digit());
    (is_plain && (step == "0" || !step.starts_with('0')))
        .then(|| step.parse().ok())
        .flatten()
}

fn is_same(one: &Value, other: &Value) -> bool {
    /// Beyond this not every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if one == other {
        return true;
    }
    let (Some(one), Some(other)) = (one.as_number(), other.as_number()) else {
        return false;
    };
    if one.is_f64() == other.is_f64() {
        return false;
    }
    match (one.as_f64(), other.as_f64()) {
        #[expect(clippy::float_cmp, reason = "exactly is what is asked for")]
        (Some(one), Some(other)) => one == other && one.abs() < EXACT,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn is_met(name: &str, accepted: &Value, claims: &Value) -> bool {
        let accepted = accepted.as_array().expect("a list").clone();
        let claims = claims.as_object().expect("claims");
        Requirement::new(name.to_owned(), accepted).is_met(claims)
    }

    #[test]
    fn a_claim_is_compared_by_type_and_exactly() {
        let same = [
            (json!("admin"), json!("admin")),
            (json!(1), json!(1)),
            (json!(1), json!(1.0)),
            (json!(-1.0), json!(-1)),
            (json!(true), json!(true)),
            (json!(null), json!(null)),
            (json!({"a": 1}), json!({"a": 1})),
            (json!(["a", "b"]), json!(["a", "b"])),
            (json!(u64::MAX), json!(u64::MAX)),
        ];
        for (accepted, claim) in same {
            assert!(
                is_met("c", &json!([0, accepted]), &json!({"c": claim})),
                "{claim}"
            );
        }
        let different = [
            (json!("admin"), json!("Admin")),
            (json!("admin"), json!("admin ")),
            (json!("admin"), json!("user admin")),
            (json!("admin"), json!("administrator")),
            (json!("1"), json!(1)),
            (json!(1), json!("1")),
            (json!(true), json!("true")),
            (json!(true), json!(1)),
            (json!(false), json!(null)),
            (json!(""), json!(null)),
            (json!("a"), json!({"a": 1})),
            (json!("a"), json!([["a"]])),
            (json!("a"), json!([])),
            (
                json!(9_007_199_254_740_993_u64),
                json!(9_007_199_254_740_992.0),
            ),
        ];
        for (accepted, claim) in different {
            assert!(
                !is_met("c", &json!([accepted]), &json!({"c": claim})),
                "{claim}"
            );
        }
        assert!(
            !is_met("c", &json!([null]), &json!({})),
            "absent is not null"
        );
        assert!(!is_met("c", &json!([]), &json!({"c": 1})));
    }

    #[test]
    fn a_list_matches_by_any_element() {
        let groups = json!({"groups": ["a", 1, "b"]});
        assert!(is_met("groups", &json!(["b"]), &groups));
        assert!(is_met("groups", &json!([1]), &groups));
        assert!(!is_met("groups", &json!(["c", "1"]), &groups));
    }

    #[test]
    fn only_scopes_are_split_at_spaces() {
        for name in ["scope", "scp", "/scope"] {
            let claims = json!({"scope": "read  write", "scp": "read write"});
            assert!(is_met(name, &json!(["write"]), &claims), "{name}");
            assert!(!is_met(name, &json!(["wri"]), &claims), "{name}");
            assert!(!is_met(name, &json!(["WRITE"]), &claims), "{name}");
        }
        assert!(is_met(
            "scope",
            &json!(["read"]),
            &json!({"scope": ["read", "x"]})
        ));
        assert!(!is_met(
            "scope",
            &json!(["read"]),
            &json!({"scope": "readonly"})
        ));
        assert!(!is_met(
            "scope",
            &json!(["read"]),
            &json!({"scope": ["read x"]})
        ));
        assert!(!is_met(
            "role",
            &json!(["read"]),
            &json!({"role": "read write"})
        ));
        assert!(!is_met(
            "/a/scope",
            &json!(["b"]),
            &json!({"a": {"scope": "b c"}})
        ));
    }

    #[test]
    fn a_name_that_begins_with_a_slash_is_a_json_pointer() {
        let claims = json!({
            "realm_access": {"roles": ["admin"]},
            "a/b": {"c~d": "x", "~1": "y"},
            "https://e/roles": ["r"],
            "list": [{"x": 1}, 2],
            "": {"": "empty"},
        });
        for (name, accepted) in [
            ("/realm_access/roles", json!("admin")),
            ("/realm_access/roles/0", json!("admin")),
            ("/a~1b/c~0d", json!("x")),
            ("/a~1b/~01", json!("y")),
            ("/https:~1~1e~1roles", json!("r")),
            ("https://e/roles", json!("r")),
            ("/list/0/x", json!(1)),
            ("//", json!("empty")),
        ] {
            assert!(is_met(name, &json!([accepted]), &claims), "{name}");
        }
        for name in [
            "/realm_access/roles/1",
            "/realm_access/roles/00",
            "/realm_access/roles/+0",
            "/realm_access/roles/-",
            "/realm_access/roles/",
            "realm_access/roles",
            "/realm_access.roles",
            "/REALM_ACCESS/roles",
        ] {
            assert!(!is_met(name, &json!(["admin"]), &claims), "{name}");
        }
    }

    #[test]
    fn a_name_that_can_be_no_claim_is_named() {
        for name in ["role", "a~b", "/a~0b/~1", "/"] {
            assert_eq!(Requirement::trouble(name), None, "{name}");
        }
        for name in ["", "/a~b", "/~2", "/a~"] {
            assert!(Requirement::trouble(name).is_some(), "{name}");
        }
    }
}
