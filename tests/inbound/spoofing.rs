//! Callers that say who they are themselves, in every spelling, and callers that have our headers
//! taken away (cases.md, I01 to I07).

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use regent::reason::Reason;

use crate::forge::Forge;
use crate::gate::*;
use crate::world::entries;

struct Case {
    gate: Gate,
    good: String,
}

fn case() -> Case {
    let world = World::pipes();
    let workload = Upstream::bind(&world);
    let gate = Setup::new(&world, workload.at)
        .rule("path = '/open', anonymous = true")
        .start(workload.serve(say_identity));
    let good = Forge::home(world.clock.unix()).token();
    Case { gate, good }
}

impl Case {
    /// Whatever else a request says: with a token the workload is told the truth, once, and
    /// without one nothing.
    async fn tells_the_truth(&self, fields: &[(String, String)]) {
        let value = bearer(&self.good);
        let extra: Vec<(&str, &str)> = (fields.iter())
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let (before, after) = extra.split_at(extra.len() / 2);
        let token = ("Authorization", &*value);
        for (path, token, truth) in [
            ("/", Some(token), alice()),
            ("/open/x", Some(token), alice()),
            ("/open/x", None, Vec::new()),
        ] {
            let all = [before, token.as_slice(), after].concat();
            let seen = self.gate.passes(get(path, &all)).await;
            assert_eq!(identity(&seen.head), truth, "{fields:?}");
            assert!(!seen.head.has("authorization"), "{fields:?}");
            assert!(!seen.head.has("connection"), "{fields:?}");
        }
    }
}

const NAMES: [&str; 3] = ["x-regent-user", "x-regent-user-id", "x-regent-issuer"];

/// The same name, as some server would read it.
fn spellings(name: &str) -> Vec<String> {
    let mut all = vec![
        name.to_owned(),
        name.to_ascii_uppercase(),
        name.replacen('-', "_", 1),
    ];
    all.extend(
        "_.~!#$%&'*+^`|"
            .chars()
            .map(|mark| name.replace('-', &mark.to_string())),
    );
    all
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(own).collect()
}

#[test]
fn identity_that_a_caller_sends_never_arrives() {
    paused(async {
        let case = case();
        for name in NAMES {
            for spelling in spellings(name) {
                for value in ["mallory", "", "alice, mallory", "west:alice"] {
                    let one = (spelling.clone(), value.to_owned());
                    case.tells_the_truth(std::slice::from_ref(&one)).await;
                    case.tells_the_truth(&[one.clone(), one]).await;
                }
            }
        }
        let all = NAMES.iter().flat_map(|name| spellings(name));
        let all: Vec<_> = all.map(|name| (name, "mallory".to_owned())).collect();
        case.tells_the_truth(&all).await;
    });
}

/// Names of the config's own, one of them for one issuer alone: everybody's to trust, nobody's to
/// send.
#[test]
fn no_name_of_the_config_arrives_from_a_caller_whoever_it_is() {
    const OURS: [&str; 4] = [
        "x-webauth-user",
        "remote-groups",
        "x-west-role",
        "x-regent-user",
    ];
    paused(async {
        let world = World::pipes();
        let workload = Upstream::bind(&world);
        let mut entries = entries().into_iter();
        let west = entries.find(|entry| entry.name == "west");
        let map = "identity_headers = { X-WebAuth-User = 'username', remote-groups = 'groups' }";
        let gate = Setup::new(&world, workload.at)
            .line(map)
            .entry(&west.expect("it is there"))
            .and("west", "identity_headers = { x-west-role = 'role' }")
            .rule("path = '/open', anonymous = true")
            .start(workload.serve(say_identity));
        let now = world.clock.unix();
        let home = bearer(&Forge::home(now).token());
        let west = bearer(&Forge::west(now).claim("role", "model").token());
        let nobody = bearer(&Forge::west(now).token());
        for name in OURS {
            for spelling in spellings(name) {
                for (path, token, truth) in [
                    ("/", Some(&home), &[("x-webauth-user", "alice")][..]),
                    ("/open", Some(&home), &[("x-webauth-user", "alice")]),
                    ("/", Some(&west), &[("x-west-role", "west:model")]),
                    ("/", Some(&nobody), &[]),
                    ("/open", None, &[]),
                ] {
                    let mut fields = vec![(&*spelling, "mallory")];
                    fields.extend(token.map(|token| ("Authorization", &**token)));
                    fields.push((&*spelling, "mallory"));
                    let seen = gate.passes(get(path, &fields)).await;
                    assert_eq!(called(&seen.head, &OURS), owned(truth), "{spelling} {path}");
                }
            }
        }
    });
}

