//! hyper behind the observer, on any bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../outbound/differential.rs"]
mod differential;

fuzz_target!(|input: &[u8]| differential::judge(input));
