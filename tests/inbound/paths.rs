//! Paths that a server behind may read as others (cases.md, group J). For all: without a token the
//! answer is 400 or 401, or the path as any such server reads it lies under an anonymous rule.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regent::reason::Reason;

use crate::forge::Forge;
use crate::gate::*;
use crate::paths_model::{self, Name, decoded, readings};
use crate::seeds;

fn gate() -> Gate {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    Setup::new(&world, workload.at)
        .rule("path = '/public', anonymous = true")
        .rule("path = '/healthz', methods = ['GET'], anonymous = true")
        .start(workload.serve(say_identity))
}

/// How servers read a target, each in its own way, and in all of their mixtures.
fn read(target: &str) -> Vec<Vec<Name>> {
    let path = target.split(['#', '?']).next().unwrap_or_default();
    // Escapes of plain letters mean the letters to everybody (RFC 3986 section 6.2.2.2).
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    [decoded(path, is_plain), decoded(path, |_| true)]
        .iter()
        .flat_map(|path| readings(path))
        .collect()
}

fn is_anonymous(names: &[Name]) -> bool {
    let first = names.first().map(Vec::as_slice).unwrap_or_default();
    ["public", "healthz"]
        .iter()
        .any(|rule| rule.chars().map(u32::from).eq(first.iter().copied()))
}

/// Asks without a token and holds the answer to the oracle.
async fn judge(gate: &Gate, target: &str) -> u16 {
    let before = (gate.workload.count(), gate.workload.bytes.get());
    let answer = gate.ask(get(target, &[])).await;
    if [400, 401].contains(&answer.status) {
        let after = (gate.workload.count(), gate.workload.bytes.get());
        assert_eq!(before, after, "{target:?}");
        return answer.status;
    }
    assert_eq!(answer.status, 200, "{target:?}");
    let seen = gate.workload.last().head;
    for reading in read(seen.target()) {
        assert!(is_anonymous(&reading), "{target:?} is read as {reading:?}");
    }
    200
}

#[test]
fn no_detour_leads_out_of_an_anonymous_path() {
    paused(async {
        let gate = gate();
        for (target, status) in [
            ("/public", 200),
            ("/public/", 200),
            ("/public/x/y.html", 200),
            ("/public/a%20b?x=%2e%2e/", 200),
            ("/publi%63/x", 200),
            ("/healthz", 200),
            ("/healthz/", 200),
            ("/public/..x/...", 200),
            ("/public/../admin", 400),
            ("/public/./../admin", 400),
            ("/healthz/../admin", 400),
            ("/public/%2e%2e/admin", 400),
            ("/public/%2E%2e%2Fadmin", 400),
            ("/public/.%2e/admin", 400),
            ("/public/%2e./admin", 400),
            ("/public/..", 400),
            ("/public/%2e%2e", 400),
            ("/..", 400),
            ("/public/%252e%252e/admin", 200),
            ("/public//../admin", 400),
            ("//public/x", 400),
            ("//admin", 400),
            ("/public///x", 400),
            ("/public//", 400),
            ("/public\\..\\admin", 400),
            ("/public/%5c..%5cadmin", 400),
            ("/public/..%5cadmin", 400),
            ("/public/..\\admin", 400),
            ("/public/..;/admin", 400),
            ("/public/..;x=1/admin", 400),
            ("/public/%2e%2e;/admin", 400),
            ("/public/..%3b/admin", 400),
            ("/public/..%3Bx=1/admin", 400),
            ("/public;x/../admin", 400),
            ("/public/.;/../admin", 400),
            ("/admin;/public/", 401),
            ("/healthz;jsessionid=1", 400),
            ("/public;/x", 400),
            ("/admin%23/public/", 401),
            ("/public#/../admin", 400),
            ("/public/#/../../admin", 400),
            ("/admin#/public/", 400),
            ("/admin?x=/public/", 401),
            ("/admin?/public/", 401),
            ("/admin?/../public", 401),
            ("/admin%3f/public/", 401),
            ("/?/public", 401),
            ("/publicity", 401),
            ("/PUBLIC/x", 401),
            ("/Public/x", 401),
            ("/healthzz", 401),
            ("/healthz.json", 401),
            ("/public%2fx", 400),
            ("/public%00/x", 400),
            ("/healthz%00/admin", 400),
            ("/healthz%0a", 400),
            ("/healthz%0d%0aX-Regent-User:%20a", 400),
            ("/public/%c0%ae%c0%ae/admin", 400),
            ("/public/%u002e%u002e/admin", 400),
            ("/public/%", 400),
            ("/public/%2", 400),
            ("/public/%zz", 400),
            ("*", 400),
            ("public", 400),
            ("public/x", 400),
            ("@evil.example/public", 400),
            ("http://svc.example/public/x", 200),
            ("http://svc.example/admin", 401),
            ("http://svc.example", 401),
            ("http://svc.example/public/../admin", 400),
            ("http://public/admin", 400),
            ("http://svc.example/public\\..\\admin", 400),
            ("https://svc.example/public", 400),
            ("ftp://svc.example/public", 400),
            ("http://u@svc.example/public", 400),
        ] {
            assert_eq!(judge(&gate, target).await, status, "{target}");
        }
        let asterisk = request("OPTIONS", "*", &[]);
        assert_eq!(gate.ask(asterisk).await.status, 400);
    });
}

