//! The three regions of the demo: home, west, which is federated, and east, which nobody trusts.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::region::{KeyUnavailable, Part, Region, Server, Settings, SigningKey, User};
use crate::clock::Clock;

/// All of them. Each has a key of its own.
#[derive(Clone, Debug)]
pub(super) struct Regions {
    pub(super) home: Region,
    pub(super) west: Region,
    pub(super) east: Region,
}

/// Where everything but Regent listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) home: SocketAddr,
    pub(super) west: SocketAddr,
    pub(super) east: SocketAddr,
    /// What stands behind inbound.
    pub(super) workload: SocketAddr,
    /// An API that checks tokens itself, and asks home what was revoked.
    pub(super) api: SocketAddr,
}

/// Their sockets, bound.
#[derive(Debug)]
pub(super) struct Servers {
    pub(super) at: Addresses,
    servers: [Server; 5],
}

impl Regions {
    /// New ones; the access tokens of home live this long.
    pub(super) fn new(access_lifetime: Duration) -> Result<Regions, KeyUnavailable> {
        let keys = [
            SigningKey::generate()?,
            SigningKey::generate()?,
            SigningKey::generate()?,
        ];
        Ok(Regions::with(keys, access_lifetime))
    }

    /// The same with these keys.
    pub(super) fn with(keys: [SigningKey; 3], access_lifetime: Duration) -> Regions {
        let [home, west, east] = keys;
        let abroad = |key, issuer: &str, user| {
            let settings = Settings {
                issuer: Some(issuer.to_owned()),
                users: vec![user],
                ..Settings::default()
            };
            Region::new(key, settings, Clock::system())
        };
        Regions {
            home: home_region(home, access_lifetime),
            west: abroad(
                west,
                "iss.west",
                User::new("1", "bob", "bob@example.com", "builder"),
            ),
            east: abroad(
                east,
                "iss.east",
                User::new("1", "eve", "eve@example.com", "apple"),
            ),
        }
    }

    pub(super) fn bind(&self) -> io::Result<Servers> {
        let servers = [
            bind(&self.home, Part::Region)?,
            bind(&self.west, Part::Region)?,
            bind(&self.east, Part::Region)?,
            bind(&self.home, Part::Echo)?,
            bind(&self.home, Part::Workload)?,
        ];
        let [home, west, east, workload, api] = servers.each_ref().map(Server::address);
        let at = Addresses {
            home,
            west,
            east,
            workload,
            api,
        };
        Ok(Servers { at, servers })
    }
}

/// Home alone: alice, and carol, who is an admin.
pub(super) fn home_region(key: SigningKey, access_lifetime: Duration) -> Region {
    let carol = User::new("2", "carol", "carol@example.com", "teapot");
    let settings = Settings {
        access_lifetime,
        issuer: Some("iss.demo".to_owned()),
        users: vec![
            User::new("1", "alice", "alice@example.com", "wonderland"),
            carol.with_claim("role", "admin"),
        ],
        ..Settings::default()
    };
    Region::new(key, settings, Clock::system())
}

/// On loopback, at any free port.
pub(super) fn bind(region: &Region, part: Part) -> io::Result<Server> {
    region.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), part)
}

impl Servers {
    /// Serves until it is dropped.
    pub(super) async fn run(self) -> io::Result<()> {
        let [home, west, east, workload, api] = self.servers;
        tokio::try_join!(
            home.run(),
            west.run(),
            east.run(),
            workload.run(),
            api.run()
        )?;
        Ok(())
    }
}
