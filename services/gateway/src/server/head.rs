//! A request head as bytes: where it ends, which body it announces, and whether two readers could understand it
//! differently.
//!
//! hyper's parser is the one that counts, but it forgives what a proxy in front may read otherwise: bare line feeds,
//! `Content-Length` beside `Transfer-Encoding`, a fragment in the request target. Those are refused here, before hyper
//! sees them: the first head of a connection by [`super::door`], later ones by [`super::boundaries`].

use fanway_protocol::cursor::{STOP, is_event_id};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::answer::Refusal;

/// Signature of a PROXY protocol header, version 2.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Body that a head announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// So many bytes; 0 without a body.
    Length(u64),
    /// A chunked body: where it ends, only its reader knows.
    Chunked,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Where the request line begins, after empty lines that some clients send before it.
    pub(super) start: usize,
    /// Where the head ends, its empty line included.
    pub(super) end: usize,
    pub(super) body: Announced,
}

/// Finds the end of a head while it arrives. Looks at no byte twice.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Where the request line begins.
    start: usize,
    /// Where the current line begins.
    line: usize,
    /// How far was looked.
    seen: usize,
    /// `Content-Length`, if there was one.
    length: Option<u64>,
    /// There was a `Transfer-Encoding`.
    coded: bool,
}

impl Scan {
    /// Takes all bytes so far. `None` while the head is incomplete, which it may be up to `max` bytes.
    pub(super) fn feed(&mut self, bytes: &[u8], max: usize) -> Result<Option<Head>, Refusal> {
        if self.seen <= self.start {
            check_first(bytes, self.start)?;
        }
        while let Some(feed) = memchr::memchr(b'\n', &bytes[self.seen..]).map(|at| self.seen + at) {
            let [line @ .., b'\r'] = &bytes[self.line..feed] else {
                return Err(Refusal::Malformed("a line ends without a carriage return"));
            };
            let leading = self.line == self.start;
            self.seen = feed + 1;
            self.line = feed + 1;
            match (line.first(), leading) {
                (Some(first), false) => self.field(*first, line)?,
                (Some(_), true) => check_request_line(line)?,
                (None, false) => {
                    return Ok(Some(Head { start: self.start, end: feed + 1, body: self.announced()? }));
                }
                (None, true) => {
                    self.start = feed + 1;
                    check_first(bytes, self.start)?;
                }
            }
        }
        self.seen = bytes.len();
        match bytes.len() < max {
            true => Ok(None),
            // Still in the request line.
            false if self.line == self.start => Err(Refusal::UriTooLong),
            false => Err(Refusal::HeadTooLarge),
        }
    }

    /// Notes the length of the body. Every request pays for this: the first byte rules most lines out.
    fn field(&mut self, first: u8, line: &[u8]) -> Result<(), Refusal> {
        let value = |name: &str| {
            let named = line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name.as_bytes());
            named.then(|| line[name.len() + 1..].trim_ascii())
        };
        match first {
            b'c' | b'C' => {
                let Some(value) = value("content-length") else { return Ok(()) };
                let length = parse_length(value).ok_or(Refusal::Malformed("Content-Length is not a length"))?;
                if self.length.is_some_and(|known| known != length) {
                    return Err(Refusal::Malformed("two values of Content-Length"));
                }
                self.length = Some(length);
            }
            b't' | b'T' => self.coded |= value("transfer-encoding").is_some(),
            _ => (),
        }
        Ok(())
    }

    fn announced(&self) -> Result<Announced, Refusal> {
        match (self.length, self.coded) {
            (Some(_), true) => Err(Refusal::Malformed("both Content-Length and Transfer-Encoding")),
            // That the coding is `chunked` is a rule of its own: see `rules`.
            (None, true) => Ok(Announced::Chunked),
            (length, false) => Ok(Announced::Length(length.unwrap_or(0))),
        }
    }
}

