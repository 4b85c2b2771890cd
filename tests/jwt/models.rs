//! Second implementations, slow and plain, to compare the program with. `tests/fuzz` runs them with
//! bytes of its own making.

mod base64url;
mod field;
mod json;
pub(crate) mod jwks;
pub(crate) mod token;
