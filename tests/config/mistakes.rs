//! What is wrong is told at once, each with its place and what to write.

use crate::Case;

#[test]
fn five_mistakes_in_toml_are_told_at_once_with_place_and_fix() {
    let case = Case::toml(
        r#"[region]
url = "practicus.example.com"

[outbound]
listen = 8080
token_wait = "10"
retry_unauthorised = true

[[outbound.routes]]
path = "/models"
token = "acess"
"#,
    );
    assert_eq!(
        case.problems(),
        [
            r#"a.toml:2:7: region.url: "practicus.example.com" has no scheme; write "https://" before it"#,
            r#"a.toml:5:10: outbound.listen: expected a string, found the number 8080; write "127.0.0.1:8080""#,
            r#"a.toml:6:14: outbound.token_wait: "10" has no unit; write "10s""#,
            r#"a.toml:7:1: no key "retry_unauthorised" in [outbound]; write "retry_unauthorized""#,
            r#"a.toml:11:9: outbound.routes[0].token: "acess" is unknown; write "access""#,
        ]
    );
}

#[test]
fn five_mistakes_in_yaml_are_told_at_once_with_place_and_fix() {
    let case = Case::yaml(
        "region:
  url: practicus.example.com
outbound:
  listen: 8080
  token_wait: 10
  retry_unauthorized: no
  routes:
    - path: /models
      tokn: access
",
    );
    assert_eq!(
        case.problems(),
        [
            r#"a.yaml:2:8: region.url: "practicus.example.com" has no scheme; write "https://" before it"#,
            r#"a.yaml:4:11: outbound.listen: expected a string, found the number 8080; write "127.0.0.1:8080""#,
            r#"a.yaml:5:15: outbound.token_wait: "10" has no unit; write "10s""#,
            r#"a.yaml:6:23: outbound.retry_unauthorized: "no" is not true or false; write false without quotes"#,
            r#"a.yaml:9:7: no key "tokn" in [[outbound.routes]]; write "token""#,
        ]
    );
}