#[test]
fn a_grpc_call_is_stripped_and_named_like_any_request() {
    paused(async {
        let case = case();
        let value = bearer(&case.good);
        let names = NAMES.iter().flat_map(|name| spellings(name));
        let names: Vec<String> = names.collect();
        for (path, token, truth) in [
            ("/pkg.Users/Get", Some(&value), alice()),
            ("/open/pkg.Users/Get", Some(&value), alice()),
            ("/open/pkg.Users/Get", None, Vec::new()),
        ] {
            let mut fields = vec![
                ("Content-Type", "application/grpc+proto"),
                ("Content-Length", "5"),
                ("TE", "trailers"),
                ("Connection", "te, X-Regent-User, x-regent-issuer"),
            ];
            fields.extend(token.map(|token| ("Authorization", &**token)));
            fields.extend(names.iter().map(|name| (&**name, "mallory")));
            let call = request("POST", path, &fields) + "\0\0\0\0\0";
            let seen = case.gate.passes(call).await.head;
            assert_eq!(identity(&seen), truth, "{path}");
            assert!(!seen.has("authorization"), "{path}");
            assert_eq!(seen.get("content-type"), Some("application/grpc+proto"));
        }
    });
}

#[test]
fn ninety_copies_are_none() {
    paused(async {
        let case = case();
        for name in ["X-Regent-User", "x_regent_user"] {
            case.tells_the_truth(&vec![(name.to_owned(), "mallory".to_owned()); 90])
                .await;
        }
    });
}

#[test]
fn connection_cannot_name_what_we_say() {
    paused(async {
        let case = case();
        for value in [
            "x-regent-user",
            "X-Regent-User",
            "X-REGENT-USER-ID, x-regent-issuer",
            "close,X-Regent-User",
            "keep-alive , \t X-Regent-User\t,x-regent-issuer",
            ",,x-regent-user,,",
            "x_regent_user",
            "x-regent-hop, x-forwarded-for, x-request-id",
            "connection, x-regent-user",
            "upgrade, x-regent-user",
            "\"x-regent-user\"",
        ] {
            let fields = owned(&[("Connection", value), ("X-Regent-User", "mallory")]);
            case.tells_the_truth(&fields).await;
        }
        let lines = owned(&[
            ("Connection", "keep-alive"),
            ("connection", "x-regent-user"),
            ("CONNECTION", "X-Regent-Issuer,close"),
            ("Proxy-Connection", "x-regent-user-id"),
            ("Keep-Alive", "x-regent-user-id"),
        ]);
        case.tells_the_truth(&lines).await;
    });
}

#[test]
fn connection_cannot_switch_verification_off() {
    paused(async {
        let case = case();
        let bad = bearer(&format!("{}x", case.good));
        for named in [
            "authorization",
            "Authorization, close",
            "close, AUTHORIZATION",
        ] {
            for path in ["/", "/open"] {
                let fields = [("Connection", named), ("Authorization", &*bad)];
                let attack = get(path, &fields);
                case.gate.refuses(attack, Reason::MalformedToken).await;
            }
            let attack = get("/", &[("Connection", named)]);
            case.gate.refuses(attack, Reason::MissingToken).await;
            case.tells_the_truth(&owned(&[("Connection", named)])).await;
        }
    });
}

