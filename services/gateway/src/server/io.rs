//! A client's socket, plain or encrypted. All that an idle connection keeps of the server, so it is small.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::head;

/// A client's socket.
#[derive(Debug)]
pub enum Io {
    /// As it came, or behind a proxy that ends TLS.
    Tcp(TcpStream),
    /// Encrypted by us. Boxed, because the TLS state is large and most connections have none.
    Tls(Box<TlsStream<Below>>),
}

/// The socket below TLS.
///
/// TLS takes bytes that the client has not read yet into a buffer of its own, so only here it can be seen whether a slow
/// client still reads.
#[derive(Debug)]
pub struct Below {
    tcp: TcpStream,
    /// The kernel has taken bytes since anybody asked.
    moved: bool,
    /// Bytes were read.
    began: bool,
    /// The first of them are a header of the PROXY protocol.
    proxied: bool,
}

impl Below {
    pub(super) fn new(tcp: TcpStream) -> Self {
        Self { tcp, moved: false, began: false, proxied: false }
    }

    /// Address of the client, if the socket still has it.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.tcp.peer_addr().ok()
    }

    /// Whether the connection began with a header of the PROXY protocol, as far as the first read showed.
    pub(super) fn is_proxied(&self) -> bool {
        self.proxied
    }

    fn wrote(&mut self, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.moved |= matches!(outcome, Poll::Ready(Ok(1..)));
        outcome
    }
}

impl Io {
    /// The socket below, for socket options and addresses. Reading or writing it directly breaks TLS.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => &tls.get_ref().0.tcp,
        }
    }

    /// The protocol that TLS negotiated by ALPN; none without TLS, or if the client did not offer any.
    pub(super) fn negotiated(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// Whether TLS has sealed bytes that it has not passed on to the kernel. Never without TLS.
    pub fn holds_back(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(tls) => tls.get_ref().1.wants_write(),
        }
    }

    /// Whether TLS has passed bytes on to the kernel since the last call. Never without TLS.
    pub fn take_moved(&mut self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Tls(tls) => std::mem::take(&mut tls.get_mut().0.moved),
        }
    }

    /// Makes the socket forget which task waited for it last. A waker keeps the memory of its task, which is over once
    /// the socket has another owner.
    pub(super) fn forget_waker(&self) {
        let mut nobody = Context::from_waker(Waker::noop());
        // What is ready has no waker, so nothing is lost if this says so.
        let _ = self.tcp().poll_read_ready(&mut nobody);
        let _ = self.tcp().poll_write_ready(&mut nobody);
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Below {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.tcp).poll_read(cx, buf);
        if !self.began && buf.filled().len() > before {
            self.began = true;
            self.proxied = head::is_proxied(&buf.filled()[before..]);
        }
        outcome
    }
}

impl AsyncWrite for Below {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = match bufs {
            // Mostly there is one record, and the kernel takes it cheaper by itself than from a list of one.
            [record] => Pin::new(&mut self.tcp).poll_write(cx, record),
            _ => Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs),
        };
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::task::Wake;

    use tokio::net::TcpListener;

    use super::*;

    struct Task;

    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test]
    async fn a_socket_forgets_the_task_that_waited_for_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut io = Io::Tcp(TcpStream::connect(listener.local_addr().unwrap()).await.unwrap());
        let task = Arc::new(Task);
        let waker = Waker::from(Arc::clone(&task));
        let mut cx = Context::from_waker(&waker);
        let read = Pin::new(&mut io).poll_read(&mut cx, &mut ReadBuf::new(&mut [0]));
        assert!(read.is_pending());
        assert_eq!(Arc::strong_count(&task), 3, "the socket keeps the waker");
        io.forget_waker();
        assert_eq!(Arc::strong_count(&task), 2);
    }
}
