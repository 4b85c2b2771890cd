//! What the fields make of their values.

use std::path::Path;

use regent::config::{Environment, Listen, LogFormat, StateAt};

use crate::Case;

#[test]
fn the_implicit_rungs_are_there_where_none_is_named() {
    let credential = |case: Case| case.load().config.region.credential;
    let none = credential(Case::new());
    assert!(none.implicit);
    assert_eq!(none.refresh_token_env, Some(("PRT_TOKEN".to_owned(), None)));
    assert_eq!(
        none.login_file,
        Some("/home/alice/.local/state/regent/login.json".into())
    );

    let xdg = credential(Case::new().env(&[("XDG_STATE_HOME", "/state"), ("PRT_TOKEN", " t\n")]));
    assert_eq!(xdg.login_file, Some("/state/regent/login.json".into()));
    assert_eq!(xdg.state_home, Some("/state/regent".into()));
    let token = xdg
        .refresh_token_env
        .and_then(|(_, token)| token)
        .expect("a token");
    assert_eq!(token.expose(), "t");

    let blank = credential(Case::new().env(&[("PRT_TOKEN", " \n")]));
    assert_eq!(blank.refresh_token_env, none.refresh_token_env);

    let relative = credential(Case::new().env(&[("XDG_STATE_HOME", "state")]));
    assert_eq!(
        relative.state_home,
        Some("/home/alice/.local/state/regent".into())
    );

    let rungs = [
        "refresh_token_file='/f'",
        "refresh_token_env='OTHER'",
        "login_file='/f'",
        "core_conf='/f'",
        "access_token_file='/f'",
        "email='a@b'\npassword_file='/f'",
    ];
    for rung in rungs {
        let text = format!("[region.credential]\n{rung}");
        let named = credential(Case::toml(text).env(&[("PRT_TOKEN", "t"), ("OTHER", "")]));
        assert!(!named.implicit, "{rung}");
        assert!(
            named
                .refresh_token_env
                .is_none_or(|(name, token)| name == "OTHER" && token.is_none())
        );
        assert!(named.login_file.is_none_or(|file| file == Path::new("/f")));
    }
    let state = credential(Case::toml(
        "[region.credential]\nstate='memory'\nallow_identity_change=true",
    ));
    assert!(state.implicit && state.state == Some(StateAt::Memory));
}

#[test]
fn without_a_home_there_is_no_login_to_look_for() {
    let mut case = Case::toml("[outbound]\nlisten = 'unix:/s'\n");
    case.sources.env = Environment::default();
    let credential = case.load().config.region.credential;
    assert_eq!((credential.login_file, credential.state_home), (None, None));
    let mut case = Case::toml("[region]\nca_file = '~/ca.pem'\n");
    case.sources.env = Environment::default();
    assert!(case.problems()[0].contains("HOME is not set; write the whole path"));
}

#[test]
fn a_tilde_is_the_home() {
    let text = "[region.credential]\nstate = 'file:~/s.json'\ncore_conf = '~/.practicus/core.conf'";
    let credential = Case::toml(text).load().config.region.credential;
    assert_eq!(
        credential.state,
        Some(StateAt::File("/home/alice/s.json".into()))
    );
    assert_eq!(
        credential.core_conf,
        Some("/home/alice/.practicus/core.conf".into())
    );
}

#[test]
fn a_relative_path_counts_from_the_working_directory() {
    let text = "[region]\nca_file = 'ca.pem'\n[region.credential]\nstate = 'file:s.json'";
    let region = Case::toml(text).load().config.region;
    let here = std::env::current_dir().expect("a working directory");
    assert_eq!(region.ca_file, Some(here.join("ca.pem")));
    let state = StateAt::File(here.join("s.json"));
    assert_eq!(region.credential.state, Some(state));
    let problems = Case::new().named("nowhere.toml").problems();
    let tried = format!("; tried {:?}", here.join("nowhere.toml"));
    assert!(problems[0].ends_with(&tried), "{problems:?}");
}

#[test]
fn a_listener_is_an_address_or_a_socket() {
    let listen = |text: &str| {
        Case::toml(format!("[outbound]\n{text}"))
            .load()
            .config
            .outbound
            .expect("outbound")
            .listen
    };
    let tcp = |text: &str| Listen::Tcp(text.parse().expect("an address"));
    assert_eq!(listen("listen = 'localhost:0'"), tcp("127.0.0.1:0"));
    assert_eq!(listen("listen = '[::1]:81'"), tcp("[::1]:81"));
    assert_eq!(listen("listen = '127.8.0.1:81'"), tcp("127.8.0.1:81"));
    assert_eq!(
        listen("listen = '0.0.0.0:81'\nallow_non_loopback = true"),
        tcp("0.0.0.0:81")
    );
    let socket = |mode| Listen::Unix {
        path: "/run/r.sock".into(),
        mode,
    };
    assert_eq!(listen("listen = 'unix:/run/r.sock'"), socket(0o600));
    assert_eq!(
        listen("listen = 'unix:/run/r.sock'\nsocket_mode = '0660'"),
        socket(0o660)
    );
}

/// A path that is taken here and then cannot be bound would end `run` with 1.
#[test]
fn a_sockets_path_is_taken_up_to_the_length_that_can_be_bound() {
    let case = |len: usize| {
        let path = format!("/{}", "s".repeat(len - 1));
        Case::toml(format!("[outbound]\nlisten = 'unix:{path}'\n"))
    };
    assert!(case(103).load().config.outbound.is_some());
    let problems = case(104).problems();
    assert!(
        problems[0].contains("longer than the 103 bytes"),
        "{problems:?}"
    );
}

