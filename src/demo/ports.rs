//! Where Regent listens in the demo: the contract's ports where they are free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// The contract's.
pub(super) const OUTBOUND: u16 = 8080;
pub(super) const INBOUND: u16 = 8000;
pub(super) const ADMIN: u16 = 9180;

/// One for each listener; all were free a moment ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) outbound: SocketAddr,
    /// A port of its own, never 0: it stands in the config as outbound's upstream as well.
    pub(super) inbound: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Ports {
    /// The contract's where they are free, else any.
    pub(super) fn preferred() -> io::Result<Ports> {
        Ok(Ports {
            outbound: free(OUTBOUND).or_else(|_| free(0))?,
            inbound: free(INBOUND).or_else(|_| free(0))?,
            admin: free(ADMIN).or_else(|_| free(0))?,
        })
    }

    /// Any: somebody may have taken one of those since it was looked at.
    pub(super) fn any() -> io::Result<Ports> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Ports {
            outbound: any,
            inbound: free(0)?,
            admin: any,
        })
    }
}

/// This port on loopback; 0 stands for any.
fn free(port: u16) -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.local_addr()
}
