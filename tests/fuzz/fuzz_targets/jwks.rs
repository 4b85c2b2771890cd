//! The judging of JWK sets beside a second judge's.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../jwt/models"]
mod models {
    mod base64url;
    mod field;
    #[allow(dead_code, reason = "tokens use the rest")]
    mod json;
    pub(crate) mod jwks;
}

fuzz_target!(|input: &[u8]| models::jwks::judge(input));