#[test]
fn plain_http_needs_loopback_or_a_switch_beside_it() {
    let fine = [
        "[region]\nurl = 'http://127.0.0.1:8000'",
        "[region]\nurl = 'http://localhost:8000'",
        "[region]\nurl = 'http://[::1]:8000'",
        "[region]\nurl = 'http://a.b'\ninsecure_http = true",
        "[outbound]\nupstream = 'http://a.b'\ninsecure_http = true",
        "[[outbound.routes]]\npath = '/a'\nupstream = 'http://a.b'\ninsecure_http = true",
        "[[outbound.routes]]\npath = '/a'\nupstream = 'http://a.b'\ntoken = 'none'",
        "[outbound]\nupstream = 'http://a.b'\n[[outbound.routes]]\npath = '/a'\ntoken = 'none'",
    ];
    for text in fine {
        assert_eq!(Case::toml(text).problems(), [""; 0], "{text}");
    }
    let refused = [
        "[region]\nurl = 'http://a.b'\n[outbound]\ninsecure_http = true",
        "[outbound]\nupstream = 'http://localhost.a.b'\n[region]\ninsecure_http = true",
        "[outbound]\nupstream = 'http://localhost'\ninsecure_http = true\n[[outbound.routes]]\npath = '/a'\nupstream = 'http://a.b'",
        "[outbound]\nupstream = 'http://a.b'\n[[outbound.routes]]\npath = '/a'",
    ];
    for text in refused {
        assert_eq!(Case::toml(text).problems().len(), 1, "{text}");
    }
}

#[test]
fn http_2_is_spoken_with_tls_or_without_it_and_the_word_says_which() {
    let inbound = |rest: &str| {
        format!(
            "[inbound]\nlisten = '[::]:8000'\n{rest}\n[inbound.issuers.home]\nissuer = 'i'\n\
             public_key_file = '/k'"
        )
    };
    let fine = [
        "[outbound]\nupstream = 'https://a.b'\nupstream_protocol = 'h2'".to_owned(),
        "[outbound]\nupstream = 'http://localhost'\nupstream_protocol = 'h2c'".to_owned(),
        // Nothing goes to the region: it need not be spoken to like that.
        "[region]\nurl = 'https://a.b'\n[outbound]\nupstream_protocol = 'h2c'\n\
         [[outbound.routes]]\npath = '/a'\nupstream = 'http://localhost'"
            .to_owned(),
        "[region]\nurl = 'https://a.b'\n[[outbound.routes]]\npath = '/a'\nupstream_protocol = 'h2'"
            .to_owned(),
        inbound("upstream = 'unix:/a'\nupstream_protocol = 'h2c'"),
        inbound("upstream = 'http://localhost:1'\nupstream_protocol = 'h1'"),
    ];
    for text in fine {
        assert_eq!(Case::toml(&text).problems(), [""; 0], "{text}");
    }
    let refused = [
        (
            "[outbound]\nupstream = 'http://localhost'\nupstream_protocol = 'h2'".to_owned(),
            "a.toml:3:21: outbound.upstream_protocol: \"h2\" needs an https:// upstream; write \
             \"h2c\" for HTTP/2 without TLS",
        ),
        (
            "[region]\nurl = 'https://a.b'\n[outbound]\nupstream_protocol = 'h2c'".to_owned(),
            "a.toml:4:21: outbound.upstream_protocol: \"h2c\" is HTTP/2 without TLS, and the \
             upstream is https://; write \"h2\"",
        ),
        (
            "[outbound]\nupstream = 'https://a.b'\nupstream_protocol = 'h2'\n[[outbound.routes]]\n\
             path = '/a'\nupstream = 'http://localhost'"
                .to_owned(),
            "a.toml:6:12: outbound.routes[0].upstream: \"h2\" needs an https:// upstream; write \
             \"h2c\" for HTTP/2 without TLS",
        ),
        (
            inbound("upstream = 'unix:/a'\nupstream_protocol = 'h2'"),
            "a.toml:4:21: inbound.upstream_protocol: \"h2\" needs an https:// upstream; write \
             \"h2c\" for HTTP/2 without TLS",
        ),
    ];
    for (text, problem) in refused {
        assert_eq!(Case::toml(&text).problems(), [problem], "{text}");
    }
}

#[test]
fn the_region_is_the_upstream_where_none_is_named() {
    let case = Case::toml("[region]\nurl = 'https://a.b/c'");
    let upstream = case.load().config.outbound.expect("outbound").upstream;
    assert_eq!(upstream.map(String::from).as_deref(), Some("https://a.b/c"));
    assert_eq!(case.row("outbound.upstream").0, "\"https://a.b/c\"");
}

#[test]
fn the_log_is_text_on_a_terminal() {
    let mut case = Case::new();
    assert_eq!(case.load().config.log.format, LogFormat::Json);
    case.sources.terminal = true;
    assert_eq!(case.load().config.log.format, LogFormat::Text);
    assert_eq!(
        case.set("log.format=json").load().config.log.format,
        LogFormat::Json
    );
}

#[test]
fn auto_threads_are_at_least_one() {
    let case = Case::toml("threads = 'auto'");
    assert!(case.load().config.threads >= 1);
    assert_eq!(case.row("threads").0, "\"auto\"");
}
