//! Addresses of clients: who is at the other end of a connection, and whose request it is.
//!
//! What a request says about its client counts only as far as somebody trustworthy says it. The other end of a connection is
//! known from the socket, or from a header of the PROXY protocol if it comes from a trusted proxy. If that is a client
//! ([`Settings::direct`]), its address is the request's; if it is a trusted proxy, the request's header names the address
//! that the proxy saw. Of several addresses the last one that is no trusted proxy counts: those before it were written by
//! whoever has that address, and may say anything.
//!
//! One header is read, the one that the proxies set: a proxy that sets one passes the other on as the client sent it.

mod forwarded;
mod network;
mod proxy;

use std::net::IpAddr;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

pub use self::network::{InvalidNetwork, Network};
pub(super) use self::proxy::Unproxied;
use super::Settings;

/// Address of the client of a request, in the request's extensions where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Header in which trusted proxies name the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, a list of addresses.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nobody says who it is, or nobody who is trusted.
    Unknown,
    /// A client.
    Client(IpAddr),
    /// A trusted proxy.
    Proxy,
}

/// Sources of client addresses, as the settings have them.
#[derive(Clone, Debug)]
pub(super) struct Addresses {
    trusted: Vec<Network>,
    header: ForwardedHeader,
    direct: bool,
    proxy_protocol: bool,
}

impl Addresses {
    /// `None` where no address can be known.
    pub(super) fn new(settings: &Settings) -> Option<Self> {
        let Settings { trusted_proxies, forwarded_header, direct, proxy_protocol, .. } = settings;
        (*direct || !trusted_proxies.is_empty()).then(|| Self {
            trusted: trusted_proxies.clone(),
            header: *forwarded_header,
            direct: *direct,
            proxy_protocol: *proxy_protocol,
        })
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whether a connection of this peer begins with a header of the PROXY protocol. Who is not trusted must not send one;
    /// health checks of the node's own network do not.
    pub(super) fn is_proxied(&self, peer: IpAddr) -> bool {
        self.proxy_protocol && self.trusts(peer.to_canonical())
    }

    /// Reads the header of the PROXY protocol with which a connection begins.
    pub(super) async fn read_proxied(&self, tcp: &mut TcpStream) -> Result<Origin, Unproxied> {
        Ok(match proxy::read(tcp).await? {
            None => Origin::Unknown,
            Some(address) if self.trusts(address) => Origin::Proxy,
            Some(address) => Origin::Client(address),
        })
    }

    /// Other end of a connection that has no header of the PROXY protocol.
    pub(super) fn of_peer(&self, peer: IpAddr) -> Origin {
        let peer = peer.to_canonical();
        match (self.trusts(peer), self.direct) {
            (true, _) => Origin::Proxy,
            (false, true) => Origin::Client(peer),
            (false, false) => Origin::Unknown,
        }
    }

    /// Client of a request.
    pub(super) fn of_request(&self, origin: Origin, headers: &HeaderMap) -> Option<ClientAddress> {
        let address = match origin {
            Origin::Unknown => None,
            Origin::Client(address) => Some(address),
            Origin::Proxy => self.named(headers),
        };
        address.map(ClientAddress)
    }

    /// The last address in the header that is no trusted proxy. If all are, the first: a request of a proxy's own.
    fn named(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let named = match self.header {
            ForwardedHeader::XForwardedFor => forwarded::x_forwarded_for(headers),
            ForwardedHeader::Forwarded => forwarded::forwarded(headers),
        };
        let mut first = None;
        for address in named.into_iter().rev() {
            // What stands before something unreadable was written by nobody who is known.
            let address = address?;
            if !self.trusts(address) {
                return Some(address);
            }
            first = Some(address);
        }
        first
    }
}

#[cfg(test)]
pub(super) mod tests;
