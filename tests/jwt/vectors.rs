//! The published examples of RFC 7515 and RFC 8037, through the code that `regent explain
//! --signature-only` runs.

use regent::jwt::key_set::KeySet;
use regent::jwt::verifier::verify_signature_only;
use regent::reason::Reason;
use serde_json::json;

use crate::signer::b64;

struct Vector {
    name: &'static str,
    jwk: serde_json::Value,
    input: &'static str,
    signature: &'static str,
}

fn vectors() -> [Vector; 3] {
    [
        Vector {
            name: "RFC 7515 appendix A.2, RS256",
            jwk: json!({
                "kty": "RSA",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
                "e": "AQAB",
            }),
            input: "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            signature: "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        },
        Vector {
            name: "RFC 7515 appendix A.3, ES256",
            jwk: json!({
                "kty": "EC",
                "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            input: "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            signature: "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        },
        Vector {
            name: "RFC 8037 appendix A.4, EdDSA over plain text",
            jwk: json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
            }),
            input: "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            signature: "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        },
    ]
}

fn judge(jwk: &serde_json::Value, token: &str) -> Result<(), Reason> {
    let keys = KeySet::from_any(jwk.to_string().as_bytes()).expect("the standard's key");
    verify_signature_only(token.as_bytes(), &keys, &mut ()).map_err(|rejection| rejection.reason)
}

#[test]
fn the_examples_of_the_standards_are_accepted() {
    for vector in vectors() {
        let token = format!("{}.{}", vector.input, vector.signature);
        assert_eq!(judge(&vector.jwk, &token), Ok(()), "{}", vector.name);
    }
}

#[test]
fn the_examples_with_another_payload_or_key_are_refused() {
    let vectors = vectors();
    for vector in &vectors {
        let (header, _) = vector.input.split_once('.').expect("two parts");
        let token = format!("{header}.{}.{}", b64("other"), vector.signature);
        assert_eq!(judge(&vector.jwk, &token), Err(Reason::BadSignature));
        let token = format!("{}.{}", vector.input, vector.signature);
        let others = vectors.iter().filter(|other| other.name != vector.name);
        for other in others {
            assert_eq!(judge(&other.jwk, &token), Err(Reason::UnknownKey));
        }
    }
}

#[test]
fn a_signature_alone_is_judged_as_strictly_as_a_token() {
    let [vector, ..] = vectors();
    let (_, payload) = vector.input.split_once('.').expect("two parts");
    let token = |header: &str| format!("{}.{payload}.{}", b64(header), vector.signature);
    for (header, reason) in [
        (r#"{"alg":"none"}"#, Reason::AlgorithmNotAllowed),
        (r#"{"alg":"HS256"}"#, Reason::AlgorithmNotAllowed),
        (
            r#"{"alg":"RS256","crit":["b64"]}"#,
            Reason::UnsupportedCriticalHeader,
        ),
        (r#"{"alg":"RS256","alg":"RS256"}"#, Reason::DuplicateMember),
        (r#"{"alg":"ES256"}"#, Reason::UnknownKey),
        (r#"{"alg":"RS512"}"#, Reason::BadSignature),
        ("{}", Reason::MalformedToken),
    ] {
        assert_eq!(judge(&vector.jwk, &token(header)), Err(reason), "{header}");
    }
    let unsigned = format!("{}.", vector.input);
    assert_eq!(judge(&vector.jwk, &unsigned), Err(Reason::MalformedToken));
}
