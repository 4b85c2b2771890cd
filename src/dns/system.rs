//! The system's names: `/etc/hosts`, and the servers of `/etc/resolv.conf`.
//!
//! Both files are read again at each lookup, which is seldom: a laptop changes networks. Without
//! servers only `/etc/hosts` answers. A static binary has no C library's name service, hence a
//! resolver of our own.

use std::collections::HashSet;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;

use super::{Answer, Error, Found, Lookup, TTL_MIN};

/// One try of one server; a lost datagram should not eat the whole of a caller's time.
const TRY_TIMEOUT: Duration = Duration::from_secs(2);

/// The system's resolver.
pub struct System {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    last: Mutex<Option<(Vec<u8>, TokioResolver)>>,
}

impl Default for System {
    fn default() -> System {
        System::from_files("/etc/hosts".into(), "/etc/resolv.conf".into())
    }
}

impl System {
    /// A resolver that goes by these files; either may be missing.
    #[must_use]
    pub fn from_files(hosts: PathBuf, resolv_conf: PathBuf) -> System {
        System {
            hosts,
            resolv_conf,
            last: Mutex::default(),
        }
    }

    /// The resolver for what the file says now; `None` where it names no server.
    fn resolver(&self) -> Option<TokioResolver> {
        let text = std::fs::read(&self.resolv_conf).ok()?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, resolver)) = &*last
            && *seen == text
        {
            return Some(resolver.clone());
        }
        let resolver = resolver_of(&text)?;
        *last = Some((text, resolver.clone()));
        Some(resolver)
    }
}

fn resolver_of(resolv_conf: &[u8]) -> Option<TokioResolver> {
    let (config, mut options) = parse_resolv_conf(resolv_conf).ok()?;
    // What is fresh is the caller's business, and `failed` must reach the server.
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.timeout = options
        .timeout
        .clamp(Duration::from_millis(500), TRY_TIMEOUT);
    options.attempts = options.attempts.max(2);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build().ok()
}

impl Lookup for System {
    fn lookup(&self, host: &str) -> Answer {
        let host = host.to_owned();
        let hosts = std::fs::read_to_string(&self.hosts).unwrap_or_default();
        let known = in_hosts(&hosts, &host);
        if !known.is_empty() {
            return Box::pin(std::future::ready(Ok(Found {
                addresses: routed_first(known),
                ttl: TTL_MIN,
            })));
        }
        let Some(resolver) = self.resolver() else {
            return Box::pin(std::future::ready(Err(Error::NoServer { host })));
        };
        Box::pin(async move {
            match resolver.lookup_ip(host.as_str()).await {
                Ok(answer) => Ok(Found {
                    ttl: answer
                        .as_lookup()
                        .answers()
                        .iter()
                        .map(|record| record.ttl)
                        .min()
                        .map_or(TTL_MIN, |ttl| Duration::from_secs(ttl.into())),
                    addresses: routed_first(answer.iter().collect()),
                }),
                Err(error) => Err(meaning(host, &error)),
            }
        })
    }
}

fn meaning(host: String, error: &NetError) -> Error {
    match error {
        error if error.is_nx_domain() => Error::NoSuchName { host },
        error if error.is_no_records_found() => Error::NoAddress { host },
        NetError::Timeout => Error::Timeout { host },
        error => Error::Failed {
            host,
            why: error.to_string(),
        },
    }
}

/// The addresses that `/etc/hosts` has for a name (hosts(5)).
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let host = host.strip_suffix('.').unwrap_or(host);
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse::<IpAddr>().ok()?;
            words
                .any(|name| name.eq_ignore_ascii_case(host))
                .then_some(address)
        })
        .collect()
}

