//! The door: waits for the whole head of a connection's first request.
//!
//! A silent connection holds no buffer, a slow one just the bytes it has sent. Only a whole head goes further, so that
//! hyper with its buffers is there for requests, not for attempts.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

use super::answer::Refusal;
use super::head::{Head, Scan};
use super::{Io, Settings, scratch};

/// Why nobody came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shut {
    /// The client went away.
    Gone,
    /// The client sent nothing until the deadline.
    Silent,
    /// What the client sent is answered with this.
    Refused(Refusal),
}

/// What a connection begins with.
#[derive(Debug)]
pub(super) struct First {
    /// The head, and whatever came after it.
    pub(super) bytes: Bytes,
    /// The head among the bytes. It begins with them.
    pub(super) head: Head,
}

/// Waits for a whole head.
pub(super) async fn open(io: &mut Io, settings: &Settings) -> Result<First, Shut> {
    let mut door = Door { partial: Vec::new(), scan: Scan::default(), max: settings.head_bytes() };
    let opened = tokio::time::timeout(settings.header_timeout, std::future::poll_fn(|cx| door.poll(cx, io))).await;
    match opened {
        Ok(opened) => opened,
        Err(_late) if door.partial.is_empty() => Err(Shut::Silent),
        Err(_late) => Err(Shut::Refused(Refusal::HeadTimeout)),
    }
}

struct Door {
    /// What came so far of an incomplete head; exactly as large as needed.
    partial: Vec<u8>,
    scan: Scan,
    max: usize,
}

impl Door {
    fn poll(&mut self, cx: &mut Context<'_>, io: &mut Io) -> Poll<Result<First, Shut>> {
        scratch::with(self.max, |buffer| {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let mut filled = kept;
            loop {
                let mut read = ReadBuf::new(&mut buffer[filled..]);
                match Pin::new(&mut *io).poll_read(cx, &mut read) {
                    Poll::Ready(Ok(())) if !read.filled().is_empty() => filled += read.filled().len(),
                    Poll::Ready(_) => return Poll::Ready(Err(Shut::Gone)),
                    Poll::Pending => {
                        self.partial.reserve_exact(filled - kept);
                        self.partial.extend_from_slice(&buffer[kept..filled]);
                        return Poll::Pending;
                    }
                }
                if let Some(outcome) = self.look(&buffer[..filled]) {
                    return Poll::Ready(outcome.map_err(Shut::Refused));
                }
            }
        })
    }

    /// What the bytes so far amount to; nothing when more are needed.
    fn look(&mut self, bytes: &[u8]) -> Option<Result<First, Refusal>> {
        let head = self.scan.feed(bytes, self.max).transpose()?;
        Some(head.map(|Head { start, end, body }| First {
            bytes: Bytes::copy_from_slice(&bytes[start..]),
            head: Head { start: 0, end: end - start, body },
        }))
    }
}