#[test]
fn an_ambiguous_path_is_refused_with_a_token_too() {
    paused(async {
        let gate = gate();
        let value = bearer(&Forge::home(gate.world.clock.unix()).token());
        for target in [
            "/public/../admin",
            "/a//b",
            "/a%2fb",
            "/a/%2e%2e/b",
            "/a\\b",
        ] {
            let attack = get(target, &[("Authorization", &value)]);
            gate.refuses(attack, Reason::AmbiguousPath).await;
        }
        for target in [
            "/a%20b",
            "/a/%7Eb",
            "/a;v=1/b",
            "/a?b=../c//d",
            "/%E4%B8%9C",
        ] {
            let seen = gate.passes(get(target, &[("Authorization", &value)])).await;
            assert_eq!(seen.head.target(), target, "forwarded byte for byte");
        }
    });
}

#[test]
fn no_sequence_of_pieces_leads_out_of_an_anonymous_path() {
    let runtime = regent::app::local_runtime().expect("a runtime");
    let gate = runtime.block_on(async { gate() });
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(1_500)
    });
    let piece = select(vec![
        "/", "/", "/", "public", "public", "admin", "healthz", "..", ".", "%2e", "%2E%2e", "%2f",
        "\\", "%5c", ";", ";x=1", "%3b", "?", "#", "%23", "%3f", "%00", "%25", "%252e", "x",
        "%70ublic", "PUBLIC", "%c0%ae", "%", "&", "*", "@",
    ]);
    let pieces = vec(piece, 0..9);
    let start = select(vec![
        "/public/",
        "/public",
        "/healthz/",
        "/healthz",
        "/",
        "/admin/",
    ]);
    let outcome = runner.run(&(start, pieces), |(start, pieces)| {
        let target = format!("{start}{}", pieces.concat());
        runtime.block_on(judge(&gate, &target));
        Ok(())
    });
    outcome.expect("no way out");
}

/// Paths and rules of few words, so that they meet.
fn path() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "b",
        "%61",
        "/",
        "/",
        "/",
        ";",
        "%3b",
        ";x",
        ".",
        "..",
        "%2E",
        "%2f",
        "\\",
        "%5C",
        "%25",
        "%00",
        "%C3%A9",
        "é",
        "%c0%af",
        "%e0%80%af",
        "%f0%80%80%af",
        "%f8%80%80%80%af",
        "%e9",
        ":",
    ]);
    vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(4_000) })]

    #[test]
    fn every_server_reads_a_path_under_the_rule_that_was_found(
        rules in vec(("=?[GP]?", path()), 0..5),
        path in path(),
    ) {
        let rules = rules.iter().map(|(flags, path)| format!("{flags}{path}\n"));
        paths_model::judge(format!("{}{path}", rules.collect::<String>()).as_bytes());
    }
}

#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    seeds::each("rules", paths_model::judge);
}
