//! The server under load.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The resolved address.
    pub address: SocketAddr,
    /// Host and port as the `Host` header has them.
    pub host: String,
    /// What precedes every path, without a slash at its end; usually empty.
    pub base: String,
    /// Whether it speaks TLS. Its certificate is not verified: this measures, and sends nothing worth protecting.
    pub tls: bool,
}

impl Target {
    /// A server on this machine.
    pub fn local(address: SocketAddr, tls: bool) -> Self {
        Self { address, host: address.to_string(), base: String::new(), tls }
    }

    /// Parses `http[s]://host:port[/base]` and resolves it. Only loopback, unless others are allowed: load on a machine of
    /// somebody else is an attack.
    pub fn parse(url: &str, allow_remote: bool) -> anyhow::Result<Self> {
        let (rest, tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => bail!("--url {url}: only http:// and https:// are supported"),
        };
        let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if host.contains('@') || base.contains(['?', '#', ' ']) {
            bail!("--url {url}: give scheme, host, port and base path only");
        }
        let named_port = !host.ends_with(']') && host.rsplit_once(':').is_some();
        let authority = if named_port { host.to_owned() } else { format!("{host}:{}", if tls { 443 } else { 80 }) };
        let mut addresses =
            authority.to_socket_addrs().with_context(|| format!("--url {url}: no such host and port"))?;
        let address = addresses.next().with_context(|| format!("--url {url}: the name has no address"))?;
        if !address.ip().is_loopback() && !allow_remote {
            bail!("--url {url}: {} is not this machine. If it is yours to load, say --allow-remote", address.ip());
        }
        Ok(Self { address, host: host.to_owned(), base: base.trim_end_matches('/').to_owned(), tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_taken_apart() {
        let target = Target::parse("http://127.0.0.1:8000", false).unwrap();
        assert_eq!((target.address.port(), target.host.as_str(), target.base.as_str()), (8000, "127.0.0.1:8000", ""));
        let target = Target::parse("http://[::1]:81/push/", false).unwrap();
        assert_eq!((target.address.port(), target.base.as_str()), (81, "/push"));
        assert_eq!(Target::parse("http://127.0.0.9", false).unwrap().address.port(), 80);
        let target = Target::parse("https://127.0.0.1", false).unwrap();
        assert!(target.tls && target.address.port() == 443);
        assert_eq!(Target::parse("http://[::1]", false).unwrap().address.port(), 80);
    }

    #[test]
    fn other_machines_need_permission() {
        for url in ["http://192.0.2.1:80", "http://10.0.0.1:8000/x"] {
            assert!(Target::parse(url, false).unwrap_err().to_string().contains("--allow-remote"));
            assert!(Target::parse(url, true).is_ok());
        }
    }

    #[test]
    fn what_is_not_such_a_url_is_refused() {
        for url in [
            "ftp://127.0.0.1",
            "127.0.0.1:8000",
            "http://",
            "http://127.0.0.1:x",
            "http://u@127.0.0.1",
            "http://127.0.0.1/?a",
        ] {
            assert!(Target::parse(url, true).is_err(), "{url}");
        }
    }
}
