//! What turns out to be spoken to a listener that does not speak it. Each is a mistake in somebody's
//! config, and whoever made it reads here what to do.
//!
//! Only what could not be read otherwise is looked at.

use crate::net::proxy_protocol;
use crate::proxy::Role;
use crate::proxy::conn::Conn;

/// What is spoken instead of HTTP where a connection goes on like this, and the next step.
pub(super) fn for_http(conn: &Conn, bytes: &[u8]) -> Option<&'static str> {
    /// A record of a handshake, of any version (RFC 8446 section 5.1).
    const TLS: &[u8] = &[0x16, 3];
    match bytes {
        _ if proxy_protocol::begins(bytes) => Some(announced(conn)),
        _ if !bytes.starts_with(TLS) => None,
        _ if conn.role == Role::Inbound => {
            Some("the caller speaks TLS; call it with http://, or set inbound.tls")
        }
        _ => Some("the caller speaks TLS; call it with http://"),
    }
}

/// What a header of the PROXY protocol is where none is expected, and the next step.
pub(super) fn announced(conn: &Conn) -> &'static str {
    match conn.role {
        Role::Inbound if conn.announces => {
            "a second PROXY protocol header came; let one of the balancers before this port send none"
        }
        Role::Inbound => {
            "a PROXY protocol header came, which is not expected of this peer; if it is your load \
             balancer, name it in inbound.proxy_protocol"
        }
        Role::Outbound | Role::ForwardAuth => {
            "a PROXY protocol header came, which inbound.listen alone takes; let the peer send none"
        }
    }
}
