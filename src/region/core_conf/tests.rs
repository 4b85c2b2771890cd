use super::*;

/// As `configparser.RawConfigParser` of Python 3.11 wrote it.
const WRITTEN: &str = "[k8s]\ndefault_region_key = alice@practicus.example.com\n\n\
[k8s_config_0]\nhost_url = https://practicus.example.com\nemail = alice@example.com\n\
username = alice\nrefresh_token = eyJ.a-b_c.d=\ncluster_name = \nregion_name = \n\n\
[k8s_config_1]\nhost_url = http://Local.example:8443\nemail = bob@example.com\n\
password = gAAAA=: x ; y%%\nrefresh_token = tokenB\n\n";

fn token(text: &str, key: Option<&str>) -> Result<String, Error> {
    read(text, key).map(|entry| entry.refresh_token.expose().to_owned())
}

#[test]
fn the_files_own_default_is_read() {
    let entry = read(WRITTEN, None).expect("an entry");
    assert_eq!(entry.host_url.as_str(), "https://practicus.example.com/");
    assert_eq!(entry.email.as_deref(), Some("alice@example.com"));
    assert_eq!(entry.username, "alice");
    assert_eq!(entry.refresh_token.expose(), "eyJ.a-b_c.d=");
}

#[test]
fn a_region_is_found_by_its_key() {
    // The name is the email's where there is none, as in the SDK.
    for key in ["bob@local.example:8443", "bob@Local.example:8443/"] {
        let entry = read(WRITTEN, Some(key)).expect(key);
        assert_eq!(entry.refresh_token.expose(), "tokenB");
        assert_eq!(entry.username, "bob");
    }
}

#[test]
fn a_region_that_is_not_there_is_answered_with_those_that_are() {
    for key in [
        "alice@local.example:8443",
        "Alice@practicus.example.com",
        "bob@local.example",
    ] {
        let error = read(WRITTEN, Some(key)).expect_err(key);
        assert_eq!(
            error,
            Error::NotFound {
                key: key.into(),
                found: vec![
                    "alice@practicus.example.com".into(),
                    "bob@Local.example:8443".into()
                ],
            }
        );
        let said = error.to_string();
        assert!(said.contains("alice@practicus.example.com, bob@"), "{said}");
    }
}

/// Each line says what `configparser` makes of the text (with a default of `a@x.example` where it
/// matters), or that we are stricter.
#[test]
fn the_file_is_read_as_configparser_reads_it() {
    let with = |rest: &str| format!("[k8s_config_0]\nhost_url = https://x.example\n{rest}");
    for (rest, expected) in [
        ("username = a\nrefresh_token = t\n", "t"),
        ("username: a\nrefresh_token:t", "t"),
        ("USERNAME = a\nRefresh_Token = t\n", "t"),
        (
            "username = a\nrefresh_token = a;b#c%d%%e\\n\"f'g\n",
            "a;b#c%d%%e\\n\"f'g",
        ),
        (
            "# refresh_token = no\n  ; x = y\nusername = a\nrefresh_token = t\n",
            "t",
        ),
        (
            "note = line one\n\tline two\n\t\n\tline four\nusername = a\nrefresh_token = t\n",
            "t",
        ),
        ("username = a\n\n\nrefresh_token = t\n\n\n", "t"),
        ("username = a\r\nrefresh_token = t\r\n", "t"),
        (
            "username = a\nrefresh_token = t\n  # a comment in the value's place\n",
            "t",
        ),
        (
            "username = a\nregion_name = \nrefresh_token = t\n[other]\nrefresh_token = o\n",
            "t",
        ),
        ("refresh_token = t\n[DEFAULT]\nusername = a\n", "t"),
        ("username = a\n[DEFAULT]\nrefresh_token = d\n", "d"),
    ] {
        let text = with(rest);
        assert_eq!(
            token(&text, Some("a@x.example")).as_deref(),
            Ok(expected),
            "{rest:?}"
        );
    }
    for (rest, expected) in [
        (
            "refresh_token = t\nREFRESH_TOKEN = u\nusername = a\n",
            "twice",
        ),
        (
            "username = a\nrefresh_token = t\n[k8s_config_0]\nx = y\n",
            "twice",
        ),
        ("username\nrefresh_token = t\n", "no \"=\""),
        ("username = a\nrefresh_token\n", "cannot be read"),
        ("username = a\nrefresh_token = t\n= 1\n", "cannot be read"),
        ("username = a\nrefresh_token = \n", "missing"),
        ("username = a\n", "missing"),
        // Legal there, and never what a token is.
        (
            "username = a\nrefresh_token = t\n  u\n",
            "more than one line",
        ),
        ("username = a\nrefresh_token = t ; comment\n", "white space"),
    ] {
        let text = with(rest);
        let error = token(&text, Some("a@x.example"))
            .expect_err(rest)
            .to_string();
        assert!(error.contains(expected), "{rest:?}: {error}");
    }
    for text in [
        "a = 1\n[k8s_config_0]\n",
        "[k8s_config_0\na = 1\n",
        "\u{feff}[k8s]\na = 1\n",
    ] {
        let error = read(text, None).expect_err(text);
        assert!(matches!(error, Error::Syntax(_)), "{text:?}: {error:?}");
    }
}

