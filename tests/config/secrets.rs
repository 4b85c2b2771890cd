//! What `check` prints, and that no secret is in it.

use regent::config::load::load;
use regent::config::schema::KEYS;

use crate::Case;

#[test]
fn no_secret_is_ever_shown() {
    const CANARY: &str = "canary";
    let cases = [
        Case::new().env(&[("PRT_TOKEN", CANARY)]),
        Case::toml("[region.credential]\nrefresh_token_env = 'T'").env(&[("T", CANARY)]),
        Case::toml("[region.credential]\nrefresh_token = 'canary'"),
        Case::toml("[region.credential]\npassword = 'canary'"),
        Case::toml("[region.credential]\npassword = canary"),
        Case::toml("[region.credential]\npassword_file = 'canary"),
        Case::toml("[region.credential]\nemail = 'canary'"),
        Case::toml("[region.credential]\nrefresh_token_env = 'canary-token'"),
        Case::toml("[region.credential]\nrefresh_token_file = 'eyJh.canary.x'"),
        Case::toml("[region.credential]\npassword_file = '~canary'"),
        Case::yaml("region:\n  credential:\n    password_file: !canary x"),
        Case::yaml("region:\n  credential:\n    password: \"canary"),
        Case::yaml("region:\n  credential:\n    password_file: [canary]"),
        Case::toml("[region]\nurl = 'https://alice:canary@a.b'"),
        Case::toml("[region]\nurl = 'https://a.b/?token=canary'"),
        Case::toml("[region]\nurl = 'alice:canary@a.b'"),
        Case::toml("[outbound]\nhosts = ['alice:canary@a.b']"),
        Case::toml("[outbound]\nallow_origins = ['https://alice:canary@a.b']"),
        Case::new().env(&[("REGENT__REGION__CREDENTIAL__TOKEN", CANARY)]),
        Case::new().set("region.credential.password=canary"),
        Case::new().set("region.credential.password canary"),
    ];
    for case in cases {
        let text = match load(&case.sources) {
            Ok(loaded) => format!("{loaded:?}{}{:?}", loaded.render(), case.sources),
            Err(problems) => format!("{problems:?}{:?}", case.sources.env),
        };
        assert!(!text.contains(CANARY), "{text}");
    }
    // A number is as secret as a word.
    let problems = Case::yaml("region:\n  credential:\n    password_file: 123456").problems();
    assert!(
        problems[0].contains("not shown") && !problems[0].contains("123456"),
        "{problems:?}"
    );
}

#[test]
fn check_says_whether_the_variable_is_set() {
    let render = |case: Case| case.load().render();
    assert!(render(Case::new()).contains("\"PRT_TOKEN\"  (implicit, not set)"));
    assert!(
        render(Case::new().env(&[("PRT_TOKEN", "t")])).contains("\"PRT_TOKEN\"  (implicit, set)")
    );
}

#[test]
fn check_prints_every_key_of_the_sides_that_run() {
    let render = Case::new().load().render();
    for key in KEYS.iter().filter(|key| !key.path.starts_with("inbound.")) {
        let line = render
            .lines()
            .filter(|line| line.starts_with(&format!("{} ", key.path)));
        assert_eq!(line.count(), 1, "{}", key.path);
    }
    assert!(render.lines().all(|line| line.ends_with("  default")));
}
