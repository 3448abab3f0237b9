#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// Settings of the server from TOML.
pub(in crate::server) fn settings(toml: &str) -> Settings {
    let file = config::File::from_str(toml, config::FileFormat::Toml);
    config::Config::builder().add_source(file).build().unwrap().try_deserialize().unwrap()
}

fn addresses(toml: &str) -> Addresses {
    Addresses::new(&settings(toml)).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Client of a request with header lines, over a connection from 10.0.0.1.
fn client(addresses: &Addresses, lines: &[(&str, &str)]) -> Option<IpAddr> {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
    }
    addresses.of_request(addresses.of_peer(ip("10.0.0.1")), &headers).map(|ClientAddress(address)| address)
}

const BEHIND_PROXIES: &str = "trusted_proxies = ['10.0.0.0/8', 'fd00::/8']";
const BEHIND_FORWARDED: &str = "trusted_proxies = ['10.0.0.0/8', 'fd00::/8']\nforwarded_header = 'forwarded'";

#[test]
fn nothing_is_known_unless_somebody_is_trusted() {
    assert!(Addresses::new(&Settings::default()).is_none());
    let trusting = addresses(BEHIND_PROXIES);
    let forged = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), "192.0.2.1".parse().unwrap())]);
    let stranger = trusting.of_peer(ip("198.51.100.9"));
    assert_eq!(trusting.of_request(stranger, &forged), None, "a stranger's header says nothing");
}

#[test]
fn a_direct_client_is_who_the_socket_says() {
    let direct = addresses("direct = true");
    assert_eq!(direct.of_peer(ip("::ffff:192.0.2.1")), Origin::Client(ip("192.0.2.1")));
    assert_eq!(client(&direct, &[("x-forwarded-for", "192.0.2.1")]), Some(ip("10.0.0.1")));
    let both = addresses("direct = true\ntrusted_proxies = ['10.0.0.1']");
    assert_eq!(client(&both, &[("x-forwarded-for", "192.0.2.1")]), Some(ip("192.0.2.1")));
    assert_eq!(both.of_peer(ip("10.0.0.2")), Origin::Client(ip("10.0.0.2")));
}

#[test]
fn the_last_address_that_is_no_proxy_counts() {
    let trusting = addresses(BEHIND_PROXIES);
    let named = |lines: &[&str]| {
        let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
        client(&trusting, &lines)
    };
    assert_eq!(named(&[]), None);
    assert_eq!(named(&["192.0.2.1"]), Some(ip("192.0.2.1")));
    assert_eq!(named(&["203.0.113.5, 192.0.2.1"]), Some(ip("192.0.2.1")), "the first is what the client claims");
    assert_eq!(named(&["203.0.113.5, 192.0.2.1 ,10.1.1.1"]), Some(ip("192.0.2.1")));
    assert_eq!(named(&["203.0.113.5", "192.0.2.1", "10.1.1.1"]), Some(ip("192.0.2.1")), "of all lines");
    assert_eq!(named(&["10.9.9.9, 10.1.1.1"]), Some(ip("10.9.9.9")), "a proxy's own request");
    for (entry, address) in [
        ("192.0.2.1:4711", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
    ] {
        assert_eq!(named(&[entry]), Some(ip(address)), "{entry}");
    }
    for unreadable in ["", "unknown", "_hidden", "192.0.2", "192.0.2.1:", "192.0.2.1:x", "[::1", "::1]", "a.example"] {
        assert_eq!(named(&["203.0.113.5", unreadable]), None, "{unreadable:?} hides what is before it");
        assert_eq!(named(&[unreadable, "192.0.2.1"]), Some(ip("192.0.2.1")), "{unreadable:?}");
    }
    assert_eq!(client(&trusting, &[("forwarded", "for=192.0.2.1")]), None, "the other header is the client's");
}

#[test]
fn forwarded_elements_name_their_client() {
    let trusting = addresses(BEHIND_FORWARDED);
    let named = |line: &str| client(&trusting, &[("forwarded", line)]);
    for (line, address) in [
        ("for=192.0.2.1", "192.0.2.1"),
        ("For=\"192.0.2.1:4711\"", "192.0.2.1"),
        ("by=10.0.0.1;for=192.0.2.1;proto=https", "192.0.2.1"),
        ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
        ("for=\"[2001:db8::1]\" ; host=\"a,b;for=9.9.9.9\"", "2001:db8::1"),
        ("for=203.0.113.5, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
        ("for=\"203.0.113.5, for=6.6.6.6\", for=192.0.2.1", "192.0.2.1"),
        ("for=\"192.0.2.\\1\"", "192.0.2.1"),
        ("for=\", for=192.0.2.1", "192.0.2.1"),
        ("for=\"203.0.113.5\\\", for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
    ] {
        assert_eq!(named(line), Some(ip(address)), "{line}");
    }
    for line in [
        "for=unknown",
        "for=_SEVKISEK",
        "for=203.0.113.5, for=_hidden",
        "proto=https",
        "for=\"192.0.2.1",
        "for=\"192.0.2.1\"x",
        "for=192.0.2.1;for=192.0.2.2",
        "",
    ] {
        assert_eq!(named(line), None, "{line:?}");
    }
    assert_eq!(client(&trusting, &[("x-forwarded-for", "192.0.2.1")]), None, "the other header is the client's");
}

#[test]
fn networks_are_read_and_contain_what_they_should() {
    let network = |text: &str| text.parse::<Network>();
    for (text, inside, outside) in [
        ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.128/25", "192.0.2.129", "192.0.2.127"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
        ("::/0", "::1", "192.0.2.1"),
        ("10.0.0.0/8", "::ffff:10.1.1.1", "::10.1.1.1"),
    ] {
        assert!(network(text).unwrap().contains(ip(inside)), "{text} {inside}");
        assert!(!network(text).unwrap().contains(ip(outside)), "{text} {outside}");
    }
    for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/+8", "::ffff:10.0.0.0/104", "a/8"] {
        assert!(network(text).is_err(), "{text:?}");
    }
    assert_eq!(network("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(bytes in prop::collection::vec(32_u8..=255, 0..80)) {
        let Ok(value) = http::HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        for (toml, name) in [(BEHIND_PROXIES, "x-forwarded-for"), (BEHIND_FORWARDED, "forwarded")] {
            let headers = HeaderMap::from_iter([(name.parse().unwrap(), value.clone())]);
            let addresses = addresses(toml);
            let _ = addresses.of_request(Origin::Proxy, &headers);
        }
    }

    /// Whatever the client claims before the address that the proxy saw.
    #[test]
    fn a_claim_never_counts(claim in "[ -+--~]{0,60}") {
        let headers = HeaderMap::from_iter([
            ("x-forwarded-for".parse().unwrap(), format!("{claim},192.0.2.1").parse().unwrap()),
        ]);
        let found = addresses(BEHIND_PROXIES).of_request(Origin::Proxy, &headers);
        prop_assert_eq!(found, Some(ClientAddress(ip("192.0.2.1"))));
    }
}