#[test]
fn without_a_default_the_only_region_is_taken_and_several_are_not() {
    let one = "[k8s_config_7]\nhost_url = https://x.example/\nusername = a\nrefresh_token = t\n";
    assert_eq!(token(one, None).as_deref(), Ok("t"));
    let with_empty = format!("[k8s]\ndefault_region_key = \n{one}");
    assert_eq!(token(&with_empty, None).as_deref(), Ok("t"));

    let two = format!("{one}[k8s_config_8]\nhost_url = https://y.example\nusername = b\n");
    let error = read(&two, None).expect_err("which one?");
    assert!(
        error.to_string().contains("a@x.example, b@y.example"),
        "{error}"
    );

    let same = format!("{one}[k8s_config_8]\nhost_url = http://x.example\nusername = a\n");
    let error = read(&same, Some("a@x.example")).expect_err("which one?");
    assert!(matches!(error, Error::Ambiguous { .. }), "{error:?}");

    for text in [
        "",
        "[k8s]\ndefault_region_key = a@x.example\n",
        "[k8s_config_x]\na = 1\n",
    ] {
        assert_eq!(read(text, None).expect_err(text), Error::NoRegion);
    }
}

#[test]
fn a_url_that_is_none_is_refused() {
    for url in [
        "practicus.example.com",
        "file:///etc/passwd",
        "ftp://x.example",
        "https://",
    ] {
        let text = format!("[k8s_config_0]\nhost_url = {url}\nusername = a\nrefresh_token = t\n");
        let error = read(&text, None).expect_err(url);
        assert!(matches!(error, Error::BadEntry { .. }), "{url}: {error:?}");
    }
}

#[test]
fn no_secret_is_printed() {
    const CANARY: &str = "canary4711";
    let good = WRITTEN
        .replace("eyJ.a-b_c.d=", CANARY)
        .replace("gAAAA", CANARY);
    assert!(!format!("{:?}", read(&good, None).expect("an entry")).contains(CANARY));
    for text in [
        good.replace(
            "host_url = https://",
            &format!("host_url = https://alice:{CANARY}@"),
        ),
        good.replace("refresh_token = ", "refresh_token "),
        good.replace("refresh_token = ", "refresh_token = a "),
        good.replace("email", "refresh_token"),
        format!("{CANARY}\n{good}"),
        format!("{good}{CANARY}"),
    ] {
        for key in [None, Some("nobody@x.example")] {
            let shown = match read(&text, key) {
                Ok(entry) => format!("{entry:?}"),
                Err(error) => format!("{error} {error:?}"),
            };
            assert!(!shown.contains(CANARY), "{shown}");
        }
    }
}