/// Refuses bytes that cannot begin a request at `start`: a request begins with the token of its method. Anything else, as
/// a TLS handshake on a plain port, need not wait for the end of a line that never comes.
fn check_first(bytes: &[u8], start: usize) -> Result<(), Refusal> {
    match bytes.get(start) {
        Some(first) if !first.is_ascii_alphanumeric() && !b"\r!#$%&'*+-.^_`|~".contains(first) => {
            if is_proxied(bytes) {
                Err(Refusal::ProxyProtocol)
            } else {
                Err(Refusal::Malformed("this is not HTTP"))
            }
        }
        _ => Ok(()),
    }
}

/// Whether bytes begin with a header of the PROXY protocol, version 1 or 2.
pub(super) fn is_proxied(bytes: &[u8]) -> bool {
    // Up to its NUL, the signature of version 2 is two empty lines, which may come before a request.
    let signature = &PROXY_V2[..PROXY_V2.len().min(bytes.len())];
    bytes.starts_with(b"PROXY ") || (bytes.starts_with(signature) && signature.contains(&0))
}

fn check_request_line(line: &[u8]) -> Result<(), Refusal> {
    if is_proxied(line) {
        return Err(Refusal::ProxyProtocol);
    }
    // A reader that takes it for a fragment drops what follows: the request would be for something else.
    if memchr::memchr(b'#', line).is_some_and(|at| line[..at].contains(&b' ')) {
        return Err(Refusal::Malformed("a raw # in the request target; send %23"));
    }
    Ok(())
}

/// Digits only: no sign, no list.
fn parse_length(value: &[u8]) -> Option<u64> {
    value.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(value).ok()?.parse().ok())?
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