#[test]
fn connection_takes_nothing_away_that_goes_from_end_to_end() {
    paused(async {
        let case = case();
        let value = bearer(&case.good);
        let named = "host, content-length, transfer-encoding, x-forwarded-for, cookie, \
                     content-type, x-forwarded-proto, x-forwarded-host, x-request-id";
        let fields = [
            ("Authorization", &*value),
            ("Connection", named),
            ("Cookie", "a=b"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Host", "public.example"),
            ("X-Request-Id", "mine"),
            ("Content-Type", "text/plain"),
            ("Content-Length", "2"),
        ];
        let seen = case.gate.passes(request("POST", "/", &fields) + "hi").await;
        assert_eq!(seen.body, b"hi");
        for (name, value) in [
            ("host", "svc.example"),
            ("cookie", "a=b"),
            ("x-forwarded-for", "203.0.113.9, 127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "public.example"),
            ("x-request-id", "mine"),
            ("content-type", "text/plain"),
            ("content-length", "2"),
        ] {
            assert_eq!(seen.head.get(name), Some(value), "{name}");
        }
    });
}

#[test]
fn what_is_for_one_hop_ends_here() {
    paused(async {
        let case = case();
        let value = bearer(&case.good);
        let fields = [
            ("Authorization", &*value),
            ("Connection", "close, x-mine"),
            ("X-Mine", "1"),
            ("TE", "trailers, deflate"),
            ("Trailer", "x"),
            ("Upgrade", "foo, bar"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authorization", "Basic x"),
            ("Proxy-Authenticate", "Basic"),
            ("HTTP2-Settings", "AAMAAABk"),
        ];
        let seen = case.gate.passes(get("/", &fields)).await.head;
        for (name, _) in &fields {
            let name = name.to_ascii_lowercase();
            assert!(!seen.has(&name), "{name}");
        }
        assert_eq!(identity(&seen), alice());
    });
}

/// A field whose name may be read as ours, or a nomination in `Connection`.
fn field() -> impl Strategy<Value = (String, String)> {
    let marks = select("-_.~!#$%&'*+^`|".chars().collect::<Vec<_>>());
    let name = (select(NAMES.to_vec()), marks, any::<u32>());
    let name = name.prop_map(|(name, mark, upper)| {
        let case = |(at, char): (usize, char)| match upper >> at & 1 {
            1 => char.to_ascii_uppercase(),
            _ => char,
        };
        let name = match upper >> 31 {
            1 => name.replacen('-', &mark.to_string(), 1),
            _ => name.replace('-', &mark.to_string()),
        };
        name.chars().enumerate().map(case).collect::<String>()
    });
    let spoof = (name.clone(), select(vec!["mallory", "", "a, b", "home"]));
    let spoof = spoof.prop_map(|(name, value)| (name, value.to_owned()));
    let other = select(vec![
        "close",
        "keep-alive",
        "authorization",
        "",
        "x y",
        "te",
    ]);
    let nominee = prop_oneof![name, other.prop_map(str::to_owned)];
    let separator = select(vec![",", ", ", " ,\t", ",,"]);
    let connection = (
        vec(nominee, 1..5),
        separator,
        select(vec!["Connection", "CONNECTION"]),
    );
    let connection =
        connection.prop_map(|(names, comma, field)| (field.to_owned(), names.join(comma)));
    prop_oneof![spoof, connection]
}

#[test]
fn no_mixture_of_spellings_and_nominations_changes_what_the_workload_is_told() {
    let runtime = regent::app::local_runtime().expect("a runtime");
    let case = runtime.block_on(async { case() });
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(300)
    });
    let outcome = runner.run(&vec(field(), 1..12), |fields| {
        runtime.block_on(case.tells_the_truth(&fields));
        Ok(())
    });
    outcome.expect("the truth");
}
