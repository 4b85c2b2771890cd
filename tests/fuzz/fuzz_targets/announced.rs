//! PROXY protocol headers, as the program reads them and as their specification has them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../inbound/announced_model.rs"]
mod announced_model;

fuzz_target!(|input: &[u8]| announced_model::judge(input));
