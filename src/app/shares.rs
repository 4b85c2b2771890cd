//! How many connections there may be: what the limits on open files and on memory leave.
//!
//! Descriptors are shared out at the start, so that neither callers nor connections to upstreams can
//! take what the control plane needs for a refresh, a fetch of keys, files and its own listener.

use std::fs::read_to_string;
use std::path::Path;

use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::proxy::Role;

/// The most that the control plane keeps for itself.
const RESERVE: u64 = 64;
/// The least: a refresh with its name and its files, a fetch of keys, half a dozen of probes.
const LEAST: u64 = 12;
/// What a runtime has open.
const RUNTIME: u64 = 4;
/// What every process has: the standard streams, signals, the log.
const PROCESS: u64 = 8;

/// What a sidecar needs that does nothing. Bytes.
const IDLE: u64 = 24 * MIB;
/// Address space that the allocator keeps for two threads. Bytes.
const HEAPS: u64 = 128 * MIB;
/// What a connection may need with the one of HTTP/1.1 behind it, by the defaults: measured with bodies
/// that are kept for a replay, whose callers stop before the last byte. Bytes.
const CONNECTION: u64 = 96 * 1024;
/// What TLS adds where the caller takes nothing of its answer. Bytes.
const SECURED: u64 = 64 * 1024;
/// What may come from an upstream over HTTP/2 for an exchange before it is read, where memory has no
/// bound: 10 MB/s at a round trip of 100 ms. Bytes.
const WINDOW: u32 = 1 << 20;
/// The least and the most of it where memory has one.
const WINDOWS: (u64, u64) = (64 << 10, 256 << 10);
/// Into how many such windows memory is divided.
const PARTS: u64 = 512;
const MIB: u64 = 1024 * 1024;

/// What a process may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Descriptors.
    files: u64,
    /// Bytes.
    memory: Option<u64>,
}

impl Limits {
    /// This process's, and its cgroup's.
    pub(super) fn here() -> Limits {
        let of = |resource| getrlimit(resource).current;
        let cgroup = cgroup(Path::new("/sys/fs/cgroup"));
        // Of what is mapped, half is in use, and the address space has room for heaps that are not.
        let mapped = of(Resource::As).map(|limit| limit.saturating_sub(HEAPS) / 2);
        let written = of(Resource::Data).map(|limit| limit / 2);
        let memory = [mapped, written, cgroup];
        Limits {
            files: of(Resource::Nofile).unwrap_or(1 << 20),
            memory: memory.into_iter().flatten().min(),
        }
    }
}

/// The limit on the memory of the cgroup that is mounted at `root`. Bytes.
fn cgroup(root: &Path) -> Option<u64> {
    let files = ["memory.max", "memory/memory.limit_in_bytes"];
    let text = files
        .iter()
        .find_map(|file| read_to_string(root.join(file)).ok())?;
    // "max", or a number that no machine has.
    text.trim().parse().ok().filter(|limit| *limit < 1 << 50)
}

/// How many connections there may be of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shares {
    /// Of each listener for callers.
    pub(super) connections: u64,
    /// To upstreams.
    pub(super) upstreams: u64,
    /// Requests at a time: each may need a connection to an upstream, and memory.
    pub(super) exchanges: u64,
    /// Of the admin listener.
    pub(super) admin: usize,
    /// What may come for an exchange over HTTP/2 before it is read. Bytes.
    pub(super) window: u32,
}

/// What may come for an exchange over HTTP/2 before it is read. Bytes.
fn window(memory: Option<u64>) -> u32 {
    let (least, most) = WINDOWS;
    let bounded = memory.map(|memory| (memory / PARTS).clamp(least, most));
    bounded.map_or(WINDOW, |bytes| u32::try_from(bytes).unwrap_or(WINDOW))
}

