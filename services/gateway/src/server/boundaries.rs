//! Request boundaries of an HTTP/1.1 connection: the start of each request in the bytes that hyper reads.
//!
//! The rules for heads ([`super::head`]) must see exactly the bytes that hyper consumes as a head. A second parser of
//! bodies could disagree with hyper's about where a body ends, so there is none:
//! * A head is handed to hyper whole, once it has passed the rules. Pipelined requests that came whole, with bodies of known
//!   length, are handed over together: hyper then begins one in the poll that ends the one before it.
//! * After a head that announces a length, the next head begins so many bytes later. hyper's own understanding of the
//!   length is compared when it calls the service (`Exchange::begin`).
//! * Where a chunked body ends, only hyper knows. It ends with an empty line, as a head does, and a head has no other
//!   (RFC 9112, sections 2.1 and 7.1). So from there to the next head, hyper is handed at most one *block* per read: the
//!   bytes up to an empty line. hyper reads again only when it has used up what it has, so the head that it has when it
//!   calls the service is the last block. Each block is checked as if it were a head; the service call identifies the
//!   block that was a head.
//!
//! Each block costs a read and a body frame, and an empty line is a single byte. The number of blocks is therefore bounded:
//! [`FREE_BLOCKS`], and one more per [`BYTES_PER_BLOCK`] bytes. Beyond that the body fails, or the connection is refused
//! between requests. Joining blocks that cannot end a body would need hyper's understanding of chunks and trailers.

use super::answer::Refusal;
use super::head::{Announced, Scan};

/// Blocks that a chunked body may have whatever its size.
const FREE_BLOCKS: u64 = 1024;

/// Bytes of a chunked body per further block. A chunk of text that ends with a line break is a block: this permits any
/// number of chunks of eleven bytes, and costs less than the chunks of one byte (six with their framing) that hyper permits.
const BYTES_PER_BLOCK: u64 = 16;

/// A chunked body with too many blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", Self::MESSAGE)]
pub(super) struct TooManyBlocks;

impl TooManyBlocks {
    pub(super) const MESSAGE: &str = "the chunked body has too many empty lines";
}

/// Boundaries of requests: where the next head begins, and which part of it has been seen.
#[derive(Debug)]
pub(super) struct Boundaries {
    /// Largest head.
    max: usize,
    /// Bytes that follow which need no check: the rest of a head that was checked, and its body.
    left: u64,
    next: Next,
}

/// What comes after the bytes that need no check.
#[derive(Debug)]
enum Next {
    Head(Scan),
    /// A chunked body, and the head after it.
    Blocks(Box<Blocks>),
}

/// A head among the bytes that hyper is handed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// This is a head.
    Head(Announced),
    /// This was a head if hyper calls the service before it reads again; the outcome of the check.
    Block(Checked),
}

/// Outcome of the check of a block as a head.
pub(super) type Checked = Result<Announced, Refusal>;

impl Boundaries {
    /// A connection whose first `first` bytes are a head that passed the rules and announces `body`.
    pub(super) fn after_head(first: usize, body: Announced, max: usize) -> Self {
        let mut boundaries = Self { max, left: 0, next: Next::Head(Scan::default()) };
        boundaries.head(first, body);
        boundaries
    }

    /// Whether the next byte belongs to a head, or to the empty lines before it.
    pub(super) fn at_head(&self) -> bool {
        self.left == 0 && matches!(self.next, Next::Head(_))
    }

    /// Whether a chunked body and the head after it are handed out in blocks.
    pub(super) fn in_blocks(&self) -> bool {
        self.left == 0 && matches!(self.next, Next::Blocks(_))
    }

    /// At a head: takes all bytes so far. With `Some`, the head is whole and [`Self::pass`] hands it out.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<Seen>, Refusal> {
        let Next::Head(scan) = &mut self.next else { return Ok(None) };
        let Some(head) = scan.feed(bytes, self.max)? else { return Ok(None) };
        self.head(head.end, head.body);
        Ok(Some(Seen::Head(head.body)))
    }

    /// Number of these bytes, which are not at a head, that one read may hand out: at least one; and the block that ends
    /// there.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(usize, Option<Seen>), TooManyBlocks> {
        match &mut self.next {
            // A head before the blocks is handed out alone: what was seen of it stands until hyper calls the service.
            Next::Blocks(blocks) if self.left == 0 => {
                let (length, ended) = blocks.pass(bytes, self.max)?;
                Ok((length, ended.map(Seen::Block)))
            }
            _ => {
                let known = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= known as u64;
                Ok((known, None))
            }
        }
    }

    /// At a head, past the bytes of the requests before it: the request that begins there, if it passes the rules and came
    /// whole with a body of known length. Returns its length and what its head announces.
    pub(super) fn look_ahead(&self, bytes: &[u8]) -> Option<(usize, Announced)> {
        if !self.at_head() || bytes.is_empty() {
            return None;
        }
        let head = Scan::default().feed(bytes, self.max).ok()??;
        let Announced::Length(body) = head.body else { return None };
        let length = head.end.checked_add(usize::try_from(body).ok()?)?;
        (length <= bytes.len()).then_some((length, head.body))
    }

    /// The last block was a head that announces this body.
    pub(super) fn was_head(&mut self, body: Announced) {
        self.head(0, body);
    }

    fn head(&mut self, length: usize, body: Announced) {
        match body {
            Announced::Length(body) => {
                self.left = (length as u64).saturating_add(body);
                self.next = Next::Head(Scan::default());
            }
            Announced::Chunked => {
                self.left = length as u64;
                self.next = Next::Blocks(Box::default());
            }
        }
    }
}

