//! A request head as bytes: where it ends, and whether two readers could understand it differently.
//!
//! hyper's parser is the one that counts, but it forgives what a proxy in front may read otherwise: bare line feeds, and
//! `Content-Length` beside `Transfer-Encoding`. Those are refused here, before it sees them.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::answer::Refusal;

/// Finds the end of a head while it arrives. Looks at no byte twice.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Where the request line begins, after empty lines that some clients send before it.
    start: usize,
    /// Where the current line begins.
    line: usize,
    /// How far was looked.
    seen: usize,
}

impl Scan {
    /// Takes all bytes so far; `Some` is the range of the whole head.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, Refusal> {
        while let Some(feed) = memchr::memchr(b'\n', &bytes[self.seen..]).map(|at| self.seen + at) {
            if feed == self.line || bytes[feed - 1] != b'\r' {
                return Err(Refusal::Malformed("a line ends without a carriage return"));
            }
            let empty = feed - 1 == self.line;
            let leading = self.line == self.start;
            self.seen = feed + 1;
            self.line = feed + 1;
            match (empty, leading) {
                (true, true) => self.start = feed + 1,
                (true, false) => return Ok(Some(self.start..feed + 1)),
                (false, _) => (),
            }
            self.check_first(bytes)?;
        }
        self.seen = bytes.len();
        self.check_first(bytes)?;
        Ok(None)
    }

    /// A request begins with the token of its method. Anything else, as a TLS handshake on a plain port, need not wait
    /// for the end of a line that never comes.
    fn check_first(&self, bytes: &[u8]) -> Result<(), Refusal> {
        match bytes.get(self.start) {
            Some(first) if !first.is_ascii_alphanumeric() && !b"\r!#$%&'*+-.^_`|~".contains(first) => {
                Err(Refusal::Malformed("this is not HTTP"))
            }
            _ => Ok(()),
        }
    }

    /// Whether the request line is still incomplete.
    pub(super) fn in_request_line(&self) -> bool {
        self.line == self.start
    }
}

/// Refuses a head whose body has two lengths.
pub(super) fn check_framing(head: &[u8]) -> Result<(), Refusal> {
    // Every connection pays for this: one look at the first byte of most lines is enough.
    let named = |line: &[u8], name: &str| {
        line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    let (mut length, mut coding, mut at) = (false, false, 0);
    while let Some(feed) = memchr::memchr(b'\n', &head[at..]) {
        at += feed + 1;
        match head.get(at) {
            Some(b'c' | b'C') => length |= named(&head[at..], "content-length"),
            Some(b't' | b'T') => coding |= named(&head[at..], "transfer-encoding"),
            _ => (),
        }
    }
    if length && coding {
        return Err(Refusal::Malformed("both Content-Length and Transfer-Encoding"));
    }
    Ok(())
}

/// First value of a header, without the space around it.
pub(super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name.as_bytes()).then(|| line[colon + 1..].trim_ascii())
    })
}

/// The path that is asked for, without the query, and without the host that it may come with.
pub(super) fn path(head: &[u8]) -> &[u8] {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let target = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    match memchr::memmem::find(target, b"://").filter(|_| !target.starts_with(b"/")) {
        None => target,
        Some(scheme) => {
            let rest = &target[scheme + 3..];
            memchr::memchr(b'/', rest).map_or(b"/", |slash| &rest[slash..])
        }
    }
}

/// Method, target and headers of a head whose end was found. `None` if there is no way to read them; single lines that are
/// no headers are left out.
pub(super) fn parse(head: &[u8]) -> Option<(Method, Uri, HeaderMap)> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut request = lines.next()?.split(|byte| *byte == b' ');
    let (method, uri) = (Method::from_bytes(request.next()?).ok()?, Uri::try_from(request.next()?).ok()?);
    let mut headers = HeaderMap::new();
    for line in lines.take_while(|line| !line.is_empty()) {
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii())) {
            headers.try_append(name, value).ok()?;
        }
    }
    Some((method, uri, headers))
}

/// Whether the answer must not have a body.
pub(super) fn is_head(head: &[u8]) -> bool {
    head.starts_with(b"HEAD ")
}

/// Whether the sender is (or reads like) an `EventSource`, which gives up for good on any answer but 200.
pub(super) fn wants_event_stream(head: &[u8]) -> bool {
    let path = path(head);
    path.ends_with(b"/sse")
        || path.ends_with(b"/uni_sse")
        || header(head, "accept").is_some_and(|accept| accept.windows(17).any(|part| part == b"text/event-stream"))
}

/// Whether the sender reads the chunked transfer coding: it speaks HTTP/1.1.
pub(super) fn reads_chunks(head: &[u8]) -> bool {
    head.split(|byte| *byte == b'\r').next().is_some_and(|line| line.ends_with(b" HTTP/1.1"))
}

/// Whether it is the opening of an HTTP/2 connection.
pub(super) fn is_http2(head: &[u8]) -> bool {
    head.starts_with(b"PRI ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Feeds byte by byte, as the slowest client would.
    fn drip(bytes: &[u8]) -> Result<Option<std::ops::Range<usize>>, Refusal> {
        let mut scan = Scan::default();
        for end in 1..=bytes.len() {
            if let Some(range) = scan.feed(&bytes[..end])? {
                return Ok(Some(range));
            }
        }
        Ok(None)
    }

    #[test]
    fn finds_the_end_of_a_head_however_it_arrives() {
        let cases: &[(&[u8], Option<std::ops::Range<usize>>)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(0..27)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n", Some(0..27)),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", Some(4..22)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"\r\n\r\n\r\n", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(0..18)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                Scan::default().feed(bytes).unwrap(),
                *expected,
                "{:?} at once",
                bytes.escape_ascii().to_string()
            );
            assert_eq!(drip(bytes).unwrap(), *expected, "{:?} dripped", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn refuses_at_once_what_is_not_a_head() {
        for bytes in [
            b"\x16\x03\x01\x02\x00\x01".as_slice(),
            b"GET / HTTP/1.1\nHost: a\n\n",
            b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
            b"\nGET / HTTP/1.1\r\n\r\n",
            b" GET / HTTP/1.1\r\n\r\n",
            b"\r\n\0",
        ] {
            assert!(Scan::default().feed(bytes).is_err(), "{:?}", bytes.escape_ascii().to_string());
            assert!(drip(bytes).is_err(), "{:?} dripped", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn tells_event_streams_by_path_and_by_accept() {
        for (head, expected) in [
            ("GET /sse HTTP/1.1\r\n\r\n", true),
            ("GET /sse?channel=a HTTP/1.1\r\n\r\n", true),
            ("GET /connection/uni_sse HTTP/1.1\r\n\r\n", true),
            ("GET /else HTTP/1.1\r\naccept: text/event-stream, */*\r\n\r\n", true),
            ("GET http://a/sse?channel=a HTTP/1.1\r\n\r\n", true),
            ("GET http://a.example HTTP/1.1\r\n\r\n", false),
            ("GET /poll?next=/sse HTTP/1.1\r\n\r\n", false),
            ("GET /assets HTTP/1.1\r\nX-Accept: text/event-stream\r\n\r\n", false),
        ] {
            assert_eq!(wants_event_stream(head.as_bytes()), expected, "{head:?}");
        }
    }
}
