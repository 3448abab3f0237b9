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
    if plain && port.is_none_or(|port| matches!(port.len(), 1..=5) && port.iter().all(u8::is_ascii_digit)) {
        return true;
    }
    let authority = Authority::try_from(value.as_bytes());
    authority.is_ok_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty())
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
        let one = |host| checked(Version::HTTP_11, "/", &[("host", host)]);
        for host in ["a", "a.example:80", "127.0.0.1:8000", "[::1]:8000"] {
            assert!(one(host), "{host}");
        }
        for host in ["", "user@a", "a b", "a/b", ":80", "a?b", "http://a"] {
            assert!(!one(host), "{host}");
        }
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
