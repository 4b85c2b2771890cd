//! What listeners must keep to: sockets have modes, outbound stays on loopback, and no two are at one
//! place. The form of an address is `address`'s; nothing is bound here.

use std::net::IpAddr;

use super::read::Reader;
use super::value::{Given, Wrong, quoted};
use super::{Config, Listen, Outbound};

/// A socket's mode stands beside it.
pub(super) fn with_mode(listen: Listen, mode: u32) -> Listen {
    match listen {
        Listen::Unix { path, .. } => Listen::Unix { path, mode },
        tcp @ Listen::Tcp(_) => tcp,
    }
}

pub(super) fn socket_mode(given: &Given<'_>) -> Result<u32, Wrong> {
    let text = given.text()?;
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    (u32::from_str_radix(text, 8).ok())
        .filter(|mode| octal && *mode <= 0o777)
        .ok_or_else(|| {
            format!(
                "{} is no file mode; write one such as \"0600\" or \"0660\"",
                quoted(text)
            )
        })
}

/// Outbound lends its login to whoever reaches it.
pub(super) fn loopback_only(reader: &mut Reader<'_>, outbound: &Outbound) {
    let Listen::Tcp(address) = outbound.listen else {
        return;
    };
    let exposed = !address.ip().to_canonical().is_loopback();
    let sound = ["outbound.listen", "outbound.allow_non_loopback"];
    if exposed && !outbound.allow_non_loopback && reader.is_sound(&sound) {
        let text = format!(
            "\"{address}\" is not loopback: whoever reaches it acts as this login; write \"127.0.0.1:{}\", or allow_non_loopback = true",
            address.port()
        );
        reader.conflict("outbound.listen", &text);
    }
}

/// Two listeners at one place: the second could not be bound.
pub(super) fn listeners(reader: &mut Reader<'_>, config: &Config) {
    let admin = config.admin.listen.map(Listen::Tcp);
    let all = config.listens().into_iter();
    let all = all.chain([("admin.listen", admin.as_ref())]);
    let all: Vec<_> = all
        .filter_map(|(path, listen)| Some((path, listen?)))
        .collect();
    for (index, (later, listen)) in all.iter().enumerate() {
        let taken = all[..index]
            .iter()
            .find(|(_, other)| overlap(listen, other));
        let Some((earlier, other)) = taken else {
            continue;
        };
        // The one to change is one that somebody wrote.
        let ((path, listen), (other, at)) = match reader.is_given(later) {
            true => ((*later, *listen), (*earlier, *other)),
            false => ((*earlier, *other), (*later, *listen)),
        };
        if reader.is_sound(&[path, other]) {
            let text = match listen == at {
                true => format!("{} is {other} too; write another", shown(listen)),
                false => format!(
                    "{} is taken by {other}, {}; write another port",
                    shown(listen),
                    shown(at)
                ),
            };
            reader.conflict(path, &text);
        }
    }
}

fn shown(listen: &Listen) -> String {
    match listen {
        Listen::Tcp(address) => quoted(&address.to_string()),
        Listen::Unix { path, .. } => quoted(&format!("unix:{}", path.display())),
    }
}

/// Whether one place cannot be bound beside the other. `[::]` takes IPv4 too.
fn overlap(one: &Listen, other: &Listen) -> bool {
    let takes = |one: IpAddr, other: IpAddr| match one {
        IpAddr::V4(address) => address.is_unspecified() && other.is_ipv4(),
        IpAddr::V6(address) => address.is_unspecified(),
    };
    match (one, other) {
        (Listen::Tcp(one), Listen::Tcp(other)) => {
            let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
            let same = a == b || takes(a, b) || takes(b, a);
            one.port() == other.port() && one.port() != 0 && same
        }
        (Listen::Unix { path: one, .. }, Listen::Unix { path: other, .. }) => one == other,
        _ => false,
    }
}
