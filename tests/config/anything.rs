//! No input breaks the loader.

use proptest::prelude::*;
use regent::config::schema::KEYS;

use crate::Case;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_break_the_loader(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let case = Case::toml(&bytes).file("b.yaml", &bytes);
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn no_text_breaks_the_loader(text in "([a-z_.\\[\\]{}=:\"'#&*!|>~ \n\t-]|outbound|region|routes|listen|credential|3|é){0,60}") {
        let case = Case::toml(&text).file("b.yaml", &text).set(&text).env(&[("REGENT__OUTBOUND__HOSTS", &text.replace('\0', ""))]);
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }

    #[test]
    fn no_value_breaks_a_field(index in 0..KEYS.len(), value in "\\PC{0,40}") {
        let case = Case::new().set(&format!("{}={value}", KEYS[index].path));
        prop_assert!(case.problems().iter().all(|text| !text.contains('\n')));
    }
}
