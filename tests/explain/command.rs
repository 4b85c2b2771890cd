//! The built program: its exit codes, where the token comes from, and what it prints where.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::world::{Signer, World, claims};

/// Runs `regent explain` with these arguments and this on its standard input.
fn explain(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_regent"))
        .arg("explain")
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // It may end without reading.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn lasting() -> Value {
    let now = regent::clock::Clock::system().unix();
    json!({"iat": now - 5, "exp": now + 300})
}

#[test]
fn the_exit_code_tells_accepted_from_rejected_and_from_a_bad_config() {
    let world = World::new();
    let config = world.file("regent.toml").display().to_string();
    let good = world.home(lasting());
    let out = explain(&["-c", &config, "--path", "/admin?x=1"], &good);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    assert!(text(&out.stdout).contains("x-regent-user: alice"));

    let out = explain(&["-c", &config, "--json"], "not.a.token");
    assert_eq!(out.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert_eq!(told["reason"], "malformed_token");

    let out = explain(&["-c", &config, "--set", "inbound.nonsense=1"], &good);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));
    assert_eq!(text(&out.stdout), "");
    let out = explain(&["--set", "outbound.listen=127.0.0.1:1"], &good);
    assert_eq!(out.status.code(), Some(2));
    assert!(
        text(&out.stderr).contains("has no [inbound]"),
        "{}",
        text(&out.stderr)
    );
}

#[test]
fn the_token_may_come_from_a_file_with_what_people_copy_along() {
    let world = World::new();
    let config = world.file("regent.toml").display().to_string();
    let file = world.file("token.txt");
    let token = world.home(lasting());
    std::fs::write(&file, format!("Authorization: Bearer {token}\r\n")).expect("a file");
    let file = file.display().to_string();
    let out = explain(&["-c", &config, &file], "");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    let out = explain(&["-c", &config, "-"], &format!("bearer {token}\n"));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    let out = explain(&["-c", &config, &format!("{file}.missing")], "");
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn a_token_as_an_argument_is_refused_and_not_repeated() {
    let world = World::new();
    let config = world.file("regent.toml").display().to_string();
    let token = world.home(lasting());
    for arguments in [
        &["-c", &config, &token][..],
        &["-c", &config, &format!("Bearer {token}")],
        &["-c", &config, "Bearer", &token],
        &["-c", &config, "--", &token],
    ] {
        let out = explain(arguments, &token);
        assert_eq!(out.status.code(), Some(2));
        let said = text(&out.stderr);
        assert!(said.contains("never an argument"), "{said}");
        assert!(!said.contains(&token[3..20]), "{said}");
        assert_eq!(text(&out.stdout), "");
    }
}

#[test]
fn keys_stand_in_for_a_config() {
    let world = World::new();
    let signer = Signer::new();
    let file = world.file("key.json");
    std::fs::write(&file, signer.jwk("k").to_string()).expect("a file");
    let file = file.display().to_string();
    let header = json!({"alg": "EdDSA", "kid": "k"});
    let out = explain(&["--keys", &file], &signer.sign(&header, claims(lasting())));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));
    let asked = ["--keys", &file, "--path", "/x", "--method", "POST"];
    let out = explain(&asked, &signer.sign(&header, claims(lasting())));
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let told = text(&out.stdout);
    assert_eq!(
        told.matches("without a config there are none").count(),
        1,
        "{told}"
    );
    let plain = signer.sign(&header, "no claims at all");
    assert_eq!(explain(&["--keys", &file], &plain).status.code(), Some(1));
    let out = explain(&["--keys", &file, "--signature-only"], &plain);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stdout));

    std::fs::write(&file, "{}").expect("a file");
    assert_eq!(explain(&["--keys", &file], &plain).status.code(), Some(2));
    for wrong in [
        &["--signature-only"][..],
        &["--keys", &file, "-c", "x"],
        &["--keys", &file, "--path", "/"],
        &["--path", "admin"],
    ] {
        assert_eq!(explain(wrong, &plain).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn help_shows_an_example() {
    let out = explain(&["--help"], "");
    assert_eq!(out.status.code(), Some(0));
    assert!(text(&out.stdout).contains("regent token | regent explain -c regent.toml"));
}
