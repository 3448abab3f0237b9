//! The names that a listener answers to.
//!
//! A page of any site can let its own name resolve to this machine (DNS rebinding). To the browser that page and the node
//! are then one origin, and it may read whatever the node serves. What the page cannot change is the `Host` of its
//! requests: the name it was loaded from. `fanway dev`, which serves secrets to whoever reaches it, therefore refuses
//! every name that its developer did not give.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use axum::body::Body;
use fanway_protocol::codes::ErrorCode;
use http::header;
use http::request::Parts;
use http::uri::Authority;
use http::{Response, StatusCode};

use crate::error_body::ErrorBody;

/// A host without a port, as `Host` has it: in lower case, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<IpAddr> for HostName {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self(address.to_string()),
            IpAddr::V6(address) => Self(format!("[{address}]")),
        }
    }
}

/// The text is not a host name or address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host; give a name or an address without scheme, port and wildcards, such as dev.example.test")]
pub struct NotAHost;

impl FromStr for HostName {
    type Err = NotAHost;

    fn from_str(text: &str) -> Result<Self, NotAHost> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(address.into());
        }
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if text.split('.').all(is_label) { Ok(Self(text.to_ascii_lowercase())) } else { Err(NotAHost) }
    }
}

/// The hosts that a listener answers to, whatever the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<HostName>);

impl Hosts {
    /// `localhost`, `127.0.0.1`, `[::1]` and further ones.
    pub fn local_and(further: impl IntoIterator<Item = HostName>) -> Self {
        let local = [
            HostName("localhost".to_owned()),
            IpAddr::from(Ipv4Addr::LOCALHOST).into(),
            IpAddr::from(Ipv6Addr::LOCALHOST).into(),
        ];
        let mut hosts: Vec<_> = local.into_iter().chain(further).collect();
        let mut seen = Vec::new();
        hosts.retain(|host| {
            !seen.contains(host) && {
                seen.push(host.clone());
                true
            }
        });
        Self(hosts)
    }

    /// The answer to a request for another host, or for none; `None` if the request may go on.
    pub(super) fn refusal(&self, request: &Parts) -> Option<Response<Body>> {
        let host = match request.headers.get(header::HOST) {
            Some(host) => host.to_str().ok(),
            // `:authority` of HTTP/2, and the absolute form of HTTP/1.
            None => request.uri.authority().map(Authority::as_str),
        };
        let authority = host.and_then(|host| host.parse::<Authority>().ok());
        let host = authority.as_ref().map_or("", Authority::host);
        if self.0.iter().any(|answered| answered.0.eq_ignore_ascii_case(host)) {
            return None;
        }
        let answered: Vec<_> = self.0.iter().map(HostName::to_string).collect();
        let flag = if host.parse::<HostName>().is_ok() { host } else { "NAME" };
        let message = format!(
            "the host {host:?} is not answered, only {}; to allow it, start the node with --allow-host {flag}",
            answered.join(", ")
        );
        let body = ErrorBody::new(ErrorCode::PermissionDenied, "host_not_allowed", message);
        Some(body.response(StatusCode::MISDIRECTED_REQUEST))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::{Request, Version};

    fn answers(hosts: &Hosts, version: Version, uri: &str, host: Option<&str>) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        hosts.refusal(&request.body(()).unwrap().into_parts().0).is_none()
    }

    #[test]
    fn a_name_is_compared_whole_and_without_its_port() {
        let hosts = Hosts::local_and(["Dev.Example.test".parse().unwrap(), "192.168.1.5".parse().unwrap()]);
        let one = |host| answers(&hosts, Version::HTTP_11, "/", Some(host));
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8000"] {
            assert!(one(host), "{host}");
        }
        for host in ["dev.example.test", "dev.example.test:8000", "192.168.1.5:8000"] {
            assert!(one(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example:8000",
            "127.0.0.1.evil.example",
            "evil.example:127.0.0.1",
            "x.dev.example.test",
            "localhost.",
            "127.0.0.2",
            "[::2]",
            "",
        ] {
            assert!(!one(host), "{host}");
        }
    }

    #[test]
    fn every_version_names_its_host_somewhere() {
        let hosts = Hosts::local_and([]);
        assert!(answers(&hosts, Version::HTTP_2, "https://localhost:8000/", None));
        assert!(!answers(&hosts, Version::HTTP_2, "https://evil.example:8000/", None));
        assert!(answers(&hosts, Version::HTTP_10, "http://localhost/", None));
        assert!(!answers(&hosts, Version::HTTP_10, "http://evil.example/", None));
        assert!(!answers(&hosts, Version::HTTP_10, "/", None), "no host at all");
    }

    #[test]
    fn what_is_a_host() {
        for (text, host) in [("A.b", "a.b"), ("::1", "[::1]"), ("[0:0::1]", "[::1]"), ("10.0.0.1", "10.0.0.1")] {
            assert_eq!(text.parse::<HostName>().unwrap().to_string(), host);
        }
        for text in ["", "*", "*.example", "a:80", "http://a", "a..b", ".a", "a.", "a b", "[::1]:80", "ü"] {
            assert_eq!(text.parse::<HostName>(), Err(NotAHost), "{text}");
        }
    }
}