#[test]
fn mistakes_of_all_sources_come_in_the_order_of_the_sources() {
    let case = Case::toml("[drain]\ndelay = 5\n")
        .file("b.yaml", "drain:\n  timout: 5s\n")
        .env(&[
            ("REGENT__LOG__LEVEL", "loud"),
            ("REGENT__OUTBOUND__LISTN", "x"),
        ])
        .set("admin.listen=:9180")
        .set("nothing");
    let problems = case.problems();
    let starts = [
        "a.toml:2:9: drain.delay: \"5\" has no unit; write \"5s\"",
        "b.yaml:2:3: no key \"timout\" in [drain]; write \"timeout\"",
        "variable REGENT__OUTBOUND__LISTN: no key \"listn\" in [outbound]; write \"listen\"",
        "variable REGENT__LOG__LEVEL: log.level: \"loud\" is no level; write \"info\"",
        "--set nothing: has no value; write --set key=value",
        "--set admin.listen: admin.listen: \":9180\" has no address; write \"127.0.0.1:9180\"",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn mistakes_of_syntax_and_of_values_are_told_together() {
    let case = Case::toml(
        "threads =\n[drain]\ndelay = 5s\ntimeout = \"soon\"\n[log]\nlevel = \"info\nacces = true\n",
    );
    let problems = case.problems();
    let starts = [
        "a.toml:1:10: not TOML: a value is missing",
        "a.toml:3:9: not TOML: ",
        "a.toml:4:11: drain.timeout: \"soon\" is no duration",
        "a.toml:6:14: not TOML: a string is not closed",
        "a.toml:7:1: no key \"acces\" in [log]; write \"access\"",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem} / {start}");
    }
}

#[test]
fn a_broken_header_or_list_has_no_echo() {
    for text in [
        "[outbound\nlisten = \"127.0.0.1:1\"",
        "threads = [1\n[outbound]\nlisten = \"a\"\n",
    ] {
        let problems = Case::toml(text).problems();
        assert!(
            problems.iter().all(|text| text.contains("not TOML")),
            "{problems:#?}"
        );
        assert!(!problems.is_empty());
    }
}

#[test]
fn a_mistake_names_its_place_and_what_to_write() {
    let table = [
        (
            "[admin]\nlisten='127.0.0.1:1'\nlisten='127.0.0.1:2'",
            r#"3:1: the key "listen" stands twice; remove one"#,
        ),
        (
            "outbound = 3",
            "1:12: outbound: expected a table, found a value; write its keys, such as outbound.listen",
        ),
        (
            "[outbound.routes]\npath = '/'",
            "1:1: outbound.routes: expected a list of tables; write [[outbound.routes]]",
        ),
        (
            "[[outbound.routes]]\nexact = true",
            "outbound.routes[0].path: is missing; write one",
        ),
        (
            "[region.credential]\nstate = 'kubernetes:x'",
            "\"kubernetes:\" is not in this version yet; write \"file:PATH\" or \"memory\"",
        ),
        (
            "[[outbound.routes]]\npath = '/'\ntoken = 'app-session'",
            "3:9: outbound.routes[0].token: \"app-session\" is not in this version yet",
        ),
        (
            "[region]\nlisten = 'x'",
            "2:1: no key \"listen\" in [region]; it is outbound.listen or inbound.listen or inbound.forward_auth.listen or admin.listen",
        ),
        (
            "[region]\ntoken_wat = 'x'",
            "no key \"token_wat\" in [region]; did you mean outbound.token_wait?",
        ),
        (
            "[limits]\ntimeout = '30s'",
            "2:1: no key \"timeout\" in [limits]; did you mean header_timeout or idle_timeout or request_timeout or connect_timeout or response_timeout or drain.timeout?",
        ),
        (
            "[limits]\ntimout = '30s'",
            "did you mean header_timeout or idle_timeout or request_timeout or",
        ),
        (
            "[region]\nca = '/ca.pem'",
            "2:1: no key \"ca\" in [region]; did you mean ca_file?",
        ),
        (
            "outbond.listen = 'x'",
            "1:1: no key \"outbond\" at the top; write \"outbound\"",
        ),
        (
            "zzzzzz = 1",
            "there are threads, region, outbound, inbound, admin, drain, limits, log",
        ),
        (
            "threads = 0",
            "\"0\" is no whole number from 1 to 1024; write one, or \"auto\"",
        ),
        (
            "threads = '2'",
            "expected a whole number, found the string \"2\"; write a number without quotes",
        ),
        (
            "[log]\naccess = 'yes'",
            "\"yes\" is not true or false; write true without quotes",
        ),
        (
            "[log]\nformat = 'yaml'",
            "\"yaml\" is unknown; write \"json\" or \"text\"",
        ),
        (
            "[log]\nlevel = 'inof'",
            "\"inof\" is no level; write \"info\"",
        ),
        (
            "[limits]\nheader_bytes = '1KiB'",
            "\"1KiB\" is too small; write \"8KiB\" or more",
        ),
        (
            "[limits]\nheader_bytes = '1GiB'",
            "\"1GiB\" is too large; write \"1MiB\" or less",
        ),
        (
            "[limits]\nidle_timeout = '0s'",
            "limits.idle_timeout: \"0s\" would never leave time",
        ),
        ("[limits]\nrequest_timeout = '0s'", "write \"off\" for none"),
        (
            "[limits]\nconnections = 0",
            "limits.connections: \"0\" is no whole number",
        ),
        (
            "[limits]\nconcurrent_streams = 0",
            "limits.concurrent_streams: \"0\" is no whole number from 1 to 1000",
        ),
        ("[drain]\ntimeout = '9999d'", "is longer than a year"),
        ("[outbound]\nhosts = []", "2:9: outbound.hosts: is empty"),
        (
            "[outbound]\nhosts = 'localhost'",
            "expected a list, found the string \"localhost\"; write a list, as in [\"a\", \"b\"]",
        ),
        (
            "[outbound]\nhosts = ['a',\n'localhost:80']",
            "3:1: outbound.hosts[1]: \"localhost:80\" has a port; write \"localhost\"",
        ),
        (
            "[outbound]\nhosts = ['::1']",
            "\"::1\" is an IPv6 address; write \"[::1]\"",
        ),
        ("[outbound]\nhosts = ['*.local']", "has a wildcard"),
        (
            "[outbound]\nallow_origins = ['*']",
            "stands for origins that nobody knows",
        ),
        (
            "[outbound]\nallow_origins = ['http://localhost:3000/']",
            "write \"http://localhost:3000\"",
        ),
        (
            "[outbound]\nallow_origins = ['http://localhost:80']",
            "write \"http://localhost\"",
        ),
        (
            "[outbound]\nlisten = '[::]:8080'",
            "2:10: outbound.listen: \"[::]:8080\" is not loopback",
        ),
        (
            "[outbound]\nlisten = '0.0.0.0:8080'",
            "write \"127.0.0.1:8080\", or allow_non_loopback = true",
        ),
        ("[outbound]\nlisten = '::1:8080'", "write \"[::1]:8080\""),
        ("[outbound]\nlisten = 'unix:run/x'", "needs a whole path"),
        (
            "[outbound]\nlisten = '127.0.0.1:99999'",
            "has no port from 0 to 65535",
        ),
        ("[outbound]\nlisten = '8080'", "write \"127.0.0.1:8080\""),
        ("[outbound]\nsocket_mode = '0999'", "is no file mode"),
        (
            "[outbound]\nlisten = '127.0.0.1:9180'",
            "2:10: outbound.listen: \"127.0.0.1:9180\" is admin.listen too; write another",
        ),
        ("[[outbound.routes]]\npath = 'models'", "write \"/models\""),
        (
            "[[outbound.routes]]\npath = '/a/../b'",
            "can match no request",
        ),
        ("[[outbound.routes]]\npath = '/a*'", "has a wildcard"),
        (
            "[[outbound.routes]]\npath = '/a'\nmethods = ['get']",
            "3:12: outbound.routes[0].methods[0]: \"get\" is not how it is sent; write \"GET\"",
        ),
        (
            "[outbound]\nroutes = [3]",
            "2:11: outbound.routes[0]: expected a table",
        ),
        (
            "[region]\nurl = 'http://region.example.com'",
            "2:7: region.url: plain http://",
        ),
        (
            "[outbound]\nupstream = 'http://10.0.0.1'",
            "2:12: outbound.upstream: plain http://",
        ),
        (
            "[[outbound.routes]]\npath = '/a'\nupstream = 'http://a.b'",
            "3:12: outbound.routes[0].upstream: plain http://",
        ),
        ("[region]\nurl = 'ftp://a.b'", "is neither http nor https"),
        ("[region]\nurl = 'https://'", "has no host"),
        (
            "[region]\nurl = 'https://b\u{fc}cher.example'",
            "write it as DNS has it, with xn--",
        ),
        (
            "[region]\nurl = 'localhost:9000'",
            "has no scheme; write \"http://\" before it",
        ),
        ("[region]\nurl = ''", "is empty"),
        ("[region]\nurl = 'https://a b'", "has a space"),
        (
            "[region]\nurl = 'https://a.b/?x=1'",
            "has a query or fragment",
        ),
        (
            "[region.credential]\ncore_conf_region = 'a'",
            "2:20: region.credential.core_conf_region: needs core_conf too",
        ),
        (
            "[region.credential]\nemail = 'a@b'",
            "needs password_file too",
        ),
        (
            "[region.credential]\npassword_file = '/p'",
            "needs email too",
        ),
        (
            "[region.credential]\ncore_conf = '~bob/x'",
            "write the whole path",
        ),
    ];
    for (text, expected) in table {
        let problems = Case::toml(text).problems();
        assert_eq!(problems.len(), 1, "{text:?} {problems:#?}");
        assert!(
            problems[0].contains(expected),
            "{text:?}\n{}\n{expected}",
            problems[0]
        );
        assert!(problems[0].starts_with("a.toml:"), "{}", problems[0]);
    }
}

#[test]
fn yaml_says_what_it_does_not_take() {
    let table = [
        (
            "drain:\n  delay: 1s\n  delay: 2s",
            r#"3:3: the key "delay" stands twice; remove one"#,
        ),
        ("drain:\n\tdelay: 1s", "2:2: not YAML: tabs"),
        ("drain: &a\n  delay: 1s\nadmin: *a", "3:8: an alias"),
        ("---\n---\n", "2:1: a second document"),
        ("drain: !foo {}", "1:13: a tag that means nothing here"),
        ("- 1", "1:1: expected keys at the top"),
        (
            "drain:\n  delay:",
            "drain.delay: has no value; write one or remove the key",
        ),
        ("outbound:\n  listen: [::]:8000", "put the value in quotes"),
        (
            "outbound:\n  socket_mode: 0600",
            r#"2:16: outbound.socket_mode: expected a string, found the number 0600; write "0600""#,
        ),
        (
            "outbound:\n  hosts: [localhost, [::1]]",
            "2:22: outbound.hosts[1]: expected a string, found a list",
        ),
        (
            "log:\n  access: off",
            r#""off" is not true or false; write false without quotes"#,
        ),
        (
            "log:\n  level: true",
            r#"expected a string, found true; write "true""#,
        ),
        (
            "region:\n  credential:\n    email: \"x",
            "not YAML: unclosed quote",
        ),
    ];
    for (text, expected) in table {
        let problems = Case::yaml(text).problems();
        assert_eq!(problems.len(), 1, "{text:?} {problems:#?}");
        assert!(
            problems[0].contains(expected),
            "{text:?}\n{}\n{expected}",
            problems[0]
        );
    }
}

#[test]
fn an_alias_cannot_make_a_small_file_large() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, before) in ('b'..='z').zip('a'..) {
        text += &format!("{name}: &{name} [*{before}, *{before}, *{before}, *{before}]\n");
    }
    let problems = Case::yaml(text).problems();
    assert!(problems.iter().any(|text| text.contains("an alias")));
    assert!(problems.len() < 300);
}

