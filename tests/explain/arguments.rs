//! What `login` and `token` make of their arguments.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

fn regent(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_regent"))
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(b"sesame\n");
    let Output { status, stderr, .. } = child.wait_with_output().expect("it ends");
    (status.code(), String::from_utf8(stderr).expect("text"))
}

#[test]
fn a_plain_region_is_logged_in_to_where_the_config_allows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("login.json").display().to_string();
    let login = |more: &[&str]| {
        let login = ["login", "--region", "http://region.example"];
        let who = ["--email", "a@example.com", "--password-stdin"];
        // Nobody listens there: nothing is asked of any network.
        let way = ["--set", "region.proxy=http://127.0.0.1:1"];
        let all = [&login[..], &who, &way, &["--store", &store], more].concat();
        regent(&all, &[])
    };
    let (code, said) = login(&[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("region.insecure_http=true"), "{said}");
    let (code, said) = login(&["--set", "region.insecure_http=true"]);
    assert_eq!(code, Some(4), "{said}");
    let config = folder.path().join("plain.toml");
    std::fs::write(&config, "[region]\ninsecure_http = true\n").expect("a file");
    let (code, said) = login(&["-c", &config.display().to_string()]);
    assert_eq!(code, Some(4), "{said}");
}

#[test]
fn a_store_that_cannot_be_used_is_named_with_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let broken = folder.path().join("broken.json").display().to_string();
    let absent = folder.path().join("absent.json").display().to_string();
    std::fs::write(&broken, "{").expect("a file");
    for (store, why) in [
        (&broken, "it is not what `regent login` writes"),
        (&absent, "No such file"),
    ] {
        let (code, said) = regent(&["token", "--store", store], &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(store) && said.contains(why), "{said}");
    }
    let (code, said) = regent(&["token"], &[("HOME", "/nonexistent")]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no region is known"), "{said}");
}
