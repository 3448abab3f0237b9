//! The `[server]` section of the settings.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::addresses::{ForwardedHeader, Network};
use super::hosts::Hosts;

/// The `[server]` section of the settings: where to listen, how many connections, how long they may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address for clients and, without `internal_listen` and `api_listen`, for the server API and health.
    pub listen: SocketAddr,
    /// Address of its own for the server API, metrics and health. Without it the API and the status codes of health are
    /// served on `listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub internal_listen: Option<SocketAddr>,
    /// Address of its own for the server API. Without it, the API is where metrics and health are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_listen: Option<SocketAddr>,
    /// Whether metrics and the details of health are on `listen`, for everybody who can reach it. `fanway dev` has them.
    pub public_metrics: bool,
    /// Certificate and key. Without them the server speaks plain HTTP, for a proxy that ends TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Connections of one listener at once. More are answered with 503 (event streams with `retry:`) and closed, but for
    /// those that ask for others than clients do alone. Over HTTP/2 each request of a client counts, but for the first of
    /// those that are under way on a connection. Of clients there are fewer where the limit of open files does not allow so many and 200 for the rest.
    pub max_connections: usize,
    /// Connections beyond `max_connections` or `accept_rate` that are answered, or served otherwise, at the same time; more
    /// are closed without an answer. As many again may be above `accept_rate` and have not sent a request yet.
    pub max_refusals: usize,
    /// New connections of clients per second. More are answered with 503 (event streams with `retry:`) and closed, so that
    /// a storm of reconnects does not drown those who are connected. Without it there is no limit.
    ///
    /// It holds for `listen` alone. What is served on `internal_listen` is exempt. Without that, a connection is exempt as
    /// long as it asks for the server API, health or metrics alone, over HTTP/1: one that speaks HTTP/2 counts as a
    /// client's. Nobody knows what a new connection is for before it says so: those above the rate that have not are
    /// bounded by `max_refusals`, and more are closed without an answer, exempt or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_rate: Option<u32>,
    /// New connections that may come at once before `accept_rate` holds. Without it, those of one second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accept_burst: Option<u32>,
    /// Connections the kernel keeps until they are accepted. The kernel's `somaxconn` caps it.
    pub backlog: u32,
    /// A new connection that has not sent its whole first request head after so long is closed; so is a later head that
    /// has begun.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// A request's body must have arrived this long after its head, else it is answered with 408.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// An HTTP connection without a request is closed after so long. Longer than that of the proxy in front, so that the
    /// proxy never sends into a closing connection.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// A client that takes no part of an HTTP answer for so long is cut off: its connection, or over HTTP/2 the stream
    /// whose window it keeps closed. Over HTTP/2 a client that does not take an answer above 16 KiB has less, the more of
    /// 16 MiB such answers of the listener hold, down to one second. Connections of the transports have their own time, see
    /// `client.write_stall`.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// A TLS handshake must be done after so long.
    #[serde(with = "humantime_serde")]
    pub tls_handshake_timeout: Duration,
    /// A connection that lets what was sent to it go unacknowledged for so long, or takes nothing of it, ends
    /// (`TCP_USER_TIMEOUT`, Linux only). Without it, twice the longest time between two heartbeats of a transport and
    /// `client.write_stall`; no less is allowed.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub user_timeout: Option<Duration>,
    /// Largest request head, from 8 KiB to 1 MiB. Larger ones are answered with 431, or 414 when the request line alone
    /// is larger. Bounds the channels of an event stream or poll too: their cursor must fit the head of a reconnect.
    pub max_head: ByteSize,
    /// Most header lines of a request, at most 100. More are answered with 431.
    pub max_headers: usize,
    /// Bytes that may wait unsent in the kernel for one client (`TCP_NOTSENT_LOWAT`). Keeps a client that does not read
    /// from holding megabytes of kernel memory, and leaves the send window to the kernel.
    pub unsent_limit: ByteSize,
    /// Fixed size of the kernel's send buffer (`SO_SNDBUF`). A harder bound than `unsent_limit`, at the price of
    /// throughput over long distances. Without it the kernel decides.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_buffer: Option<ByteSize>,
    /// Limits of HTTP/2 connections.
    pub http2: Http2Settings,
    /// Networks of proxies that say truthfully whose requests they pass on.
    pub trusted_proxies: Vec<Network>,
    /// Header in which they say it. They must set it: another header comes from the client.
    pub forwarded_header: ForwardedHeader,
    /// Whether clients connect to `listen` by themselves: then who connects and is no trusted proxy is the client.
    pub direct: bool,
    /// Whether connections of trusted proxies begin with a header of the PROXY protocol, version 1 or 2. Those of others
    /// must not.
    pub proxy_protocol: bool,
    /// Hosts that requests may be for; any if unset. Not to be set by users: `fanway dev` fills it in.
    #[serde(skip)]
    pub hosts: Option<Hosts>,
}

/// The `[server.tls]` section: files in PEM form.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Certificate chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// Private key of the certificate.
    pub key_file: PathBuf,
}

