//! The front: takes publications over HTTP for the delivering thread. A blocking thread per publisher.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use mio::Waker;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::deliver::Queue;

/// Larger requests are no load generator's.
const MAX_REQUEST: usize = 8 * 1024 * 1024;

/// A publish or a broadcast.
#[derive(Deserialize)]
struct Body<'a> {
    channel: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Serves until the process ends.
pub(super) fn serve(listener: &TcpListener, queue: &Arc<Queue>, waker: &Waker) {
    std::thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            scope.spawn(move || publisher(stream, queue, waker));
        }
    });
}

/// One publisher, until it goes or says what is not understood.
fn publisher(mut stream: TcpStream, queue: &Queue, waker: &Waker) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut input = Vec::new();
    loop {
        let (mut used, mut answers) = (0, Vec::new());
        while let Some((body, length)) = request(&input[used..])? {
            let status = match body {
                [] => "200 OK",
                body => match serde_json::from_slice::<Body<'_>>(body) {
                    Ok(Body { channel, channels, data }) => {
                        let data = data.get();
                        let mut queue = queue.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                        queue.extend(channel.into_iter().chain(channels).map(|channel| (channel, data.to_owned())));
                        "200 OK"
                    }
                    Err(_) => "400 Bad Request",
                },
            };
            used += length;
            let text = r#"{"result":{}}"#;
            answers.extend_from_slice(
                format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                )
                .as_bytes(),
            );
        }
        if used > 0 {
            input.drain(..used);
            waker.wake().ok()?;
            stream.write_all(&answers).ok()?;
        }
        let mut piece = [0; 16 * 1024];
        match stream.read(&mut piece) {
            Ok(0) => return None,
            Ok(_) if input.len() > MAX_REQUEST => return None,
            Ok(length) => input.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The body of a whole request and its length; the outer `None` for what is no request, the inner while it is incomplete.
fn request(bytes: &[u8]) -> Option<Option<(&[u8], usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(start) = request.parse(bytes).ok()? else { return Some(None) };
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = match length {
        Some(header) => std::str::from_utf8(header.value).ok()?.trim().parse::<usize>().ok()?,
        None => 0,
    };
    Some(bytes.get(start..start.checked_add(length)?).map(|body| (body, start + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_taken_one_after_another() {
        let bytes = b"POST /api/publish HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}GET / HTTP/1.1\r\n\r\n";
        let (body, length) = request(bytes).unwrap().unwrap();
        assert_eq!(body, b"{}");
        assert_eq!(request(&bytes[length..]).unwrap().unwrap().0, b"");
        assert!(request(&bytes[..length - 1]).unwrap().is_none());
        assert!(request(b"\x16\x03").is_none());
    }
}
