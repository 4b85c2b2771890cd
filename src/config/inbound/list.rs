//! Where a list is, and how often it is read: the same keys in each table that names one.

use super::{List, ListAt};
use crate::config::address;
use crate::config::proxy;
use crate::config::read::Reader;
use crate::config::typed::plain;

/// Shorter would be a load for whoever serves it.
const LEAST: &str = "5s";
/// Longer than anybody waits for a change.
const MOST: &str = "24h";

/// The list of a table, where somebody wrote that table; `example` is a file's name, `why` it must
/// not come over plain http.
pub(super) fn list(reader: &mut Reader<'_>, table: &str, example: &str, why: &str) -> Option<List> {
    let at = |name: &str| format!("{table}.{name}");
    let file = reader.optional(&at("file"), |given| given.path());
    let url = reader.optional(&at("url"), address::url);
    let refresh = reader.required(&at("refresh"), |given| given.duration_from(LEAST, MOST));
    let ca_file = reader.optional(&at("ca_file"), |given| given.path());
    let proxy = proxy::read(reader, &at("proxy"));
    let insecure_http = reader.required(&at("insecure_http"), |given| given.bool());
    let switch = (&*at("insecure_http"), insecure_http);
    plain(reader, &at("url"), url.as_ref(), switch, why);
    if reader.is_given(&at("file")) && reader.is_given(&at("url")) {
        reader.conflict(&at("url"), "stands beside file; keep one of them");
        return None;
    }
    let place = file.map(ListAt::File).or(url.map(ListAt::Url));
    // A table that is there and names nothing must not be taken for none.
    if place.is_none() && reader.is_table(table) && reader.is_sound(&[&at("file"), &at("url")]) {
        let text =
            format!("has no list; write one, such as file = \"/etc/regent/{example}\", or url");
        reader.conflict(table, &text);
    }
    Some(List {
        at: place?,
        refresh,
        ca_file,
        proxy,
        insecure_http,
    })
}