/// Puts the addresses of a family that this machine has no route for behind the others: most pods
/// have no IPv6, whatever the name server says (RFC 6724 section 6, rule 1).
fn routed_first(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut routed = HashSet::new();
    for address in &addresses {
        if !routed.contains(&address.is_ipv6()) && has_route(*address) {
            routed.insert(address.is_ipv6());
        }
    }
    let (mut first, last): (Vec<IpAddr>, Vec<IpAddr>) = addresses
        .into_iter()
        .partition(|address| routed.contains(&address.is_ipv6()));
    first.extend(last);
    first
}

/// Whether the kernel knows a way; no packet is sent.
fn has_route(address: IpAddr) -> bool {
    let any = if address.is_ipv6() {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    UdpSocket::bind(any).is_ok_and(|socket| socket.connect((address, 53)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_read_as_the_system_reads_it() {
        let text = "# comment\n127.0.0.1\tlocalhost\n\n10.0.0.7  Region.Example region # r\n\
                    fd00::7 region\nnonsense region\n10.0.0.8\n10.0.0.9 #region\n";
        for (host, expected) in [
            ("region", &["10.0.0.7", "fd00::7"][..]),
            ("REGION.example.", &["10.0.0.7"]),
            ("regio", &[]),
            ("10.0.0.8", &[]),
        ] {
            let expected: Vec<IpAddr> = expected
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect();
            assert_eq!(in_hosts(text, host), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn without_any_file_a_lookup_says_what_is_missing() {
        let system = System::from_files("/nowhere/hosts".into(), "/nowhere/resolv.conf".into());
        let error = system
            .lookup("region.example")
            .await
            .expect_err("no server");
        assert!(error.to_string().contains("/etc/resolv.conf"), "{error}");
    }

    #[tokio::test]
    async fn a_server_is_asked_for_both_families_and_its_ttl_counts() {
        let server = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = server.local_addr().expect("an address").port();
        // resolv.conf has no ports, so the configuration is made by hand.
        let mut name_server = hickory_resolver::config::NameServerConfig::udp(
            "127.0.0.1".parse().expect("an address"),
        );
        name_server.connections[0].port = port;
        let mut builder = TokioResolver::builder_with_config(
            hickory_resolver::config::ResolverConfig::from_parts(None, vec![], vec![name_server]),
            TokioRuntimeProvider::default(),
        );
        builder.options_mut().cache_size = 0;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let resolver = builder.build().expect("a resolver");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "nameserver 127.0.0.1\n").expect("a write");
        let system = System {
            hosts: "/nowhere/hosts".into(),
            resolv_conf: file.path().into(),
            last: Mutex::new(Some((b"nameserver 127.0.0.1\n".to_vec(), resolver))),
        };
        let serve = async {
            let mut buffer = [0_u8; 1500];
            loop {
                let (length, peer) = server.recv_from(&mut buffer).await.expect("a question");
                let answer = wire_answer(&buffer[..length]);
                server.send_to(&answer, peer).await.expect("an answer");
            }
        };
        let found = tokio::select! {
            found = system.lookup("region.example") => found.expect("addresses"),
            () = serve => unreachable!("it serves for ever"),
        };
        assert_eq!(found.ttl, Duration::from_secs(42));
        let mut addresses = found.addresses;
        addresses.sort_unstable();
        let expected: Vec<IpAddr> = vec![
            "127.0.0.9".parse().expect("an address"),
            "::1".parse().expect("an address"),
        ];
        assert_eq!(addresses, expected);
    }

    /// An answer with one record to a question for A or AAAA (RFC 1035 section 4).
    fn wire_answer(question: &[u8]) -> Vec<u8> {
        let name_end = 12
            + question[12..]
                .iter()
                .position(|byte| *byte == 0)
                .expect("a name")
            + 1;
        let kind = question[name_end + 1];
        let mut answer = question[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        answer.extend(&question[12..name_end + 4]);
        answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 42]);
        if kind == 1 {
            answer.extend([0, 4, 127, 0, 0, 9]);
        } else {
            answer.extend([0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        }
        answer
    }
}
