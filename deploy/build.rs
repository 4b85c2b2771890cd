//! For builds that are shipped: has the linker lay together what a start and ordinary requests run,
//! see `layout.ld`, and pack relocations; names the commit that they are built from.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=deploy/layout.ld");
    // What has names in it is for profilers, of which valgrind reads those of .text alone.
    let is_shipped = is("PROFILE", "release") && is("DEBUG", "false");
    if is_shipped && let Some(commit) = commit() {
        println!("cargo::rustc-env=REGENT_COMMIT={commit}");
    }
    if is_shipped && is("CARGO_CFG_TARGET_OS", "linux") {
        let root = env!("CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{root}/deploy/layout.ld");
        if reads_packed_relocations() {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
}

/// Whether the C library does: glibc from 2.36 on (DT_RELR). They are 0.3 MiB otherwise. Where it is
/// built for another machine, that is not known.
fn reads_packed_relocations() -> bool {
    if variable("HOST") != variable("TARGET") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return false;
    }
    // "glibc 2.36"
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned());
    let version = said.unwrap_or_default();
    let minor = version.trim().strip_prefix("glibc 2.");
    minor
        .and_then(|minor| minor.parse().ok())
        .is_some_and(|minor: u32| minor >= 36)
}

/// `REGENT_COMMIT`, else what git says; `None` where neither is there, as in a source archive.
fn commit() -> Option<String> {
    println!("cargo::rerun-if-env-changed=REGENT_COMMIT");
    let commit = variable("REGENT_COMMIT").filter(|commit| !commit.is_empty());
    let commit = commit.or_else(of_git)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
    assert!(
        commit.bytes().all(is_plain),
        "REGENT_COMMIT is no commit: write one such as 0123456789ab"
    );
    Some(commit)
}

fn of_git() -> Option<String> {
    // An archive may lie within another project's repository.
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join(".git").exists() {
        return None;
    }
    // The log of HEAD grows with every commit and checkout; without it, there is what HEAD points to.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"]
        .into_iter()
        .chain(branch.as_deref())
    {
        if let Some(path) = git(&["rev-parse", "--git-path", name])
            && Path::new(&path).exists()
        {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let mut git = Command::new("git");
    let said = git
        .arg("-C")
        .arg(env!("CARGO_MANIFEST_DIR"))
        .args(arguments)
        .output()
        .ok()?;
    let said = said.status.success().then_some(said.stdout)?;
    Some(String::from_utf8(said).ok()?.trim().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "cargo says so what it builds; the program's own environment is another"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn is(name: &str, wanted: &str) -> bool {
    variable(name).is_some_and(|value| value == wanted)
}
