//! An upgraded socket as the hub's driver uses it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use fanway_hub::driver::Socket;
use rustix::io::Errno;
use rustix::net::SendFlags;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::{ConnectionGuard, Io};

/// An upgraded socket, counted among the open connections as long as it lives.
pub(super) struct UpgradedSocket {
    io: Io,
    _guard: ConnectionGuard,
}

impl UpgradedSocket {
    pub(super) fn new(io: Io, guard: ConnectionGuard) -> Self {
        Self { io, _guard: guard }
    }
}

impl Socket for UpgradedSocket {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        std::task::ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.io {
            // Straight to the kernel: tokio learns that the socket is full when the task tries it again.
            Io::Tcp(tcp) => match rustix::net::send(&*tcp, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(written) => Poll::Ready(Ok(written)),
                Err(Errno::AGAIN) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error.into())),
            },
            Io::Tls(_) => self.poll_write(&mut Context::from_waker(Waker::noop()), bytes),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn buffers(&self) -> bool {
        matches!(self.io, Io::Tls(_))
    }

    fn holds_back(&self) -> bool {
        self.io.holds_back()
    }

    fn take_progress(&mut self) -> bool {
        self.io.take_moved()
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
