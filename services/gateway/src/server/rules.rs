//! What every request must fulfil, whichever HTTP version it came by and however many came before it.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::Authority;
use http::{Uri, Version};

use super::answer::Refusal;

/// Refuses what two readers could understand differently, and too many headers.
pub(super) fn check(request: &Parts, max_headers: usize) -> Result<(), Refusal> {
    if request.headers.len() > max_headers {
        return Err(Refusal::HeadTooLarge);
    }
    check_host(&request.uri, &request.headers, request.version)?;
    check_coding(&request.headers)
}

/// One host, without a user.
fn check_host(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Refusal::Malformed("the request target names a user"));
    }
    if uri.authority().is_some_and(|authority| !has_port_or_none(authority)) {
        return Err(Refusal::Malformed("the port of the request target is not a port"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::Malformed("more than one Host"));
    }
    match (host, uri.authority()) {
        (Some(host), _) if !is_host(host) => Err(Refusal::Malformed("the Host is not a host")),
        (Some(host), Some(authority)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            Err(Refusal::Malformed("the Host is not the one of the request target"))
        }
        (None, None) if version == Version::HTTP_2 => Err(Refusal::Malformed("no host")),
        (None, _) if version == Version::HTTP_11 => Err(Refusal::Malformed("no Host")),
        _ => Ok(()),
    }
}

fn is_host(value: &HeaderValue) -> bool {
    // Nearly every host is a name or an address of version 4, with a port or without.
    let (name, port) = match value.as_bytes().iter().position(|byte| *byte == b':') {
        Some(colon) => (&value.as_bytes()[..colon], Some(&value.as_bytes()[colon + 1..])),
        None => (value.as_bytes(), None),
    };
    let plain = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    if plain && port.is_none_or(is_port) {
        return true;
    }
    let authority = Authority::try_from(value.as_bytes());
    authority.is_ok_and(|authority| {
        !authority.as_str().contains('@') && !authority.host().is_empty() && has_port_or_none(&authority)
    })
}

fn has_port_or_none(authority: &Authority) -> bool {
    let (_, host_and_port) = authority.as_str().rsplit_once('@').unwrap_or(("", authority.as_str()));
    let rest = host_and_port.strip_prefix(authority.host()).unwrap_or(host_and_port);
    // A colon alone stands for the default (RFC 3986, section 3.2.3).
    matches!(rest, "" | ":") || rest.strip_prefix(':').is_some_and(|port| is_port(port.as_bytes()))
}

fn is_port(port: &[u8]) -> bool {
    let number = port.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(number * 10 + digit).filter(|number| *number <= u32::from(u16::MAX))
    });
    number.is_some_and(|number| number > 0)
}

/// `chunked`, once, is the only transfer coding. hyper looks at the last one and would pass the others on unread.
fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(Refusal::Malformed("the only transfer coding is chunked")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Request;

    fn checked(version: Version, uri: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0, 4).is_ok()
    }

    #[test]
    fn hosts() {
        let one = |host: &str| checked(Version::HTTP_11, "/", &[("host", host)]);
        for host in ["a", "a.example:80", "127.0.0.1:8000", "[::1]:8000"] {
            assert!(one(host), "{host}");
        }
        for host in ["", "user@a", "a b", "a/b", ":80", "a?b", "http://a"] {
            assert!(!one(host), "{host}");
        }
        for port in ["1", "80", "00080", "65535", ""] {
            assert!(one(&format!("a:{port}")) && one(&format!("[::1]:{port}")), "{port}");
        }
        for port in ["0", "65536", "99999", "123456", "4294967376", "-1", "+80", "8o", "http", "80:80", " 80"] {
            assert!(!one(&format!("a:{port}")), "{port}");
            assert!(!one(&format!("[::1]:{port}")), "{port}");
        }
        assert!(!checked(Version::HTTP_2, "https://a:99999/", &[]));
        assert!(!checked(Version::HTTP_11, "http://a:0/", &[("host", "a:0")]));
        assert!(!checked(Version::HTTP_11, "/", &[]));
        assert!(!checked(Version::HTTP_11, "/", &[("host", "a"), ("host", "a")]));
        assert!(checked(Version::HTTP_10, "/", &[]));
        assert!(checked(Version::HTTP_2, "https://a/", &[]));
        assert!(checked(Version::HTTP_2, "https://a/", &[("host", "A")]));
        assert!(!checked(Version::HTTP_2, "https://a/", &[("host", "b")]));
        assert!(!checked(Version::HTTP_2, "/", &[]));
        assert!(!checked(Version::HTTP_11, "http://user@a/", &[("host", "a")]));
    }

    #[test]
    fn codings_and_number_of_headers() {
        let coded = |coding| checked(Version::HTTP_11, "/", &[("host", "a"), ("transfer-encoding", coding)]);
        assert!(coded("Chunked"));
        assert!(!coded("gzip, chunked"));
        assert!(!coded("xchunked"));
        let many = [("host", "a"), ("b", ""), ("c", ""), ("d", ""), ("e", "")];
        assert!(checked(Version::HTTP_11, "/", &many[..4]));
        assert!(!checked(Version::HTTP_11, "/", &many));
    }
}