#[test]
fn depth_is_a_mistake_and_not_the_end_of_the_stack() {
    for depth in [100, 100_000] {
        let dotted = vec!["a"; depth].join(".");
        let case = Case::toml(format!("{dotted} = 1"))
            .file("b.toml", format!("[{dotted}]"))
            .file("c.toml", format!("a = {}", "[".repeat(depth)))
            .file("d.yaml", "[".repeat(depth))
            .file("e.yaml", vec!["- "; depth].concat())
            .set(&format!("{dotted}=1"))
            .env(&[(&format!("REGENT__{}", vec!["A"; depth].join("__")), "1")]);
        let problems = case.problems();
        assert_eq!(problems.len(), 7, "{problems:#?}");
    }
}

#[test]
fn what_is_no_config_file_is_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let sub = folder.path().join("sub.toml");
    std::fs::create_dir(&sub).expect("a folder");
    let table = [
        (
            Case::new().named("/nowhere/a.toml"),
            "/nowhere/a.toml: cannot be read: No such file",
        ),
        (
            Case::new().named(sub),
            "sub.toml: is no regular file; name one",
        ),
        (
            Case::new().named("/dev/zero"),
            "/dev/zero: cannot tell TOML from YAML; name it .toml, .yaml or .yml",
        ),
        (
            Case::new().file("a.json", "{}"),
            "a.json: cannot tell TOML from YAML",
        ),
        (
            Case::toml(b"[log]\nlevel = \"\xc3\xa4\xff\""),
            "a.toml:2:11: not UTF-8; save the file as UTF-8",
        ),
        (
            Case::toml("#".repeat(1 << 21)),
            "a.toml: is larger than 1 MiB",
        ),
    ];
    for (case, expected) in table {
        let problems = case.problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(
            problems[0].contains(expected),
            "{} / {expected}",
            problems[0]
        );
        assert!(!problems[0].contains('\n'));
    }
}

#[test]
fn a_mistake_in_meaning_is_told_at_the_same_place() {
    let case = Case::toml(
        "[[outbound.routes]]\npath = '/a'\n[[outbound.routes]]\npath = '/b'\nupstream = 'https://x.y'\n",
    );
    let loaded = case.load();
    let at = |path| case.told(vec![loaded.problem_at(path, "is odd")]).remove(0);
    assert_eq!(
        at("outbound.routes[1].upstream"),
        "a.toml:5:12: outbound.routes[1].upstream: is odd"
    );
    assert_eq!(
        at("outbound.routes[1].token"),
        "a.toml:3:1: outbound.routes[1].token: is odd"
    );
    assert_eq!(at("outbound.listen"), "outbound.listen: is odd");
    assert_eq!(at("no.such.key"), "no.such.key: is odd");
}
