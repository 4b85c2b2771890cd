//! What `login`, `token`, `probe` and `quit` make of their arguments and variables.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
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

#[test]
fn the_admin_listener_is_spelled_as_in_the_config() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        }
    });
    let here = format!("localhost:{port}");
    for command in [&["probe", "live"][..], &["quit"]] {
        for variable in ["REGENT__ADMIN__LISTEN", "REGENT__admin__listen"] {
            for address in [
                &here,
                &format!("127.0.0.1:{port}"),
                &format!("0.0.0.0:{port}"),
            ] {
                let (code, said) = regent(command, &[(variable, address)]);
                assert_eq!(code, Some(0), "{variable}={address}: {said}");
            }
            let (code, said) = regent(command, &[(variable, "nonsense")]);
            assert_eq!(code, Some(2), "{said}");
            assert!(
                said.contains(variable) && said.contains("no port"),
                "{said}"
            );
        }
        let asked = [command, &["--admin", &here]].concat();
        let (code, said) = regent(&asked, &[("REGENT__ADMIN__LISTEN", "nonsense")]);
        assert_eq!(code, Some(0), "what is asked for wins: {said}");
        let asked = [command, &["--admin", "nonsense"]].concat();
        let (code, said) = regent(&asked, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("no port"), "{said}");
    }
    let twice = [
        ("REGENT__ADMIN__LISTEN", &*here),
        ("REGENT__admin__listen", &*here),
    ];
    let (code, said) = regent(&["probe", "live"], &twice);
    assert_eq!(code, Some(2), "{said}");
    // What else is wrong with a sidecar's variables is not a probe's business.
    let other = [("REGENT__ADMIN__LISTEN", &*here), ("REGENT__NONSENSE", "1")];
    let (code, said) = regent(&["probe", "live"], &other);
    assert_eq!(code, Some(0), "{said}");
}
