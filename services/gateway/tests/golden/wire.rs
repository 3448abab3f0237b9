//! A connection of bytes, read in the units that the peer wrote.

use fanway_testkit::PATIENCE;
use fanway_testkit::websocket::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Delimiters of the bytes that follow on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// HTTP responses.
    Response,
    /// The response to a HEAD, which declares the length of a body that it does not have.
    Head,
    /// WebSocket frames.
    Frames,
    /// Chunks of a response body.
    Chunks,
    /// Blocks of an event stream, up to a blank line.
    Blocks,
}

/// A part of the input as the peer wrote it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A head up to its blank line, and a body of the declared length.
    Response(String, Vec<u8>),
    /// The bytes of a frame's header, its opcode and its payload.
    Frame(Vec<u8>, u8, Vec<u8>),
    /// A chunk's first line and content.
    Chunk(String, Vec<u8>),
    /// A block.
    Block(Vec<u8>),
}

/// A connection.
pub(crate) struct Wire {
    socket: TcpStream,
    received: Vec<u8>,
    pub(crate) mode: Mode,
}

impl Wire {
    /// Connects; a narrow connection blocks the server as soon as it is not read from.
    pub(crate) async fn open(port: u16, narrow: bool) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if narrow {
            socket.set_recv_buffer_size(16 * 1024).unwrap();
        }
        let socket = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, received: Vec::new(), mode: Mode::Response }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        // A peer that has closed already has said why; reading shows it.
        let _ = tokio::time::timeout(PATIENCE, self.socket.write_all(bytes)).await.expect("the peer reads");
    }

    /// The next unit; `None` at the end of the connection.
    pub(crate) async fn read(&mut self) -> Option<Unit> {
        loop {
            if let Some((unit, length)) = parse(self.mode, &self.received) {
                self.received.drain(..length);
                if let Unit::Response(head, _) = &unit {
                    self.mode = mode_after(head);
                }
                return Some(unit);
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// All remaining bytes until the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.received)
    }

    async fn fill(&mut self) -> bool {
        let reading = tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.received)).await;
        let length = reading.unwrap_or_else(|_| panic!("nothing more after {:?}", self.received));
        length.expect("an orderly end, not a reset") > 0
    }
}

/// The mode after a response's head.
fn mode_after(head: &str) -> Mode {
    match head {
        _ if head.starts_with("HTTP/1.1 101 ") => Mode::Frames,
        _ if !head.contains("\r\ncontent-type: text/event-stream") => Mode::Response,
        _ if head.contains("\r\ntransfer-encoding: chunked\r\n") => Mode::Chunks,
        _ => Mode::Blocks,
    }
}

/// One unit from the front of the bytes, and its length; `None` while it is incomplete.
fn parse(mode: Mode, bytes: &[u8]) -> Option<(Unit, usize)> {
    match mode {
        Mode::Frames => {
            let (frame, length) = Frame::parse(bytes)?;
            let header = bytes[..length - frame.payload.len()].to_vec();
            Some((Unit::Frame(header, frame.opcode, frame.payload), length))
        }
        Mode::Blocks => {
            let end = find(bytes, b"\n\n")? + 2;
            Some((Unit::Block(bytes[..end].to_vec()), end))
        }
        Mode::Chunks => {
            let line = find(bytes, b"\r\n")?;
            let first = String::from_utf8(bytes[..line].to_vec()).unwrap();
            let length = usize::from_str_radix(&first, 16).unwrap_or_else(|_| panic!("{first:?} begins no chunk"));
            let (start, end) = (line + 2, line + 2 + length);
            let content = bytes.get(start..end)?.to_vec();
            let after = bytes.get(end..end + 2)?;
            assert_eq!(after, b"\r\n", "a chunk of {length} bytes goes on after its end");
            Some((Unit::Chunk(first, content), end + 2))
        }
        Mode::Response | Mode::Head => {
            let end = find(bytes, b"\r\n\r\n")? + 4;
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.filter(|_| mode == Mode::Response);
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            let body = bytes.get(end..end + length)?.to_vec();
            Some((Unit::Response(head, body), end + length))
        }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}
