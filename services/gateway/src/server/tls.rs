//! TLS by rustls: the server's configuration from PEM files, and the handshake.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fanway_broker::log_limited;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::io::Below;
use super::{Io, TlsSettings, answer};

/// Plain text that may wait inside one TLS connection whose client does not read.
const BUFFER_LIMIT: usize = 32 * 1024;

/// Why TLS cannot be served. Names the setting and the file, never their contents.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("server.tls.{setting}: {path}: {source}")]
    File {
        /// Which of the two settings.
        setting: &'static str,
        /// Its value.
        path: PathBuf,
        /// What went wrong.
        source: pem::Error,
    },
    /// The certificate file has no certificate in it.
    #[error("server.tls.cert_file: {0}: no certificate found")]
    NoCertificate(PathBuf),
    /// The files can be read but do not make a server: a key of an unknown kind, or of another certificate.
    #[error("server.tls: {cert_file} and {key_file}: {source}")]
    Unusable {
        /// The certificate chain.
        cert_file: PathBuf,
        /// The key.
        key_file: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
}

/// Reads certificate and key, and offers HTTP/2 and HTTP/1.1.
pub fn load(settings: &TlsSettings) -> Result<Arc<ServerConfig>, TlsError> {
    let TlsSettings { cert_file, key_file } = settings;
    let file_error = |setting, path: &PathBuf| {
        let path = path.clone();
        move |source| TlsError::File { setting, path, source }
    };

    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file_error("cert_file", cert_file))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(cert_file.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(file_error("key_file", key_file))?;

    // The provider is named, so that another crate's choice of a process-wide one does not matter.
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, key))
        .map_err(|source| TlsError::Unusable { cert_file: cert_file.clone(), key_file: key_file.clone(), source })?;
    // Tickets hold what a resumption needs, so that it works for everybody who comes back after a storm, and costs this
    // node no memory. One is enough: each resumption gives the next.
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(|source| TlsError::Unusable {
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        source,
    })?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Shakes hands. Nothing comes back from a client that fails or takes longer than `limit`.
pub(super) async fn handshake(config: &Arc<ServerConfig>, tcp: TcpStream, limit: Duration) -> Option<Io> {
    let accept = TlsAcceptor::from(Arc::clone(config))
        .accept_with(Below::new(tcp), |tls| tls.set_buffer_limit(Some(BUFFER_LIMIT)));
    match tokio::time::timeout(limit, accept.into_fallible()).await {
        Ok(Ok(tls)) => Some(Io::Tls(Box::new(tls))),
        Ok(Err((error, below))) => {
            if below.is_proxied() {
                answer::log_proxy_protocol(below.peer());
            } else {
                log_limited!(DEBUG, %error, "TLS handshake failed");
            }
            None
        }
        Err(_late) => None,
    }
}
