//! The files in `config/`.

use std::path::{Path, PathBuf};

use regent::config::Loaded;
use regent::config::schema::{KEYS, Kind, Otherwise, REPEATED};
use regent::config::{KeySource, Listen, Row};

use crate::Case;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

#[test]
fn every_example_loads() {
    let names = [
        "outbound-minimal.toml",
        "laptop.toml",
        "pod.toml",
        "pod.yaml",
        "inbound-minimal.toml",
        "inbound-tls.toml",
        "federated.toml",
        "forward-auth.toml",
        "federation-list.toml",
        "inbound-revocations.toml",
        "reference.toml",
    ];
    for name in names {
        assert_eq!(
            Case::new().named(example(name)).problems(),
            [""; 0],
            "{name}"
        );
    }
    let listed = std::fs::read_dir(example("")).expect("a folder").count();
    // Three are other programs': tests/region runs these with them.
    assert_eq!(listed, names.len() + 3, "an example that no test loads");
}

#[test]
fn yaml_says_the_same_as_toml() {
    let config = |name| Case::new().named(example(name)).load().config;
    assert_eq!(config("pod.toml"), config("pod.yaml"));
    assert_eq!(
        config("pod.toml").outbound.expect("outbound").routes.len(),
        2
    );
}

#[test]
fn the_inbound_examples_run_that_side_alone() {
    let config = |name| Case::new().named(example(name)).load().config;
    let minimal = config("inbound-minimal.toml");
    assert!(minimal.outbound.is_none());
    let inbound = minimal.inbound.expect("inbound");
    assert_eq!(inbound.issuers.len(), 1);
    let federated = config("federated.toml").inbound.expect("inbound");
    let names: Vec<_> = federated
        .issuers
        .iter()
        .map(|issuer| &*issuer.name)
        .collect();
    assert_eq!(names, ["home", "west"]);
    assert!(matches!(
        federated.issuers[1].keys,
        KeySource::DiscoveryUrl(_)
    ));
    assert_eq!(federated.rules.len(), 2);
}

#[test]
fn the_example_of_forward_auth_is_asked_where_the_other_proxies_ask() {
    let config = Case::new()
        .named(example("forward-auth.toml"))
        .load()
        .config;
    let inbound = config.inbound.expect("inbound");
    assert_eq!((inbound.listen, inbound.upstream), (None, None));
    let Some(Listen::Tcp(address)) = inbound.forward_auth else {
        panic!("it listens nowhere");
    };
    for (other, place) in [
        ("nginx.conf", format!("http://{address}/verify;")),
        ("traefik.yaml", format!("http://{address}/verify\n")),
        (
            "envoy.yaml",
            format!("address: 127.0.0.1, port_value: {}", address.port()),
        ),
    ] {
        let text = std::fs::read_to_string(example(&format!("forward-auth.{other}")));
        assert!(text.expect("an example").contains(&place), "{other}");
    }
}

fn row<'a>(loaded: &'a Loaded, path: &str) -> Option<&'a Row> {
    loaded.rows.iter().find(|row| row.path == path)
}

/// Whether keys stand below it, and not a value.
fn is_table(kind: Kind) -> bool {
    matches!(kind, Kind::Tables | Kind::Named)
}

#[test]
fn the_reference_states_every_default() {
    let reference = Case::new().named(example("reference.toml")).load();
    let plain = Case::new().load();
    assert_eq!(reference.config, plain.config);
    for key in KEYS.iter().filter(|key| !key.path.starts_with("inbound.")) {
        let stated = row(&reference, key.path).expect("a row");
        let default = row(&plain, key.path).expect("a row");
        assert_eq!(stated.value, default.value, "{}", key.path);
        let is_written = stated.origin.to_string().contains("reference.toml");
        assert_eq!(
            is_written,
            matches!(key.default, Otherwise::Value(_)) && !is_table(key.kind),
            "{}",
            key.path
        );
    }
}

/// The reference with all that is commented out switched on.
fn whole_reference() -> Case {
    let text = std::fs::read_to_string(example("reference.toml")).expect("the reference");
    let is_key = |line: &str| {
        line.strip_prefix('#').is_some_and(|rest| {
            rest.starts_with(|c: char| c.is_ascii_alphanumeric() || "[-\"".contains(c))
        })
    };
    let lines = text
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line });
    Case::toml(lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn the_reference_shows_every_key_and_what_it_shows_can_be_written() {
    let loaded = whole_reference().load();
    let is_shown = |path: &str| {
        row(&loaded, path).is_some_and(|row| row.origin.to_string().contains("a.toml:"))
    };
    let text = std::fs::read_to_string(example("reference.toml")).expect("the reference");
    for key in KEYS.iter().filter(|key| !is_table(key.kind)) {
        if let Some(table) = key.path.strip_suffix(".url")
            && is_shown(&format!("{table}.file"))
        {
            // One or the other.
            let (_, rest) = text
                .split_once(&format!("\n#[{table}]\n"))
                .expect("the table");
            let shown = rest.split("\n#[").next().unwrap_or("");
            assert!(
                shown.contains("\n# url = \""),
                "{} is not in the reference",
                key.path
            );
            continue;
        }
        assert!(is_shown(key.path), "{} is not in the reference", key.path);
    }
    let issuers = ["home", "west", "east", "north", "south"];
    for table in REPEATED {
        for key in table.keys {
            let places = issuers.iter().map(|name| format!("{}.{name}", table.path));
            let mut places = places.chain([format!("{}[0]", table.path)]);
            assert!(
                places.any(|place| is_shown(&format!("{place}.{}", key.path))),
                "{} of {} is not in the reference",
                key.path,
                table.path
            );
        }
    }
}

#[test]
fn what_the_reference_says_of_inbound_is_the_default() {
    let whole = whole_reference().load();
    let inbound = whole.config.inbound.as_ref().expect("inbound");
    assert!(matches!(inbound.listen, Some(Listen::Tcp(_))));
    let minimal = Case::new().named(example("inbound-minimal.toml")).load();
    let mut compared = 0;
    for row_of_minimal in &minimal.rows {
        let is_default = row_of_minimal.origin.to_string() == "default";
        let path = &row_of_minimal.path;
        if !is_default || !path.starts_with("inbound.") || row_of_minimal.value.is_none() {
            continue;
        }
        if let Some(stated) = row(&whole, path) {
            assert_eq!(stated.value, row_of_minimal.value, "{path}");
            compared += 1;
        }
    }
    assert!(compared > 15, "{compared}");
}

#[test]
fn what_the_pages_show_loads() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pod = root.join("deploy/pod/regent.toml");
    assert_eq!(Case::new().named(pod).problems(), [""; 0]);
    for page in ["README.md", "deploy/README.md"] {
        let text = std::fs::read_to_string(root.join(page)).expect("a page");
        for block in text.split("```toml\n").skip(1) {
            let block = block.split("```").next().unwrap_or("");
            assert_eq!(Case::toml(block).problems(), [""; 0], "{page}\n{block}");
        }
    }
}