/// Splits bytes after empty lines, whether their line breaks are whole or bare.
#[derive(Debug, Default)]
struct Blocks {
    /// The block so far, up to the size of a head.
    block: Vec<u8>,
    too_large: bool,
    line: Line,
    /// A bare line feed was all there was of the block before: an empty line before a head, if a head follows.
    bare: bool,
    /// Blocks so far.
    count: u64,
    /// Bytes so far.
    bytes: u64,
}

/// What there is of the current line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Nothing,
    Return,
    Text,
}

impl Line {
    fn and(self, more: &[u8]) -> Self {
        match (self, more) {
            (line, []) => line,
            (Self::Nothing, b"\r") => Self::Return,
            _ => Self::Text,
        }
    }
}

impl Blocks {
    /// Takes bytes up to the end of the block, and says of a whole one whether it is a head.
    fn pass(&mut self, bytes: &[u8], max: usize) -> Result<(usize, Option<Checked>), TooManyBlocks> {
        let mut at = 0;
        while let Some(feed) = memchr::memchr(b'\n', &bytes[at..]).map(|found| at + found) {
            let line = std::mem::take(&mut self.line).and(&bytes[at..feed]);
            at = feed + 1;
            if line != Line::Text {
                self.keep(&bytes[..at], max);
                self.count += 1;
                if self.count > FREE_BLOCKS + self.bytes / BYTES_PER_BLOCK {
                    return Err(TooManyBlocks);
                }
                return Ok((at, self.end(max)));
            }
        }
        self.line = self.line.and(&bytes[at..]);
        self.keep(bytes, max);
        Ok((bytes.len(), None))
    }

