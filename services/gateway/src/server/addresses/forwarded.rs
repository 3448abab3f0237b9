//! Addresses in the headers that proxies set, in the order of the headers: the one that the last proxy saw comes last.
//! `None` stands for an entry that names no address.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;
use http::header::FORWARDED;

/// Addresses of the lines `X-Forwarded-For`.
pub(super) fn x_forwarded_for(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all("x-forwarded-for").iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b',').map(|entry| address(entry.trim_ascii())))
        .collect()
}

/// Addresses of the lines `Forwarded`: the parameter `for` of each element (RFC 7239, section 4).
pub(super) fn forwarded(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let lines = headers.get_all(FORWARDED).iter();
    let elements = lines.flat_map(|line| split_unquoted(line.as_bytes(), b','));
    elements.map(|element| address(&node(element)?)).collect()
}

/// Value of the parameter `for` of an element, without quotes. `None` unless there is exactly one.
fn node(element: &[u8]) -> Option<Vec<u8>> {
    let pairs = split_unquoted(element, b';').into_iter();
    let mut values = pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        name.eq_ignore_ascii_case(b"for").then(|| unquoted(value))
    });
    let value = values.next()?;
    if values.next().is_some() { None } else { value }
}

/// Parts between separators that stand outside of quoted strings.
fn split_unquoted(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if std::mem::take(&mut escaped) => {}
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    if !quoted {
        parts.push(&text[begin..]);
        return parts;
    }
    // The quote that a client opened does not hide what its proxies have added behind it.
    text.split(|byte| *byte == separator).collect()
}

/// Content of a quoted string, or the token itself.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let Some(rest) = value.strip_prefix(b"\"") else { return Some(value.to_vec()) };
    let (mut content, mut bytes) = (Vec::new(), rest.iter());
    loop {
        match bytes.next()? {
            b'"' => return bytes.next().is_none().then_some(content),
            b'\\' => content.push(*bytes.next()?),
            byte => content.push(*byte),
        }
    }
}

/// An address with or without a port: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
/// Nothing else, as `unknown` or an obfuscated identifier, is one.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse::<IpAddr>().ok().or_else(with_port).or_else(bracketed)?;
    Some(address.to_canonical())
}
