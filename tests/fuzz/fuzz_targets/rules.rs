//! Paths against rules, as the program matches them and as servers read them.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../inbound/paths_model.rs"]
mod paths_model;

fuzz_target!(|input: &[u8]| paths_model::judge(input));
