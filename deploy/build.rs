//! Has the linker lay together what a start and ordinary requests run, see `layout.ld`.

fn main() {
    println!("cargo::rerun-if-changed=deploy/layout.ld");
    // What has names in it is for profilers, of which valgrind reads those of .text alone.
    let is_shipped = is("PROFILE", "release") && is("DEBUG", "false");
    if is_shipped && is("CARGO_CFG_TARGET_OS", "linux") {
        let root = env!("CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{root}/deploy/layout.ld");
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo says so what it builds; the program's own environment is another"
)]
fn is(name: &str, wanted: &str) -> bool {
    std::env::var(name).is_ok_and(|value| value == wanted)
}