    fn keep(&mut self, bytes: &[u8], max: usize) {
        self.bytes += bytes.len() as u64;
        self.too_large |= self.block.len() + bytes.len() > max;
        if self.too_large {
            self.block = Vec::new();
        } else {
            self.block.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, max: usize) -> Option<Checked> {
        let (block, too_large) = (std::mem::take(&mut self.block), std::mem::take(&mut self.too_large));
        match block.as_slice() {
            b"\r\n" => return None,
            b"\n" => {
                self.bare = true;
                return None;
            }
            _ => (),
        }
        if std::mem::take(&mut self.bare) {
            return Some(Err(Refusal::Malformed("a line ends without a carriage return")));
        }
        if too_large {
            return Some(Err(Refusal::HeadTooLarge));
        }
        Some(match Scan::default().feed(&block, max + 1) {
            Ok(Some(head)) if head.end == block.len() => Ok(head.body),
            Ok(_) => Err(Refusal::Malformed("the request head is not whole")),
            Err(refusal) => Err(refusal),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAX: usize = 64;

    /// What one read after the other hands out of these bytes, at most `read` at a time, after a head with a chunked
    /// body; and what is seen at the end of each.
    fn blocks(bytes: &[u8], read: usize) -> Vec<(String, Option<bool>)> {
        let mut boundaries = Boundaries::after_head(0, Announced::Chunked, MAX);
        let (mut handed, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let (length, seen) = boundaries.pass(&bytes[at..bytes.len().min(at.saturating_add(read))]).unwrap();
            let seen = seen.map(|seen| matches!(seen, Seen::Block(Ok(_))));
            handed.push((String::from_utf8(bytes[at..at + length].to_vec()).unwrap(), seen));
            at += length;
        }
        handed
    }

    #[test]
    fn a_chunked_body_and_what_follows_are_handed_out_in_blocks() {
        let head = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let bytes = format!("5\r\nhello\r\n0\r\n\r\n{head}rest");
        let block = |text: &str, head| (text.to_owned(), head);
        // The first reads like a head by its lines, and hyper will not take it for one.
        let expected = [block("5\r\nhello\r\n0\r\n\r\n", Some(true)), block(head, Some(true)), block("rest", None)];
        assert_eq!(blocks(bytes.as_bytes(), usize::MAX), expected);
        // However it arrives, the same blocks end at the same bytes with the same outcome.
        for read in 1..10 {
            let ends: Vec<_> = blocks(bytes.as_bytes(), read).into_iter().filter_map(|(_, head)| head).collect();
            assert_eq!(ends, [true, true], "{read} bytes at a time");
        }
    }

    #[test]
    fn a_head_after_a_chunked_body_is_checked() {
        let last = |bytes: &str| blocks(bytes.as_bytes(), usize::MAX).pop().unwrap().1;
        assert_eq!(last("0\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(true), "an empty line before it");
        assert_eq!(last("0\r\n\r\n\nGET / HTTP/1.1\r\n\r\n"), Some(false), "a bare one");
        assert_eq!(last("0\r\n\r\n\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(false), "a bare one and another");
        assert_eq!(last("1\r\n\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Some(true), "a bare one in the body");
        assert_eq!(last("0\r\n\r\nGET / HTTP/1.1\nHost: a\r\n\r\n"), Some(false));
        assert_eq!(last("0\r\n\r\nGET / HTTP/1.1\r\nHost: a\n\n"), Some(false));
        assert_eq!(last(&format!("0\r\n\r\nGET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(MAX))), Some(false));
        assert_eq!(last(&format!("50\r\n{}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", "y".repeat(0x50))), Some(true));
    }

    #[test]
    fn after_a_length_the_next_head_begins_where_it_ends() {
        let mut boundaries = Boundaries::after_head(10, Announced::Length(5), MAX);
        assert!(!boundaries.at_head());
        assert_eq!(boundaries.pass(b"0123456"), Ok((7, None)));
        assert_eq!(boundaries.pass(b"789helloGET"), Ok((8, None)));
        assert!(boundaries.at_head());
        assert_eq!(boundaries.scan(b"GET / HTTP/1.1\r\n"), Ok(None));
        let whole = b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(boundaries.scan(whole), Ok(Some(Seen::Head(Announced::Length(2)))));
        assert_eq!(boundaries.pass(whole), Ok((whole.len(), None)));
        assert!(boundaries.scan(b"GET / HTTP/1.1\n").is_err());
    }

    #[test]
    fn a_pipelined_request_is_seen_once_it_is_whole() {
        let mut boundaries = Boundaries::after_head(4, Announced::Length(2), MAX);
        let next = b"P / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab";
        assert_eq!(boundaries.look_ahead(next), None, "the request before is not over");
        assert_eq!(boundaries.pass(b"headab"), Ok((6, None)));
        assert_eq!(boundaries.look_ahead(&[next, &b"P"[..]].concat()), Some((next.len(), Announced::Length(2))));
        for end in 0..next.len() {
            assert_eq!(boundaries.look_ahead(&next[..end]), None, "{end}");
        }
        for other in
            ["P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "P / HTTP/1.1\nHost: a\r\n\r\n", "\x01\r\n\r\n"]
        {
            assert_eq!(boundaries.look_ahead(other.as_bytes()), None, "{other:?}");
        }
        // Nothing of it is remembered.
        assert_eq!(boundaries.scan(next), Ok(Some(Seen::Head(Announced::Length(2)))));
    }

    #[test]
    fn a_block_that_was_a_head_is_followed_by_its_body() {
        let mut boundaries = Boundaries::after_head(0, Announced::Chunked, MAX);
        let head = b"GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(boundaries.pass(head), Ok((head.len(), Some(Seen::Block(Ok(Announced::Length(2)))))));
        boundaries.was_head(Announced::Length(2));
        assert_eq!(boundaries.pass(b"abGET"), Ok((2, None)));
        assert!(boundaries.at_head());
    }

    /// Number of reads that hand out a body of one chunk, and whether that was all of it.
    fn reads(body: &str) -> (u64, bool) {
        let bytes = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes();
        let mut boundaries = Boundaries::after_head(0, Announced::Chunked, MAX);
        let (mut reads, mut at) = (0, 0);
        while at < bytes.len() {
            let Ok((length, _)) = boundaries.pass(&bytes[at..]) else { return (reads, false) };
            (reads, at) = (reads + 1, at + length);
        }
        (reads, true)
    }

    #[test]
    fn the_blocks_of_a_chunked_body_are_bounded() {
        for line in ["\n", "\r\n", "0\n\n"] {
            let (reads, whole) = reads(&line.repeat(1024 * 1024));
            assert!(!whole && (FREE_BLOCKS..FREE_BLOCKS * 2).contains(&reads), "{line:?}: {reads}");
        }
        assert_eq!(reads(&"\n".repeat(1000)), (1002, true));
        assert_eq!(reads(&"fourteen bytes\n\n".repeat(100_000)), (100_002, true));
        // One chunk per line of text.
        let lines = "b\r\nten bytes.\n\r\n".repeat(100_000);
        assert_eq!(reads(&lines), (100_002, true));
    }
}
