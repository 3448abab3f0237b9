//! Makes connections to the server: TCP, and TLS over it.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::settings::Target;

/// Bytes to and from the server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects. Has no deadline of its own: the caller has one for all that a connection needs.
pub(crate) async fn dial(target: &Target) -> io::Result<Box<dyn Stream>> {
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
    // Small commands must not wait for the acknowledgement of the one before.
    tcp.set_nodelay(true)?;
    match &target.tls {
        None => Ok(Box::new(tcp)),
        Some(tls) => {
            let connector = tokio_rustls::TlsConnector::from(tls.config.clone());
            Ok(Box::new(connector.connect(tls.name.clone(), tcp).await?))
        }
    }
}