/// The query of what is asked for, as it was sent.
pub(super) fn query(head: &[u8]) -> &[u8] {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    memchr::memchr(b'?', target).map_or(&[], |mark| &target[mark + 1..])
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
pub(super) fn wants_event_stream(path: &[u8], accept: Option<&[u8]>) -> bool {
    path.ends_with(b"/sse")
        || path.ends_with(b"/uni_sse")
        || accept.is_some_and(|accept| accept.windows(17).any(|part| part == b"text/event-stream"))
}

/// Whether the sender presents the id of the event after which it must not come back: in the header, or for want of that in
/// the query, in any spelling.
pub(super) fn must_stop(last_event_id: Option<&[u8]>, query: &[u8]) -> bool {
    if let Some(id) = last_event_id.filter(|id| !id.is_empty()) {
        return id == STOP.as_bytes();
    }
    // Nearly nobody presents it.
    if memchr::memmem::find(query, STOP.as_bytes()).is_none() {
        return false;
    }
    let (mut event_id, mut cursor) = (None, None);
    for (name, value) in form_urlencoded::parse(query).filter(|(_, value)| !value.is_empty()) {
        if is_event_id(&name) {
            event_id = Some(value);
        } else if name == "cursor" {
            cursor = Some(value);
        }
    }
    event_id.or(cursor).is_some_and(|id| id == STOP)
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

    const MAX: usize = 1024;

    /// Feeds byte by byte, as the slowest client would.
    fn drip(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        let mut scan = Scan::default();
        for end in 1..=bytes.len() {
            if let Some(head) = scan.feed(&bytes[..end], MAX)? {
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    #[test]
    fn finds_the_end_of_a_head_however_it_arrives() {
        let head = |start, end, body| Some(Head { start, end, body });
        let cases: &[(&[u8], Option<Head>)] = &[
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", head(0, 27, Announced::Length(0))),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n", head(0, 27, Announced::Length(0))),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", head(4, 22, Announced::Length(0))),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", None),
            (b"\r\n\r\n\r\n", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", head(0, 18, Announced::Length(0))),
            (b"P / HTTP/1.1\r\nContent-length:  17\t\r\n\r\n", head(0, 38, Announced::Length(17))),
            (b"P / HTTP/1.1\r\nX: y\r\nTRANSFER-encoding:chunked\r\n\r\n", head(0, 49, Announced::Chunked)),
            (b"P / HTTP/1.1\r\nContent-Lengths: 1\r\nTE: a\r\n\r\n", head(0, 43, Announced::Length(0))),
        ];
        for (bytes, expected) in cases {
            let name = bytes.escape_ascii().to_string();
            assert_eq!(Scan::default().feed(bytes, MAX).unwrap(), *expected, "{name:?} at once");
            assert_eq!(drip(bytes).unwrap(), *expected, "{name:?} dripped");
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
            b"GET /a#b HTTP/1.1\r\n",
            b"P / HTTP/1.1\r\nContent-Length: +1\r\n",
            b"P / HTTP/1.1\r\nContent-Length:\r\n",
            b"P / HTTP/1.1\r\nContent-Length: 1, 1\r\n",
            b"P / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n",
            b"P / HTTP/1.1\r\nContent-Length: 1\r\ncontent-length: 2\r\n",
            b"P / HTTP/1.1\r\nContent-Length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert!(Scan::default().feed(bytes, MAX).is_err(), "{:?}", bytes.escape_ascii().to_string());
            assert!(drip(bytes).is_err(), "{:?} dripped", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn names_the_proxy_protocol() {
        for bytes in [
            b"PROXY TCP4 10.0.0.1 10.0.0.2 56324 443\r\nGET / HTTP/1.1\r\n\r\n".as_slice(),
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\xdc\x04\x01\xbb",
        ] {
            assert_eq!(Scan::default().feed(bytes, MAX), Err(Refusal::ProxyProtocol));
            assert_eq!(drip(bytes), Err(Refusal::ProxyProtocol));
        }
        assert_ne!(Scan::default().feed(b"\r\n\r\n\0\r\nHello\r\n", MAX), Err(Refusal::ProxyProtocol));
    }

    #[test]
    fn a_head_has_a_largest_size() {
        let long = "x".repeat(MAX);
        assert_eq!(Scan::default().feed(long.as_bytes(), MAX), Err(Refusal::UriTooLong));
        let large = format!("GET / HTTP/1.1\r\nX: {long}");
        assert_eq!(Scan::default().feed(large.as_bytes(), MAX), Err(Refusal::HeadTooLarge));
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
            let head = head.as_bytes();
            let wants = wants_event_stream(path(head), header(head, "accept"));
            assert_eq!(wants, expected, "{:?}", head.escape_ascii().to_string());
        }
    }

    #[test]
    fn tells_who_must_not_come_back() {
        for (head, expected) in [
            ("GET /sse?channel=a HTTP/1.1\r\nLast-Event-ID: stop\r\n\r\n", true),
            ("GET /sse?channel=a&lastEventId=stop HTTP/1.1\r\n\r\n", true),
            ("GET /sse?channel=a&last%2Devent%2Did=stop HTTP/1.1\r\n\r\n", true),
            ("GET /sse?channel=a&evs_last_event_id=stop HTTP/1.1\r\n\r\n", true),
            ("GET /sse?cursor=stop&channel=a HTTP/1.1\r\n\r\n", true),
            ("GET /sse?lastEventId=1~x&lastEventId=stop HTTP/1.1\r\nLast-Event-ID:\r\n\r\n", true),
            ("GET /sse?lastEventId=stop&cursor=1~x HTTP/1.1\r\n\r\n", true),
            ("GET /sse?lastEventId=stop&lastEventId=1~x HTTP/1.1\r\n\r\n", false),
            ("GET /sse?lastEventId=1~x&cursor=stop HTTP/1.1\r\n\r\n", false),
            ("GET /sse?lastEventId=stop HTTP/1.1\r\nLast-Event-ID: 1~x\r\n\r\n", false),
            ("GET /sse?channel=stop HTTP/1.1\r\n\r\n", false),
            ("GET /sse HTTP/1.1\r\n\r\n", false),
        ] {
            let bytes = head.as_bytes();
            assert_eq!(must_stop(header(bytes, "last-event-id"), query(bytes)), expected, "{head:?}");
        }
    }
}
