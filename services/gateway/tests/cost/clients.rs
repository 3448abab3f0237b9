//! Clients that block and allocate nothing once they are connected, so that what is counted is the node's.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use fanway_testkit::node::{API_KEY, SECRET};
use fanway_testkit::token::{Claims, mint};

const PATIENCE: Duration = Duration::from_secs(60);

/// A subscribed WebSocket client of the client protocol.
pub(crate) struct Subscriber(TcpStream);

impl Subscriber {
    /// Connects and subscribes; returns when the subscribe reply is here.
    pub(crate) fn connect(port: u16, channel: &str) -> Self {
        let mut stream = dial(port);
        let token = mint(SECRET, &Claims::user("guard"));
        let commands = format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#)
            + "\n"
            + &format!(r#"{{"id":2,"subscribe":{{"channel":"{channel}"}}}}"#);
        stream
            .write_all(
                b"GET /connection/websocket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            )
            .unwrap();
        // Masked with zeros.
        let length = u16::try_from(commands.len()).unwrap().to_be_bytes();
        let frame = [&[0x81, 0x80 | 126, length[0], length[1], 0, 0, 0, 0], commands.as_bytes()].concat();
        stream.write_all(&frame).unwrap();
        let mut subscriber = Self(stream);
        subscriber.read_until(b"\"subscribe\"");
        subscriber
    }

    /// Reads until a text has come. What came with it is gone.
    pub(crate) fn read_until(&mut self, text: &[u8]) {
        read_until(&mut self.0, text);
    }
}

/// A connection of a back end.
pub(crate) struct Publisher {
    stream: TcpStream,
    request: Vec<u8>,
}

impl Publisher {
    /// One that publishes the same, again and again, into a channel.
    pub(crate) fn connect(port: u16, channel: &str) -> Self {
        let body = format!(r#"{{"channel":"{channel}","data":{{"text":"{}"}}}}"#, "x".repeat(100));
        let request = format!(
            "POST /api/publish HTTP/1.1\r\nHost: a\r\nX-API-Key: {API_KEY}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Self { stream: dial(port), request: request.into() }
    }

    /// Publishes, and waits for the answer.
    pub(crate) fn publish(&mut self) {
        self.stream.write_all(&self.request).unwrap();
        read_until(&mut self.stream, b"\"offset\"");
    }
}

fn dial(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn read_until(stream: &mut TcpStream, text: &[u8]) {
    let mut buffer = [0; 4096];
    let mut filled = 0;
    while !buffer[..filled].windows(text.len()).any(|window| window == text) {
        let read = stream.read(&mut buffer[filled..]).unwrap();
        assert!(read > 0, "the node has closed the connection");
        filled += read;
    }
}
