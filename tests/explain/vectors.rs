//! The examples of the RFCs, through the functions that the command calls.

use regent::cli::explain::{by_keys, by_signature};
use regent::jwt::key_set::KeySet;
use regent::reason::Reason;
use serde_json::{Value, json};

use crate::world::now;

/// A token, and the key that signed it.
struct Vector {
    name: &'static str,
    key: Value,
    token: String,
}

fn vectors() -> [Vector; 3] {
    // RFC 7515 appendix A.2.1 and A.3.1; RFC 8037 appendix A.1 and A.4.
    let joe = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let n = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    [
        Vector {
            name: "RFC 7515 A.2",
            key: json!({"kty": "RSA", "n": n, "e": "AQAB"}),
            token: format!(
                "eyJhbGciOiJSUzI1NiJ9.{joe}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            ),
        },
        Vector {
            name: "RFC 7515 A.3",
            key: json!({
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            token: format!(
                "eyJhbGciOiJFUzI1NiJ9.{joe}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        },
        Vector {
            name: "RFC 8037 A.4",
            key: json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
            token: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg".to_owned(),
        },
    ]
}

fn set(key: &Value) -> KeySet {
    KeySet::from_any(key.to_string().as_bytes()).expect("a usable key")
}

fn reason(explanation: &regent::cli::explain::Explanation) -> Option<Reason> {
    explanation.refused.as_ref().map(|(reason, _)| *reason)
}

#[test]
fn the_signatures_of_the_rfcs_are_good_whatever_they_are_over() {
    for Vector { name, key, token } in vectors() {
        let told = by_signature(token.as_bytes(), &set(&key), now());
        assert!(told.is_accepted(), "{name}: {}", told.text());
        assert!(
            told.text().contains(" ok signature    good"),
            "{}",
            told.text()
        );
        let (input, _) = token.rsplit_once('.').expect("three parts");
        assert!(!told.text().contains(input) && !told.json().contains(input));
    }
}

#[test]
fn a_signature_over_something_else_is_refused_with_the_keys_that_were_tried() {
    for Vector { name, key, token } in vectors() {
        // One character of the payload; the last one could leave bits that mean nothing.
        let at = token.find('.').expect("three parts") + 2;
        let other = if &token[at..=at] == "A" { "B" } else { "A" };
        let mut forged = token.clone();
        forged.replace_range(at..=at, other);
        let told = by_signature(forged.as_bytes(), &set(&key), now());
        assert_eq!(reason(&told), Some(Reason::BadSignature), "{name}");
        assert!(
            told.advice
                .iter()
                .any(|line| line.contains("the keys here")),
            "{name}"
        );
    }
}

#[test]
fn another_vectors_key_signed_none_of_them() {
    let all = vectors();
    for (at, vector) in all.iter().enumerate() {
        let other = &all[(at + 1) % all.len()];
        let told = by_signature(vector.token.as_bytes(), &set(&other.key), now());
        assert_eq!(reason(&told), Some(Reason::UnknownKey), "{}", vector.name);
    }
}

#[test]
fn with_keys_alone_the_kind_and_the_times_are_judged_too() {
    let [rsa, _, ed25519] = vectors();
    let told = by_keys(rsa.token.as_bytes(), set(&rsa.key), now());
    assert_eq!(reason(&told), Some(Reason::MissingClaim), "{}", told.text());
    assert!(told.notes.iter().any(|note| note.contains("--keys")));
    let told = by_keys(ed25519.token.as_bytes(), set(&ed25519.key), now());
    assert_eq!(reason(&told), Some(Reason::MalformedToken), "it is no JWT");
}
