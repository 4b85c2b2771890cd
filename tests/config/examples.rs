//! The files in `config/`.

use std::path::{Path, PathBuf};

use regent::config::Loaded;
use regent::config::schema::{KEYS, Otherwise, ROUTE};

use crate::Case;

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name)
}

#[test]
fn every_example_loads() {
    for name in [
        "outbound-minimal.toml",
        "laptop.toml",
        "pod.toml",
        "pod.yaml",
        "reference.toml",
    ] {
        assert_eq!(
            Case::new().named(example(name)).problems(),
            [""; 0],
            "{name}"
        );
    }
    let listed = std::fs::read_dir(example("")).expect("a folder").count();
    assert_eq!(listed, 5, "an example that no test loads");
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
fn the_reference_states_every_default() {
    let reference = Case::new().named(example("reference.toml")).load();
    let plain = Case::new().load();
    assert_eq!(reference.config, plain.config);
    for key in KEYS {
        let row = |loaded: &Loaded| {
            loaded
                .rows
                .iter()
                .find(|row| row.path == key.path)
                .cloned()
                .expect("a row")
        };
        let (stated, default) = (row(&reference), row(&plain));
        assert_eq!(stated.value, default.value, "{}", key.path);
        let is_list = key.path == "outbound.routes";
        let is_written = stated.origin.to_string().contains("reference.toml");
        assert_eq!(
            is_written,
            matches!(key.default, Otherwise::Value(_)) && !is_list,
            "{}",
            key.path
        );
    }
}

#[test]
fn the_reference_shows_every_key_and_what_it_shows_can_be_written() {
    let text = std::fs::read_to_string(example("reference.toml")).expect("the reference");
    let is_key = |line: &str| {
        line.starts_with("#[")
            || line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase())
    };
    let lines = text
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line });
    let case = Case::toml(lines.collect::<Vec<_>>().join("\n"));
    let loaded = case.load();
    let routes = ROUTE
        .iter()
        .map(|key| format!("outbound.routes[0].{}", key.path));
    let keys = KEYS.iter().map(|key| key.path.to_owned());
    for path in keys.filter(|path| path != "outbound.routes").chain(routes) {
        let row = loaded
            .rows
            .iter()
            .find(|row| row.path == path)
            .unwrap_or_else(|| panic!("no {path}"));
        assert!(
            row.origin.to_string().contains("a.toml:"),
            "{path} is not in the reference"
        );
    }
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
