//! No input breaks the loader.

use proptest::prelude::*;
use regent::config::schema::{ISSUER, KEYS};

use crate::Case;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_break_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let case = Case::toml(&bytes).file("b.yaml", &bytes);
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn no_text_breaks_the_loader(text in "([a-z_.\\[\\]{}=:\"'#&*!|>~ \n\t-]|outbound|inbound|issuers|claims|region|routes|rules|listen|credential|3|é){0,60}") {
        let case = Case::toml(&text).file("b.yaml", &text).set(&text).env(&[("REGENT__OUTBOUND__HOSTS", &text.replace('\0', ""))]);
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn a_side_that_is_asked_for_is_there_or_a_mistake_is_told(
        keys in "(listen = '\\[::\\]:1'\n|upstream = 'https://a'\n|\\[inbound\\.issuers\\.a\\]\n|issuer = ''\n|jwks_file = '/j'\n){0,8}",
        second in prop::sample::select(vec![
            "", "inbound:\n", "inbound: {issuers: }\n", "inbound: {identity_headers: }\n",
        ]),
    ) {
        let case = Case::toml(format!("[inbound]\n{keys}")).file("b.yaml", second);
        if case.problems().is_empty() {
            prop_assert!(case.load().config.inbound.is_some());
        }
    }

    #[test]
    fn no_value_breaks_a_key_of_an_issuer(index in 0..ISSUER.len(), value in "\\PC{0,40}") {
        let case = Case::new().set(&format!("inbound.issuers.a.{}={value}", ISSUER[index].path));
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn no_value_breaks_a_field(index in 0..KEYS.len(), value in "\\PC{0,40}") {
        let case = Case::new().set(&format!("{}={value}", KEYS[index].path));
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }
}
