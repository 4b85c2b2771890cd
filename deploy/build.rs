//! Has the linker lay together what a start and ordinary requests run, see `layout.ld`.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=deploy/layout.ld");
    let is = |name, wanted| env::var(name).is_ok_and(|value| value == wanted);
    // What has names in it is for profilers, of which valgrind reads those of .text alone.
    let is_shipped = is("PROFILE", "release") && is("DEBUG", "false");
    if is_shipped && is("CARGO_CFG_TARGET_OS", "linux") {
        let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{root}/deploy/layout.ld");
    }
}
