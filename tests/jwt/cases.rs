//! Tokens that must be refused, each beside a positive twin that differs in the attacked attribute
//! alone and is accepted. Plain data: the same table can be sent to a running Regent that has the
//! issuers of `world::entries`.

use regent::reason::Reason;

use crate::forge::Forge;

mod claims;
mod format;
mod header;
mod issuer;
mod signature;

/// A token to refuse.
pub(crate) struct Case {
    pub(crate) name: String,
    /// What must be refused.
    pub(crate) token: String,
    /// What must be accepted.
    pub(crate) twin: String,
    pub(crate) reason: Reason,
}

/// All of them, for this present.
pub(crate) fn all(now: i64) -> Vec<Case> {
    let mut table = Table(Vec::new());
    format::add(&mut table, now);
    header::add(&mut table, now);
    signature::add(&mut table, now);
    claims::add(&mut table, now);
    issuer::add(&mut table, now);
    table.0
}

struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, name: impl Into<String>, reason: Reason, twin: &Forge, token: String) {
        self.beside(name, reason, twin.token(), token);
    }

    fn beside(&mut self, name: impl Into<String>, reason: Reason, twin: String, token: String) {
        let mut name = name.into();
        while self.0.iter().any(|case| case.name == name) {
            name.push_str(", again");
        }
        self.0.push(Case {
            name,
            token,
            twin,
            reason,
        });
    }
}
