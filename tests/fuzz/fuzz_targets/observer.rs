//! hyper behind the observer, on any bytes: the first says in which pieces the rest arrives.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../outbound/differential.rs"]
mod differential;

fuzz_target!(|input: &[u8]| {
    if let [piece, bytes @ ..] = input {
        let piece = match piece {
            0 => bytes.len(),
            piece => usize::from(*piece),
        };
        differential::compare(bytes, piece);
    }
});
