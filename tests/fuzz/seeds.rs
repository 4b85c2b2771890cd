//! The seeds of a fuzz target, for the tests that run them without a fuzzer.

use std::path::Path;

/// Calls `judge` with each seed of a target.
///
/// # Panics
/// There is none, or it cannot be read.
pub(crate) fn each(target: &str, judge: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut count = 0;
    for entry in folder
        .join(target)
        .read_dir()
        .expect("the target has a folder")
    {
        let path = entry.expect("the folder can be read").path();
        // What a fuzzer has added on this machine has no name of ours.
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.starts_with("seed-")) {
            eprintln!("{}", path.display());
            judge(&std::fs::read(&path).expect("a file"));
            count += 1;
        }
    }
    assert!(count > 0, "{target} has no seed");
}
