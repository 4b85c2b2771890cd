//! Proxies on the way to others, and peers that announce whom they speak for.

use regent::config::{Config, Proxy};

use crate::Case;
use crate::inbound::home;

fn region_proxy(text: &str) -> Proxy {
    let case = Case::toml(format!("[region]\nproxy = '{text}'"));
    case.load().config.region.proxy.expect("a proxy")
}

#[test]
fn a_proxy_is_a_host_a_port_and_maybe_who_we_are() {
    for (text, shown, host, authorization) in [
        (
            "http://proxy.example.com:3128",
            "http://proxy.example.com:3128",
            ("proxy.example.com", 3128),
            None,
        ),
        (
            "http://10.0.0.1/",
            "http://10.0.0.1",
            ("10.0.0.1", 80),
            None,
        ),
        (
            "HTTP://[::1]:8080",
            "http://[::1]:8080",
            ("[::1]", 8080),
            None,
        ),
        (
            "http://alice:secret@p:1",
            "http://***@p:1",
            ("p", 1),
            Some("Basic YWxpY2U6c2VjcmV0"),
        ),
        (
            "http://alice@p:1",
            "http://***@p:1",
            ("p", 1),
            Some("Basic YWxpY2U6"),
        ),
        // alice, and p@ss:w/rd?
        (
            "http://alice:p%40ss%3Aw%2Frd%3F@p:1/",
            "http://***@p:1",
            ("p", 1),
            Some("Basic YWxpY2U6cEBzczp3L3JkPw=="),
        ),
        // What nobody encoded, but can only be meant so.
        (
            "http://alice:p@ss@p:1",
            "http://***@p:1",
            ("p", 1),
            Some("Basic YWxpY2U6cEBzcw=="),
        ),
    ] {
        let proxy = region_proxy(text);
        assert_eq!(proxy.to_string(), shown);
        assert_eq!(format!("{proxy:?}"), shown);
        assert_eq!(proxy.host(), host, "{text}");
        let value = proxy.authorization();
        assert!(value.as_ref().is_none_or(|value| value.is_sensitive()));
        let value = value.map(|value| value.to_str().expect("text").to_owned());
        assert_eq!(value.as_deref(), authorization, "{text}");
        assert!(!proxy.url().as_str().contains('@'), "{text}");
        let case = Case::toml(format!("[region]\nproxy = '{text}'"));
        let (value, origin) = case.row("region.proxy");
        let value = value.to_lowercase().replace("/\"", "\"");
        assert_eq!(value, format!("\"{shown}\""), "{text}");
        assert_eq!(origin, "a.toml:2:9");
    }
    assert_eq!(Case::new().load().config.region.proxy, None);
}

#[test]
fn every_way_out_has_a_proxy_of_its_own() {
    let inbound = home(
        "proxy = 'http://p:3'\n[inbound.federation]\nurl = 'https://a.b/'\nproxy = 'http://p:4'\n\
         [inbound.revocations]\nurl = 'https://a.b/'\nproxy = 'http://p:5'",
    );
    let text = format!("region.proxy = 'http://p:1'\noutbound.proxy = 'http://p:2'\n{inbound}");
    let Config {
        region,
        outbound,
        inbound,
        ..
    } = Case::toml(text).load().config;
    let inbound = inbound.expect("inbound");
    let all = [
        region.proxy,
        outbound.and_then(|side| side.proxy),
        inbound.issuers[0].proxy.clone(),
        inbound.federation.and_then(|side| side.list.proxy),
        inbound.revocations.and_then(|side| side.proxy),
    ];
    let ports = all.map(|proxy| proxy.map_or(0, |proxy| proxy.host().1));
    assert_eq!(ports, [1, 2, 3, 4, 5]);
}

#[test]
fn what_is_no_proxy_is_told_with_what_to_write() {
    for (text, expected) in [
        (
            "p:3128",
            "\"p:3128\" has no scheme; write it whole, such as \"http://",
        ),
        (
            "socks5://p:1080",
            "\"socks5://p:1080\" is no proxy that is spoken to by http",
        ),
        ("https://p:443", "is no proxy that is spoken to by http"),
        ("http://", "is no URL"),
        ("http://p:99999", "is no URL"),
        (
            "http://p:1/path",
            "\"http://p:1/path\" has more than a host and a port",
        ),
        ("http://p:1?x", "has more than a host and a port"),
        ("http://p 1", "has a space or backslash"),
        ("http://a:b/c@p:1", "\"http://***@p:1\" is no URL"),
        (
            "http://a:1/c@p:1",
            "\"http://***@p:1\" has more than a host and a port",
        ),
        ("http://:x@p:1", "that Basic authentication cannot carry"),
        (
            "http://a%3Ab:x@p:1",
            "that Basic authentication cannot carry",
        ),
        (
            "http://a:x%0D%0Ay@p:1",
            "that Basic authentication cannot carry",
        ),
        ("http://a:%FF@p:1", "that is not UTF-8"),
        ("", "is empty"),
    ] {
        for key in ["region", "outbound"] {
            let case = Case::toml(format!("[{key}]\nproxy = '{text}'"));
            let problems = case.problems();
            assert_eq!(problems.len(), 1, "{text} {problems:#?}");
            let start = format!("a.toml:2:9: {key}.proxy: ");
            assert!(problems[0].starts_with(&start), "{}", problems[0]);
            assert!(problems[0].contains(expected), "{text}: {}", problems[0]);
        }
    }
}

