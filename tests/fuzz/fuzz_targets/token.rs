//! The strict reading of a token beside a second reader's.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../jwt/models"]
mod models {
    mod base64url;
    mod json;
    pub(crate) mod token;
}

fuzz_target!(|input: &[u8]| models::token::judge(input));
