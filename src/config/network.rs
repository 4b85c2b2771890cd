//! Addresses and networks that peers are told apart by.

use std::net::IpAddr;

use ipnet::IpNet;

use super::value::{Given, Wrong, quoted};

/// `10.0.0.0/8`, or one address.
pub(super) fn network(given: &Given<'_>) -> Result<IpNet, Wrong> {
    let text = given.text()?;
    let shown = quoted(text);
    let parsed = match text.contains('/') {
        true => text.parse::<IpNet>().ok(),
        false => text.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let Some(network) = parsed else {
        return Err(format!(
            "{shown} is neither an address nor a network; write one such as \"10.0.0.0/8\" or \
             \"127.0.0.1\""
        ));
    };
    if network != network.trunc() {
        return Err(format!(
            "{shown} has more in it than a network of {} bits; write \"{}\"",
            network.prefix_len(),
            network.trunc()
        ));
    }
    // Peers of an IPv6 listener that call by IPv4 are known by their IPv4 address.
    if let IpNet::V6(inner) = network
        && let Some(address) = inner.addr().to_ipv4_mapped()
    {
        return Err(format!(
            "{shown} is IPv4 in IPv6; write \"{address}/{}\"",
            inner.prefix_len().saturating_sub(96)
        ));
    }
    Ok(network)
}
