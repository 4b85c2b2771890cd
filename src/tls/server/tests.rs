use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;
use crate::files::OsFiles;

/// A listener's files in a folder of their own.
struct Case {
    folder: TempDir,
    paths: Paths,
}

/// A certificate for `name` that vouches for itself, and its key.
fn pair(name: &str) -> (String, String) {
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("signed");
    (cert.pem(), key.serialize_pem())
}

impl Case {
    fn new((cert, key): &(String, String)) -> Case {
        let folder = tempfile::tempdir().expect("a folder");
        let paths = Paths {
            cert: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            client_ca: None,
        };
        let case = Case { folder, paths };
        case.write("tls.crt", cert);
        case.write("tls.key", key);
        case
    }

    fn write(&self, name: &str, contents: &str) {
        fs::write(self.folder.path().join(name), contents).expect("a file");
    }

    fn load(&self) -> Result<(Handle, Follower), Vec<Error>> {
        load(Arc::new(OsFiles), self.paths.clone())
    }

    /// The only thing that is wrong.
    fn error(&self, why: &str) -> Error {
        let mut errors = self.load().expect_err(why);
        assert_eq!(errors.len(), 1, "{why}: {errors:?}");
        errors.remove(0)
    }
}

#[test]
fn what_is_wrong_with_a_pair_is_said_with_its_setting_and_its_file() {
    let (one, other) = (pair("one.example"), pair("other.example"));
    let cut = &one.0[..one.0.len() / 2];
    for (cert, key, setting, expected) in [
        ("", &*one.1, "cert_file", "has no certificate"),
        (cut, &*one.1, "cert_file", "no whole PEM"),
        (&*one.1, &*one.1, "cert_file", "has no certificate"),
        (&*one.0, "", "key_file", "has no private key"),
        (&*one.0, &*one.0, "key_file", "has no private key"),
        (
            &*one.0,
            &*other.1,
            "key_file",
            "is not the key of the certificate",
        ),
        (
            &*one.0,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "key_file",
            "openssl",
        ),
        (
            &*one.0,
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "key_file",
            "no key that TLS can use",
        ),
    ] {
        let case = Case::new(&(cert.to_owned(), key.to_owned()));
        let error = case.error(expected);
        assert_eq!(error.setting, setting, "{expected}");
        let said = error.to_string();
        assert!(said.contains(expected), "{said}");
        let folder = case.folder.path().to_string_lossy();
        assert!(said.contains(&*folder), "{said}");
        let secret = one.1.lines().nth(1).expect("a line of the key");
        assert!(!format!("{said} {error:?}").contains(secret), "{said}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let case = Case::new(&pair("one.example"));
    for (name, setting) in [("tls.crt", "cert_file"), ("tls.key", "key_file")] {
        let path = case.folder.path().join(name);
        let kept = fs::read(&path).expect("there");
        fs::remove_file(&path).expect("there");
        let error = case.error("missing");
        assert_eq!(error.setting, setting);
        fs::write(path, kept).expect("written");
    }
    let mut paths = case.paths.clone();
    paths.client_ca = Some(case.folder.path().join("ca.crt"));
    let errors = load(Arc::new(OsFiles), paths).expect_err("missing");
    assert_eq!(settings(&errors), ["client_ca_file"]);
}

fn settings(errors: &[Error]) -> Vec<&'static str> {
    errors.iter().map(|error| error.setting).collect()
}

#[test]
fn all_that_is_wrong_with_the_files_is_told_at_once() {
    let mut case = Case::new(&(String::new(), "no key".to_owned()));
    let all = ["cert_file", "key_file", "client_ca_file"];
    case.paths.client_ca = Some(case.folder.path().join("ca.crt"));
    assert_eq!(settings(&case.load().expect_err("no CA")), all);
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(case.folder.path().join(name)).expect("there");
    }
    assert_eq!(settings(&case.load().expect_err("none is there")), all);
}

#[test]
fn a_changed_pair_is_taken_and_half_a_change_is_not() {
    let (one, other) = (pair("one.example"), pair("other.example"));
    let case = Case::new(&one);
    let (handle, mut follower) = case.load().expect("a pair");
    let first = handle.config();
    follower.look();
    assert!(Arc::ptr_eq(&first, &handle.config()), "nothing changed");

    case.write("tls.crt", &other.0);
    follower.look();
    assert!(Arc::ptr_eq(&first, &handle.config()));
    let trouble = handle.trouble().expect("a mismatch");
    assert!(trouble.contains("inbound.tls.key_file"), "{trouble}");

    case.write("tls.key", &other.1);
    follower.look();
    assert!(!Arc::ptr_eq(&first, &handle.config()));
    assert_eq!(handle.trouble(), None);
}

#[test]
fn a_pair_that_comes_back_ends_the_trouble() {
    let one = pair("one.example");
    let case = Case::new(&one);
    let (handle, mut follower) = case.load().expect("a pair");
    fs::remove_file(&case.paths.key).expect("there");
    follower.look();
    assert!(handle.trouble().is_some());
    case.write("tls.key", &one.1);
    follower.look();
    assert_eq!(handle.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_followed_for_a_policy_that_is_gone() {
    let case = Case::new(&pair("one.example"));
    let (handle, follower) = case.load().expect("a pair");
    drop(handle);
    let ended = tokio::time::timeout(POLL, follower.run());
    ended.await.expect("it ends");
}
