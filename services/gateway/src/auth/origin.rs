//! Which pages may use this node.
//!
//! A browser names the page that makes a request in `Origin`, and a page cannot lie about it. That is the only defence
//! against a foreign page that connects with a visitor's cookies or from a visitor's network, so it is compared exactly:
//! browsers send scheme and host in lower case and without the scheme's own port, and anything else is foreign.

use http::Uri;
use http::header::{self, HeaderMap, HeaderValue};

use super::settings::Settings;
use crate::config::Problems;

/// The origins that may use this node. Immutable; share it.
#[derive(Clone, Debug)]
pub struct Origins {
    listed: Vec<String>,
    any: bool,
    /// Whether answers to listed origins may be read by requests that carry cookies.
    credentials: bool,
}

/// Where a request comes from, when it may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// No `Origin`: not a browser, or a plain same-origin GET of one.
    Unstated,
    /// A page of this very host.
    SameOrigin,
    /// A page of an allowed origin, which may read the answer.
    Listed(HeaderValue),
    /// A page of some origin while all are allowed.
    Any,
}

/// The request comes from a page that may not use this node: 403.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the origin is not allowed")]
pub struct ForeignOrigin;

impl Origins {
    /// Checks and normalises the settings.
    pub fn new(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut listed = Vec::with_capacity(settings.allowed_origins.len());
        let mut any = false;
        for (index, origin) in settings.allowed_origins.iter().enumerate() {
            match normalise(origin) {
                _ if origin == "*" => any = true,
                Some(origin) => listed.push(origin),
                None => problems.add(
                    format!("auth.allowed_origins[{index}]"),
                    "not an origin; write scheme, host and port only, as https://app.example.com or http://localhost:3000",
                ),
            }
        }
        problems.require(
            !any || settings.cookie.is_none(),
            "auth.allowed_origins",
            "\"*\" together with auth.cookie would let any page act as its visitor; list the origins",
        );
        problems.into_result(Self { listed, any, credentials: settings.cookie.is_some() })
    }

    /// Judges a request. `secure` says whether it came over TLS that this node terminates itself.
    pub fn judge(&self, headers: &HeaderMap, uri: &Uri, secure: bool) -> Result<Caller, ForeignOrigin> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let (origin, text) = match (values.next(), values.next()) {
            (None, _) => return Ok(Caller::Unstated),
            (Some(origin), None) => (origin, origin.to_str().map_err(|_| ForeignOrigin)?),
            (Some(_), Some(_)) => return Err(ForeignOrigin),
        };
        if self.listed.iter().any(|listed| listed == text) {
            return Ok(Caller::Listed(origin.clone()));
        }
        if is_own(text, headers, uri, secure) {
            return Ok(Caller::SameOrigin);
        }
        if self.any { Ok(Caller::Any) } else { Err(ForeignOrigin) }
    }

    /// Whether pages of listed origins may read the answers to requests that carry cookies.
    pub fn allow_credentials(&self) -> bool {
        self.credentials
    }
}

/// An origin as browsers write it; `None` if the text is none.
fn normalise(text: &str) -> Option<String> {
    let (scheme, authority) = text.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = authority.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "http" => ":80",
        "https" => ":443",
        // Pages inside applications (`tauri://localhost`, browser extensions) have no default port.
        _ if !scheme.is_empty()
            && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) =>
        {
            ""
        }
        _ => return None,
    };
    let authority = match authority.strip_suffix(default_port) {
        Some(host) if !default_port.is_empty() => host,
        _ => &authority,
    };
    let parsed: http::uri::Authority = authority.parse().ok()?;
    let host = parsed.host();
    // Text before an `@` makes the lengths differ as well.
    let port_is_written_well = match authority[host.len()..].strip_prefix(':') {
        Some(port) => port.parse::<u16>().is_ok_and(|number| number.to_string() == port),
        None => authority.len() == host.len(),
    };
    let is_exact = !host.is_empty() && !host.ends_with('.') && !host.contains('*') && port_is_written_well;
    is_exact.then(|| format!("{scheme}://{authority}"))
}

/// Whether a page of the host that the request names made it.
///
/// In front of a plain listener TLS may have been terminated by a proxy, so `https` pages of the host count as its own as
/// well. An `http` page does not count once anything says that the request itself came over TLS: whoever controls the
/// network can forge such pages. The proxy's word is only ever used to refuse, so it need not be trusted.
fn is_own(origin: &str, headers: &HeaderMap, uri: &Uri, secure: bool) -> bool {
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().ok(),
        None => uri.authority().map(|authority| authority.as_str()),
    };
    let Some(host) = host.filter(|host| !host.is_empty()) else { return false };
    let behind_tls = headers.get("x-forwarded-proto").is_some_and(|proto| proto.as_bytes().starts_with(b"https"));
    let is = |scheme: &str| normalise(&format!("{scheme}://{host}")).is_some_and(|own| own == origin);
    is("https") || (!secure && !behind_tls && is("http"))
}