/// The `[server.http2]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http2Settings {
    /// Requests at once on one connection.
    pub max_streams: u32,
    /// Bytes of a request body that a client may send ahead, per request.
    pub stream_window: ByteSize,
    /// The same for the whole connection.
    pub connection_window: ByteSize,
    /// Bytes of an answer that may wait in memory, per request.
    pub send_buffer: ByteSize,
    /// While requests are open, a silent client is pinged this often.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// A ping unanswered for so long ends the connection.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::UNSPECIFIED, 8000).into(),
            internal_listen: None,
            api_listen: None,
            public_metrics: false,
            tls: None,
            max_connections: 100_000,
            max_refusals: 256,
            accept_rate: None,
            accept_burst: None,
            backlog: 4096,
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(20),
            tls_handshake_timeout: Duration::from_secs(5),
            user_timeout: None,
            max_head: ByteSize::kib(16),
            max_headers: 64,
            unsent_limit: ByteSize::kib(16),
            send_buffer: None,
            http2: Http2Settings::default(),
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            direct: false,
            proxy_protocol: false,
            hosts: None,
        }
    }
}

impl Default for Http2Settings {
    fn default() -> Self {
        Self {
            max_streams: 100,
            stream_window: ByteSize::kib(64),
            connection_window: ByteSize::kib(256),
            send_buffer: ByteSize::kib(64),
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(10),
        }
    }
}

/// A setting that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("server.{setting} must be {rule}")]
pub struct SettingsError {
    /// Its name below `server`.
    pub setting: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

impl Settings {
    /// Refuses values that cannot work.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let check = |ok: bool, setting, rule| if ok { Ok(()) } else { Err(SettingsError { setting, rule }) };
        let size = |value: ByteSize, least: ByteSize, most: ByteSize| (least..=most).contains(&value);

        check(self.max_connections > 0, "max_connections", "at least 1")?;
        check(self.accept_rate != Some(0), "accept_rate", "at least 1; leave it out for no limit")?;
        check(self.accept_burst != Some(0), "accept_burst", "at least 1")?;
        let trusts = !self.trusted_proxies.is_empty();
        check(
            trusts || !self.proxy_protocol,
            "proxy_protocol",
            "false, unless trusted_proxies lists the load balancers",
        )?;
        check(self.backlog > 0, "backlog", "at least 1")?;
        for (setting, value) in [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("idle_timeout", self.idle_timeout),
            ("write_timeout", self.write_timeout),
            ("tls_handshake_timeout", self.tls_handshake_timeout),
            ("user_timeout", self.user_timeout.unwrap_or(self.write_timeout)),
            ("http2.ping_interval", self.http2.ping_interval),
            ("http2.ping_timeout", self.http2.ping_timeout),
        ] {
            let sensible = Duration::from_millis(1)..=Duration::from_secs(24 * 3600);
            check(sensible.contains(&value), setting, "between 1 ms and 1 day")?;
        }
        // The lower bound is hyper's: it refuses smaller buffers.
        check(size(self.max_head, ByteSize::kib(8), ByteSize::mib(1)), "max_head", "between 8 KiB and 1 MiB")?;
        check((1..=100).contains(&self.max_headers), "max_headers", "between 1 and 100")?;
        let buffer = |value| size(value, ByteSize::kib(4), ByteSize::mib(64));
        check(buffer(self.unsent_limit), "unsent_limit", "between 4 KiB and 64 MiB")?;
        check(self.send_buffer.is_none_or(buffer), "send_buffer", "between 4 KiB and 64 MiB")?;
        check(self.http2.max_streams > 0, "http2.max_streams", "at least 1")?;
        for (setting, value) in [
            ("http2.stream_window", self.http2.stream_window),
            ("http2.connection_window", self.http2.connection_window),
            ("http2.send_buffer", self.http2.send_buffer),
        ] {
            check(buffer(value), setting, "between 4 KiB and 64 MiB")?;
        }
        Ok(())
    }

    /// Largest head in bytes.
    pub fn head_bytes(&self) -> usize {
        bytes(self.max_head)
    }
}

/// A size as the number that sockets and buffers take. Validated sizes fit 32 bits.
pub(super) fn bytes(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

/// The same in 32 bits.
pub(super) fn bytes32(size: ByteSize) -> u32 {
    u32::try_from(size.as_u64()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_named() {
        let settings = Settings::default();
        assert_eq!(settings.validate(), Ok(()));
        let large = Settings { max_head: ByteSize::mib(2), ..settings.clone() };
        assert_eq!(large.validate().unwrap_err().to_string(), "server.max_head must be between 8 KiB and 1 MiB");
        let nobody = Settings { accept_rate: Some(0), ..settings.clone() };
        assert_eq!(nobody.validate().unwrap_err().setting, "accept_rate");
        let never = Settings { idle_timeout: Duration::ZERO, ..settings };
        assert_eq!(never.validate().unwrap_err().to_string(), "server.idle_timeout must be between 1 ms and 1 day");
    }
}