#[test]
fn who_we_are_to_a_proxy_is_taken_from_a_variable_and_from_no_command_line() {
    const WITH: &str = "http://alice:canary@p:1";
    let case = Case::new().env(&[("REGENT__OUTBOUND__PROXY", WITH)]);
    let outbound = case.load().config.outbound.expect("outbound");
    assert!(outbound.proxy.expect("a proxy").authorization().is_some());
    for (case, key) in [
        (Case::new(), "region.proxy"),
        (Case::new(), "outbound.proxy"),
        (Case::toml(home("")), "inbound.issuers.home.proxy"),
        (
            Case::toml(home("[inbound.revocations]\nurl = 'https://a.b/'")),
            "inbound.revocations.proxy",
        ),
    ] {
        let variable = key.to_uppercase().replace('.', "__");
        let problems = case.set(&format!("{key}={WITH}")).problems();
        let expected = format!(
            "--set {key}: {key}: says who we are, which everybody on this machine can read on a \
             command line; write it into a config file, or into the variable REGENT__{variable}"
        );
        assert_eq!(problems, [expected]);
    }
    let case = Case::new().set("region.proxy=http://p:1");
    assert!(case.load().config.region.proxy.is_some());
}

#[test]
fn a_list_cannot_choose_a_proxy() {
    let list = br#"{"issuers": [{"name": "west", "issuer": "w", "jwks_url": "https://w/", "proxy": "http://p:1"}]}"#;
    let read = regent::config::inbound::federation::read(list).expect("a list");
    let fault = read[0].as_ref().expect_err("a fault");
    assert!(fault.why.contains("only the config may set it"), "{fault}");
}

#[test]
fn peers_that_announce_are_addresses_and_networks() {
    let case = |peers: &str| {
        Case::toml(home("").replacen(
            "[inbound]\n",
            &format!("[inbound]\nproxy_protocol = {peers}\n"),
            1,
        ))
    };
    let peers = |text: &str| {
        let inbound = case(text).load().config.inbound.expect("inbound");
        let peers = inbound.proxy_protocol.iter();
        peers.map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        peers("['10.0.0.0/8', '127.0.0.1', '2001:db8::/32', '::1', '0.0.0.0/0']"),
        [
            "10.0.0.0/8",
            "127.0.0.1/32",
            "2001:db8::/32",
            "::1/128",
            "0.0.0.0/0"
        ]
    );
    assert_eq!(peers("[]"), [""; 0]);
    for (text, expected) in [
        ("['10.0.0.0/8', '0.0.0.0/0']", true),
        ("['::/0']", true),
        ("['128.0.0.0/1', '::1', '0.0.0.0/1']", true),
        ("['0.0.0.0/1', '8000::/1']", false),
        ("[]", false),
    ] {
        let inbound = case(text).load().config.inbound.expect("inbound");
        assert_eq!(inbound.believes_anybody(), expected, "{text}");
    }
    for (text, expected) in [
        (
            "['10.1.2.3/8']",
            "[0]: \"10.1.2.3/8\" has more in it than a network of 8 bits; write \"10.0.0.0/8\"",
        ),
        (
            "['10.0.0.0/33']",
            "[0]: \"10.0.0.0/33\" is neither an address nor a network",
        ),
        (
            "['127.0.0.1', 'localhost']",
            "[1]: \"localhost\" is neither an address nor a network",
        ),
        ("['127.0.0.1:80']", "[0]: \"127.0.0.1:80\" is neither"),
        (
            "['::ffff:10.0.0.0/104']",
            "[0]: \"::ffff:10.0.0.0/104\" is IPv4 in IPv6; write \"10.0.0.0/8\"",
        ),
        ("'10.0.0.0/8'", ": expected a list"),
        ("[10]", "[0]: expected a string"),
    ] {
        let problems = case(text).problems();
        assert_eq!(problems.len(), 1, "{text} {problems:#?}");
        let expected = format!("inbound.proxy_protocol{expected}");
        assert!(problems[0].contains(&expected), "{}", problems[0]);
    }
}

#[test]
fn announced_peers_have_no_meaning_without_a_listener_of_our_own() {
    let text = "[inbound]\nproxy_protocol = ['::1']\nforward_auth.listen = '127.0.0.1:1'\n\
                [inbound.issuers.home]\nissuer = 'i'\npublic_key_file = '/k'";
    let problems = Case::toml(text).problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(
        problems[0]
            .starts_with("a.toml:2:18: inbound.proxy_protocol: has no meaning: forward_auth"),
        "{}",
        problems[0]
    );
}
