//! The PROXY protocol before all else, from peers that speak for others (`inbound.proxy_protocol`).
//!
//! Its header must come, and has the time of a head. Whoever it announces is the caller from then on;
//! nothing is ever decided by that.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use super::handshake::{UNDER_WAY, failed, unless_told};
use crate::net::Io;
use crate::net::proxy_protocol::{self, Unread};
use crate::proxy::conn::Conn;
use crate::proxy::signal::Phase;
use crate::proxy::worker::Worker;
use crate::reason::Reason;

/// The connection behind its header; `None` where it has ended.
pub(super) async fn heard(worker: &Worker, conn: &Rc<Conn>, mut io: Io) -> Option<Io> {
    let under_way = worker.begin_handshake(conn, UNDER_WAY);
    let has_begun = Cell::new(false);
    let (read, _) = {
        let reading = pin!(proxy_protocol::read(&mut io, || has_begun.set(true)));
        unless_told(conn, &has_begun, reading).await?
    };
    drop(under_way);
    let what = "a PROXY protocol header could not be read";
    match read {
        Ok(source) => {
            if let Some(source) = source {
                conn.is_for(source);
            }
            conn.signal.set(Phase::Idle, worker.clock.boot());
            return Some(io);
        }
        // Probes of a port.
        Err(Unread::Nothing) => {}
        Err(Unread::Malformed(why)) => failed(worker, conn, Reason::BadRequest, what, &why),
        Err(Unread::Cut) => failed(
            worker,
            conn,
            Reason::BadRequest,
            what,
            &"the connection ended within it",
        ),
    }
    None
}
