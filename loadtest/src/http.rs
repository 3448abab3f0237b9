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

    /// `POST`. `headers` are whole lines, each with its line end.
    pub fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> anyhow::Result<Response> {
        self.request("POST", path, headers, body)
    }

    fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> anyhow::Result<Response> {
        let mut request = Vec::new();
        self.encode(method, path, headers, body, &mut request);
        self.send(&request)?;
        self.receive()
    }

    /// Appends a request, for [`Self::send`].
    pub fn encode(&self, method: &str, path: &str, headers: &str, body: &[u8], out: &mut Vec<u8>) {
        let Target { host, base, .. } = &self.target;
        out.extend_from_slice(format!("{method} {base}{path} HTTP/1.1\r\nHost: {host}\r\n{headers}").as_bytes());
        if method == "POST" {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
    }

    /// Sends one or more requests; each is to be followed by a [`Self::receive`].
    pub fn send(&mut self, requests: &[u8]) -> anyhow::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.buffer.clear();
                self.connect().context("cannot connect")?
            }
        };
        stream.write_all(requests).context("cannot send the request")?;
        self.stream = Some(stream);
        Ok(())
    }

    /// Waits for the next response. After an error the next request gets a new connection: what state this one is in is
    /// unknown.
    pub fn receive(&mut self) -> anyhow::Result<Response> {
        let mut stream = self.stream.take().context("no connection")?;
        loop {
            if let Some((response, length, keep)) = parse(&self.buffer)? {
                self.buffer.drain(..length);
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
        if self.target.tls {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "publishing, probing and scraping need http://"));
        }
        let stream = TcpStream::connect_timeout(&self.target.address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        Ok(stream)
    }
}

/// A whole response, its length, and whether its connection can be used again; `None` while it is incomplete.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Option<(Response, usize, bool)>> {
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
    Ok(body.map(|body| (Response { status, body: body.to_vec() }, start + length, keep)))
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
        let (response, length, keep) = parse(&[bytes, &b"HTTP"[..]].concat()).unwrap().unwrap();
        assert_eq!((response.status, response.body.as_slice(), length, keep), (503, &b"oops"[..], bytes.len(), false));
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
