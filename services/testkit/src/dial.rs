//! Where a client connects to, and the connection itself: TCP, or TLS trusting one certificate.

use std::io;
use std::sync::Arc;

use ::http::Uri;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::PATIENCE;

/// A URL (`http`, `https`, `ws`, `wss`), with the certificate to trust when it is over TLS.
#[derive(Clone, Debug)]
pub struct Target {
    /// The URL.
    pub uri: Uri,
    /// The only certificate that is trusted.
    pub trust: Option<CertificateDer<'static>>,
}

impl<T: AsRef<str>> From<T> for Target {
    fn from(url: T) -> Self {
        let url = url.as_ref();
        Self { uri: url.parse().unwrap_or_else(|error| panic!("{url} is not a URL: {error}")), trust: None }
    }
}

impl Target {
    /// Trusts a certificate, for URLs over TLS.
    pub fn trusting(mut self, certificate: CertificateDer<'static>) -> Self {
        self.trust = Some(certificate);
        self
    }

    /// Adds parameters to the query.
    pub fn with_query(mut self, query: &str) -> Self {
        let joint = if self.uri.query().is_some() { '&' } else { '?' };
        let url = format!("{}{joint}{query}", self.uri);
        self.uri = url.parse().unwrap_or_else(|error| panic!("{url} is not a URL: {error}"));
        self
    }

    /// Whether the URL's scheme means TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.uri.scheme_str(), Some("https" | "wss"))
    }

    /// Host and port, as the `Host` header has them.
    pub fn authority(&self) -> &str {
        self.uri.authority().expect("the URL names a host").as_str()
    }

    /// Path and query, as the request line has them.
    pub fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }
}

/// A connection, plain or TLS.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection whose kind does not matter any more.
pub type Stream = Box<dyn Duplex>;

/// Connects, offering the given ALPN protocols over TLS.
pub async fn dial(target: &Target, alpn: &[&str]) -> io::Result<Stream> {
    dial_with(target, alpn, None).await
}

/// The same with a small receive buffer, so that a client that does not read blocks the server soon.
pub async fn dial_narrow(target: &Target, alpn: &[&str], receive_buffer: u32) -> io::Result<Stream> {
    dial_with(target, alpn, Some(receive_buffer)).await
}

async fn dial_with(target: &Target, alpn: &[&str], receive_buffer: Option<u32>) -> io::Result<Stream> {
    tokio::time::timeout(PATIENCE, dial_now(target, alpn, receive_buffer)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn dial_now(target: &Target, alpn: &[&str], receive_buffer: Option<u32>) -> io::Result<Stream> {
    let host = target.uri.host().expect("the URL names a host").trim_matches(['[', ']']).to_owned();
    let port = target.uri.port_u16().unwrap_or(if target.is_tls() { 443 } else { 80 });
    let address = tokio::net::lookup_host((host.as_str(), port)).await?.next().ok_or(io::ErrorKind::NotFound)?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    if !target.is_tls() {
        return Ok(Box::new(stream));
    }
    let trust = target.trust.clone().expect("a URL over TLS comes with a certificate to trust");
    let connector = TlsConnector::from(Arc::new(tls_config(trust, alpn)));
    let name = ServerName::try_from(host).expect("the URL's host is a name or an address");
    Ok(Box::new(connector.connect(name, stream).await?))
}

fn tls_config(trust: CertificateDer<'static>, alpn: &[&str]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trust).expect("the trusted certificate is one");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// A fresh self-signed certificate for `localhost` and `127.0.0.1`, and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// What clients trust.
    pub der: CertificateDer<'static>,
    /// The certificate file's content.
    pub certificate_pem: String,
    /// The key file's content.
    pub key_pem: String,
}

impl Certificate {
    /// Makes one.
    pub fn generate() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("the names are legal");
        Self {
            der: made.cert.der().clone(),
            certificate_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        }
    }
}