impl Shares {
    /// As this config may have them here. What comes in at a role for which it `may_share` may go on
    /// over HTTP/2.
    pub(super) fn of(config: &Config, limits: Limits, may_share: impl Fn(Role) -> bool) -> Shares {
        let listens = Role::ALL.into_iter().zip(config.listens());
        let roles = listens.filter(|(_, (_, listen))| listen.is_some());
        let roles: Vec<Role> = roles.map(|(role, _)| role).collect();
        // One connection holds another to an upstream, but for those that only ask.
        let held = |role: &Role| if *role == Role::ForwardAuth { 1 } else { 2 };
        let held: Vec<u64> = roles.iter().map(held).collect();
        let threads = config.threads as u64;
        let runtimes = 1 + threads + u64::from(threads > 1);
        let own = PROCESS + RUNTIME * runtimes + held.len() as u64 + 1;
        let left = limits.files.saturating_sub(own);
        let reserve = (left / 3).clamp(LEAST, RESERVE);
        let both = left.saturating_sub(reserve);
        let by_files = both / held.iter().sum::<u64>().max(1);
        let tls = config.inbound.as_ref().and_then(|side| side.tls.as_ref());
        let secured = tls.map_or(0, |_| SECURED);
        let window = window(limits.memory);
        // The pieces that it comes in take half as much again (measured with frames of 8 KiB).
        let stream = u64::from(window) * 3 / 2;
        let shared = |role: &Role| if may_share(*role) { stream } else { 0 };
        let each = roles.iter().map(|role| CONNECTION + secured + shared(role));
        let (one_of_each, dearest) =
            each.fold((0, 1), |(sum, most), one| (sum + one, one.max(most)));
        let room = limits.memory.map(|memory| memory.saturating_sub(IDLE));
        let by_memory = room.map(|room| room / one_of_each.max(1));
        let most = by_memory.map_or(by_files, |by_memory| by_files.min(by_memory));
        let wanted = config.limits.connections;
        let connections = wanted.map_or(most, |wanted| wanted.min(by_files)).max(1);
        let below = connections.saturating_mul(held.len() as u64);
        let upstreams = both.saturating_sub(below).max(connections);
        // All of them may be of the dearest kind.
        let by_memory = room.map(|room| room / dearest);
        Shares {
            connections,
            upstreams,
            exchanges: by_memory
                .map_or(upstreams, |most| most.min(upstreams))
                .max(connections),
            admin: usize::try_from(reserve / 2).unwrap_or(usize::MAX),
            window,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::config::load::load;

    fn config(sets: &[&str]) -> Config {
        let sets = [
            "region.url=http://127.0.0.1:1",
            "region.credential.access_token_file=/t",
        ]
        .iter()
        .chain(sets);
        let sources = Sources {
            files: Vec::new(),
            sets: sets.map(ToString::to_string).collect(),
            env: [("HOME", "/h")].into_iter().collect(),
            terminal: false,
        };
        load(&sources).expect("a good config").config
    }

    fn shares(sets: &[&str], files: u64, memory: Option<u64>) -> Shares {
        Shares::of(&config(sets), Limits { files, memory }, |_| false)
    }

    #[test]
    fn few_descriptors_leave_some_for_everybody() {
        for (files, connections, upstreams, admin) in [
            (64, 15, 16, 7),
            (256, 87, 87, 32),
            (1024, 471, 471, 32),
            (1 << 20, 524_247, 524_247, 32),
            // There is one in any case.
            (16, 1, 1, 6),
        ] {
            let shares = shares(&[], files, None);
            let expected = Shares {
                connections,
                upstreams,
                exchanges: upstreams,
                admin,
                window: WINDOW,
            };
            assert_eq!(shares, expected, "{files}");
        }
    }

    #[test]
    fn a_listener_that_only_asks_counts_for_itself_alone_and_threads_for_their_runtimes() {
        let forward = [
            "inbound.forward_auth.listen=127.0.0.1:1",
            "inbound.issuers.home.issuer=i",
            "inbound.issuers.home.jwks_url=http://127.0.0.1:1/",
        ];
        assert_eq!(shares(&forward, 1024, None).connections, 942);
        assert_eq!(shares(&["threads=4"], 1024, None).connections, 463);
    }

    #[test]
    fn little_memory_is_few_connections_unless_the_config_says_how_many() {
        let memory = Some(128 * MIB);
        assert_eq!(shares(&[], 1 << 20, memory).connections, 1109);
        let wanted = |wanted| shares(&[wanted], 1 << 20, memory).connections;
        assert_eq!(wanted("limits.connections=5000"), 5000);
        assert_eq!(wanted("limits.connections=7"), 7);
        // Few connections may have many streams.
        let seven = shares(&["limits.connections=7"], 1 << 20, memory);
        assert_eq!((seven.connections, seven.exchanges), (7, 1109));
        assert_eq!(shares(&[], 1024, Some(1 << 40)).connections, 471);
        assert_eq!(shares(&[], 1024, Some(0)).connections, 1);
        assert_eq!(
            shares(&["limits.connections=5000"], 1024, None).connections,
            471
        );
    }

    #[test]
    fn what_goes_on_over_http_2_needs_room_for_its_window_too() {
        let both = [
            "outbound.listen=127.0.0.1:0",
            "inbound.listen=127.0.0.1:1",
            "inbound.upstream=http://127.0.0.1:2",
            "inbound.issuers.home.issuer=i",
            "inbound.issuers.home.jwks_url=http://127.0.0.1:1/",
        ];
        let limits = Limits {
            files: 1 << 20,
            memory: Some(128 * MIB),
        };
        for (sets, shared, connections, exchanges) in [
            (&[][..], &[][..], 1109, 1109),
            (&[], &[Role::Outbound], 221, 221),
            (&both, &[], 554, 1109),
            (&both, &[Role::Outbound], 184, 221),
            (&both, &[Role::Outbound, Role::Inbound], 110, 221),
        ] {
            let shares = Shares::of(&config(sets), limits, |role| shared.contains(&role));
            assert_eq!(shares.connections, connections, "{sets:?} {shared:?}");
            assert_eq!(shares.exchanges, exchanges);
        }
    }

    #[test]
    fn a_window_is_a_share_of_the_memory_that_there_is() {
        for (memory, kib, connections) in [
            (None, 1024, 524_247),
            (Some(32), 64, 42),
            (Some(64), 128, 142),
            (Some(128), 256, 221),
            (Some(512), 256, 1041),
        ] {
            let limits = Limits {
                files: 1 << 20,
                memory: memory.map(|mib: u64| mib * MIB),
            };
            let shares = Shares::of(&config(&[]), limits, |_| true);
            let expected = (kib << 10, connections);
            assert_eq!((shares.window, shares.connections), expected, "{memory:?}");
        }
    }

    #[test]
    fn the_limit_of_a_cgroup_is_read_in_both_versions() {
        for (file, text, limit) in [
            ("memory.max", "max\n", None),
            ("memory.max", "134217728\n", Some(128 * MIB)),
            (
                "memory/memory.limit_in_bytes",
                "134217728\n",
                Some(128 * MIB),
            ),
            (
                "memory/memory.limit_in_bytes",
                "9223372036854771712\n",
                None,
            ),
            ("memory.max", "nonsense", None),
        ] {
            let root = tempfile::tempdir().expect("a folder");
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("written");
            assert_eq!(cgroup(root.path()), limit, "{file} {text}");
        }
        assert_eq!(cgroup(Path::new("/nowhere")), None);
    }
}
