//! A blocking HTTP/1.1 client over one kept connection: publishing, probing, scraping.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::target::Target;

/// Largest response that is read.
const MAX_RESPONSE: usize = 8 * 1024 * 1024;

/// A client that connects when it has to.
pub struct Client {
    target: Target,
    /// How long any step of a request may take.
    timeout: Duration,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of a server.
    pub fn new(target: &Target, timeout: Duration) -> Self {
        Self { target: target.clone(), timeout, stream: None, buffer: Vec::new() }
    }

    /// `GET`.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Response> {
        self.request("GET", path, "", b"")
    }

    /// `POST` of JSON. `headers` are whole lines, each with its line end.
    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> anyhow::Result<Response> {
        self.request("POST", path, &format!("Content-Type: application/json\r\n{headers}"), body)
    }

    fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> anyhow::Result<Response> {
        let Target { host, base, .. } = &self.target;
        let mut request = format!("{method} {base}{path} HTTP/1.1\r\nHost: {host}\r\n{headers}");
        if method == "POST" {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body);
        let result = self.exchange(&request);
        if result.is_err() {
            // What state the connection is in is unknown: the next request gets a new one.
            self.stream = None;
        }
        result
    }

    fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Response> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect().context("cannot connect")?,
        };
        stream.write_all(request).context("cannot send the request")?;
        self.buffer.clear();
        loop {
            if let Some((response, keep)) = parse(&self.buffer)? {
                if keep {
                    self.stream = Some(stream);
                }
                return Ok(response);
            }
            let mut piece = [0; 16 * 1024];
            match stream.read(&mut piece).context("no response")? {
                0 => bail!("the connection ended before the response"),
                _ if self.buffer.len() > MAX_RESPONSE => bail!("a response above 8 MiB"),
                length => self.buffer.extend_from_slice(&piece[..length]),
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.target.address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }
}

/// A whole response and whether its connection can be used again; `None` while it is incomplete.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Response, bool)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(bytes)? else { return Ok(None) };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let Some(length) = header("content-length") else { bail!("a response without a content-length") };
    let length: usize = length.trim().parse().context("a content-length that is no number")?;
    let keep = !header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let status = response.code.unwrap_or(0);
    let body = bytes[start..].get(..length);
    Ok(body.map(|body| (Response { status, body: body.to_vec() }, keep)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_or_not_yet() {
        let bytes = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops";
        for cut in 0..bytes.len() {
            assert!(parse(&bytes[..cut]).unwrap().is_none());
        }
        let (response, keep) = parse(bytes).unwrap().unwrap();
        assert_eq!((response.status, response.body.as_slice(), keep), (503, &b"oops"[..], false));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
