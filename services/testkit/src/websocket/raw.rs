//! A connection of bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::frame::Frame;
use crate::PATIENCE;
use crate::dial::{Stream, Target, dial, dial_narrow};

/// What came next on a raw connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole frame.
    Frame(Frame),
    /// The peer closed the connection properly.
    End,
    /// The connection broke.
    Broken(String),
    /// Nothing (or not enough for a frame) within the deadline.
    TimedOut,
}

impl Incoming {
    /// Code and reason, if this is a close frame.
    pub fn close(&self) -> Option<(u16, String)> {
        let Self::Frame(Frame { opcode: Frame::CLOSE, payload, .. }) = self else { return None };
        let Some((code, reason)) = payload.split_first_chunk() else { return Some((1005, String::new())) };
        Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
    }
}

/// A connection on which a test writes and reads what it likes.
pub struct Raw {
    stream: Stream,
    target: Target,
    /// Received and not consumed yet.
    buffer: Vec<u8>,
}

impl Raw {
    /// Connects and sends nothing.
    pub async fn connect(url: impl Into<Target>) -> Self {
        let target = url.into();
        let stream = dial(&target, &["http/1.1"]).await.unwrap_or_else(|error| panic!("{}: {error}", target.uri));
        Self { stream, target, buffer: Vec::new() }
    }

    /// The same with a small receive buffer, so that not reading blocks the server soon.
    pub async fn connect_narrow(url: impl Into<Target>, receive_buffer: u32) -> Self {
        let target = url.into();
        let stream = dial_narrow(&target, &["http/1.1"], receive_buffer).await;
        let stream = stream.unwrap_or_else(|error| panic!("{}: {error}", target.uri));
        Self { stream, target, buffer: Vec::new() }
    }

    /// Connects and does the WebSocket handshake; panics when it is refused.
    pub async fn open(url: impl Into<Target>) -> Self {
        let mut raw = Self::connect(url).await;
        let head = raw.handshake(&[]).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        raw
    }

    /// A proper handshake request with more header lines, in case the test writes it in pieces.
    pub fn handshake_request(&self, headers: &[&str]) -> String {
        let more: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n",
            self.target.path(),
            self.target.authority()
        )
    }

    /// Sends a handshake and returns the response's head.
    pub async fn handshake(&mut self, headers: &[&str]) -> String {
        self.write(self.handshake_request(headers)).await;
        self.read_head().await.unwrap_or_else(|end| panic!("no response head: {end:?}"))
    }

    /// Writes bytes. A peer that has closed is no error: reading tells.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the peer reads");
        let _ = self.stream.flush().await;
    }

    /// Writes a frame.
    pub async fn write_frame(&mut self, frame: &Frame) {
        self.write(frame.bytes()).await;
    }

    /// Ends the writing side.
    pub async fn finish(&mut self) {
        let _ = timeout(PATIENCE, self.stream.shutdown()).await;
    }

    /// Reads the head of an HTTP response, up to and with its blank line.
    pub async fn read_head(&mut self) -> Result<String, Incoming> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.fill(16 * 1024, PATIENCE).await?;
        }
    }

    /// The next frame.
    pub async fn read_frame(&mut self) -> Incoming {
        self.read_frame_within(PATIENCE).await
    }

    /// The next frame, within a deadline of the caller's.
    pub async fn read_frame_within(&mut self, deadline: Duration) -> Incoming {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            if let Some((frame, length)) = Frame::parse(&self.buffer) {
                self.buffer.drain(..length);
                return Incoming::Frame(frame);
            }
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if let Err(end) = self.fill(16 * 1024, left).await {
                return end;
            }
        }
    }

    /// Takes at most one byte from the connection: the slowest of readers. What is complete stays for
    /// [`Raw::read_frame`].
    pub async fn sip(&mut self, deadline: Duration) -> Result<(), Incoming> {
        self.fill(1, deadline).await
    }

    /// Takes at most so many bytes from the connection and drops them.
    pub async fn discard(&mut self, most: usize, deadline: Duration) -> Result<(), Incoming> {
        let taken = self.fill(most, deadline).await;
        self.buffer.clear();
        taken
    }

    /// Everything until the peer closes, with how it ended.
    pub async fn read_to_end(&mut self, deadline: Duration) -> (Vec<u8>, Incoming) {
        let end = tokio::time::Instant::now() + deadline;
        loop {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if let Err(end) = self.fill(64 * 1024, left).await {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    async fn fill(&mut self, most: usize, deadline: Duration) -> Result<(), Incoming> {
        let mut piece = vec![0; most];
        match timeout(deadline, self.stream.read(&mut piece)).await {
            Err(_) => Err(Incoming::TimedOut),
            Ok(Err(error)) => Err(Incoming::Broken(error.to_string())),
            Ok(Ok(0)) => Err(Incoming::End),
            Ok(Ok(length)) => {
                self.buffer.extend_from_slice(&piece[..length]);
                Ok(())
            }
        }
    }
}
