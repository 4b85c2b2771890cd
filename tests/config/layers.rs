//! Which source holds, and what a variable or a flag may say.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use regent::config::RouteToken;

use crate::Case;

#[test]
fn later_layers_win_and_check_says_which() {
    let base = || Case::toml("[drain]\ndelay = \"1s\"\ntimeout = \"2s\"\n");
    let second = || base().file("b.yaml", "drain:\n  delay: 3s\n");
    let variable = || second().env(&[("REGENT__DRAIN__DELAY", "4s")]);
    let flag = || variable().set("drain.delay=5s");
    let twice = || flag().set("drain.delay=6s");
    let table = [
        (Case::new(), "0s", "default"),
        (base(), "1s", "a.toml:2:9"),
        (second(), "3s", "b.yaml:2:10"),
        (variable(), "4s", "variable REGENT__DRAIN__DELAY"),
        (flag(), "5s", "--set drain.delay"),
        (twice(), "6s", "--set drain.delay"),
    ];
    for (case, value, origin) in table {
        assert_eq!(
            case.row("drain.delay"),
            (format!("{value:?}"), origin.to_owned())
        );
    }
    assert_eq!(twice().row("drain.timeout").1, "a.toml:3:11");
    assert_eq!(twice().load().config.drain.delay, Duration::from_secs(6));
}

#[test]
fn lists_are_replaced_as_a_whole() {
    let case = Case::toml("[outbound]\nhosts = ['a', 'b']\n[[outbound.routes]]\npath = '/a'\n[[outbound.routes]]\npath = '/b'\n")
        .env(&[("REGENT__OUTBOUND__HOSTS", r#"["c"]"#)])
        .set(r#"outbound.routes=[{"path": "/c", "methods": ["GET"], "token": "none"}]"#);
    let outbound = case.load().config.outbound.expect("outbound");
    assert_eq!(outbound.hosts, ["c"]);
    assert_eq!(outbound.routes.len(), 1);
    assert_eq!(outbound.routes[0].path, "/c");
    assert_eq!(outbound.routes[0].token, RouteToken::None);
    assert_eq!(
        case.row("outbound.routes[0].path").1,
        "--set outbound.routes"
    );
}

#[test]
fn a_word_stays_a_word_until_a_field_reads_it() {
    let case = Case::new()
        .env(&[
            ("REGENT__REGION__CREDENTIAL__CORE_CONF", "00123"),
            ("REGENT__REGION__CREDENTIAL__CORE_CONF_REGION", "true"),
            ("REGENT__LOG__ACCESS", "true"),
            ("REGENT__LIMITS__CONNECTIONS", "12"),
            ("REGENT__LIMITS__BODY_BYTES", "4096"),
            ("REGENT__OUTBOUND__RETRY_UNAUTHORIZED", "false"),
        ])
        .set("threads=2");
    let config = case.load().config;
    let here = std::env::current_dir().expect("a working directory");
    assert_eq!(config.region.credential.core_conf, Some(here.join("00123")));
    assert_eq!(
        config.region.credential.core_conf_region.as_deref(),
        Some("true")
    );
    assert!(config.log.access);
    assert_eq!(config.limits.connections, Some(12));
    assert_eq!(config.limits.body_bytes, Some(4096));
    assert_eq!(config.threads, 2);
    assert!(!config.outbound.expect("outbound").retry_unauthorized);
    assert_eq!(case.row("region.credential.core_conf").0, "\"00123\"");
}

#[test]
fn what_kubernetes_puts_into_the_environment_harms_nothing() {
    let case = Case::new().env(&[
        ("REGENT_PORT", "tcp://10.0.0.1:8080"),
        ("REGENT_SERVICE_HOST", "10.0.0.1"),
        ("REGENT_SERVICE_PORT", "8080"),
        ("REGENT_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("REGENT_OUTBOUND_LISTEN", "nonsense"),
        ("REGENT_CONFIG", "/nowhere"),
        ("REGENT__X_SERVICE_HOST", "10.0.0.1"),
        ("REGENT__X_PORT", "tcp://10.0.0.1:80"),
        ("REGENT__X_PORT_80_TCP", "tcp://10.0.0.1:80"),
    ]);
    assert_eq!(case.load().config, Case::new().load().config);
}

#[test]
fn a_variable_that_is_no_key_is_a_mistake() {
    let table = [
        ("REGENT__OUTBOUND__LISTE", "write \"listen\""),
        (
            "REGENT__OUTBOUND",
            "expected a table, found a value; write REGENT__OUTBOUND__LISTEN",
        ),
        ("REGENT__", "no key \"\" at the top"),
        (
            "REGENT__REGION__PROXY",
            "\"x\" has no scheme; write it whole, such as \"http://proxy.example.com:3128\"",
        ),
        (
            "REGENT__OUTBOUND__HOSTS",
            "is no JSON list; write one, as in [\"a\", \"b\"]",
        ),
    ];
    for (name, expected) in table {
        let problems = Case::new().env(&[(name, "x")]).problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(
            problems[0].starts_with(&format!("variable {name}: ")),
            "{}",
            problems[0]
        );
        assert!(problems[0].contains(expected), "{}", problems[0]);
    }
    let twice = [
        ("REGENT__LOG__LEVEL", "info"),
        ("REGENT__LOG__level", "warn"),
    ];
    assert!(Case::new().env(&twice).problems()[0].contains("in other letters"));
    let mut case = Case::new();
    let bad = OsString::from_vec(vec![0xff]);
    case.sources.env = [("REGENT__LOG__LEVEL", bad)].into_iter().collect();
    assert_eq!(
        case.problems(),
        ["variable REGENT__LOG__LEVEL: is not UTF-8; write plain text"]
    );
}

#[test]
fn rust_log_is_the_weakest_voice_on_the_level() {
    let table = [
        ("debug", "debug"),
        ("hyper=warn", "info,hyper=warn"),
        ("hyper", "info,hyper=trace"),
        ("warn,hyper=off", "warn,hyper=off"),
        ("", "info"),
    ];
    for (text, level) in table {
        let case = Case::new().env(&[("RUST_LOG", text)]);
        assert_eq!(case.load().config.log.level, level, "{text:?}");
    }
    let case = Case::toml("[log]\nlevel = 'error'").env(&[("RUST_LOG", "trace")]);
    assert_eq!(case.load().config.log.level, "error");
    let case = Case::new().env(&[("RUST_LOG", "=[")]);
    assert!(case.problems()[0].starts_with("variable RUST_LOG: is no log level"));
}

#[test]
fn json_in_a_variable_is_as_strict_as_a_file() {
    let problems = |text: &str| {
        Case::new()
            .env(&[("REGENT__OUTBOUND__ROUTES", text)])
            .problems()
            .join("\n")
    };
    assert_eq!(problems(r#"[{"path": "/a", "exact": true}]"#), "");
    assert!(problems(r#"[{"path": "/a", "path": "/b"}]"#).contains("a key stands twice"));
    assert!(problems(r#"[{"path": "/a", "exact": "true"}]"#).contains("write true without quotes"));
    assert!(problems(r#"[{"path": "/a", "tokn": "none"}]"#).contains("write \"token\""));
    assert!(problems(r#"{"path": "/a"}"#).contains("is no JSON list"));
}
