//! RESP2, as far as connections of our own need it: what Redis sends on a pub/sub connection, where any reply ends, and
//! commands.
//!
//! Written for them because the reader must not allocate per message, must bound what it takes, and must hand over whole
//! batches. Nothing panics on any bytes; what is not RESP ends the connection.

/// The longest bulk string taken. Larger than any publication can be; a longer one ends the connection.
pub(crate) const MAX_BULK: usize = 16 << 20;
/// The longest line taken (a status or an error).
const MAX_LINE: usize = 4096;
/// The most elements of an array taken.
const MAX_PARTS: usize = 4;
/// The most elements of a reply taken, with those inside of its elements.
const MAX_ELEMENTS: usize = 1 << 20;

/// Something whole that Redis sent.
#[derive(Debug, PartialEq)]
pub(crate) enum Frame<'a> {
    /// `+OK`
    Status(&'a [u8]),
    /// `-ERR why`
    Error(&'a [u8]),
    /// An answer to a question that is asked before the first subscription.
    Bulk(&'a [u8]),
    /// Everything on a subscribed connection: kind, pub/sub channel, payload or count.
    Array(Parts<'a>),
}

/// The elements of an array, as many as it has.
pub(crate) type Parts<'a> = [Option<Part<'a>>; MAX_PARTS];

/// An element of an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Part<'a> {
    /// A bulk string.
    Bytes(&'a [u8]),
    /// A number. Which one is of no interest here.
    Integer,
    /// Null.
    Nil,
}

/// Bytes that are not what Redis sends on such a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what arrived is not a pub/sub reply: {0}")]
pub(crate) struct Violation(&'static str);

/// The first frame in the buffer and its length, or `None` when it is not whole yet.
pub(crate) fn parse(buffer: &[u8]) -> Result<Option<(Frame<'_>, usize)>, Violation> {
    let mut cursor = Cursor { buffer, at: 0 };
    Ok(cursor.frame()?.map(|frame| (frame, cursor.at)))
}

/// The length of the first reply in the buffer, of whatever kind, or `None` when it is not whole yet.
pub(crate) fn length(buffer: &[u8]) -> Result<Option<usize>, Violation> {
    let mut cursor = Cursor { buffer, at: 0 };
    let (mut seen, mut expected) = (0, 1);
    while seen < expected {
        let Some(line) = cursor.line()? else { return Ok(None) };
        seen += 1;
        match line.split_first() {
            Some((b'+' | b'-' | b':', _)) => {}
            Some((b'$', length)) => match number(length)? {
                -1 => {}
                length => {
                    let length = usize::try_from(length).map_err(|_| Violation("a negative length"))?;
                    if cursor.bulk(length)?.is_none() {
                        return Ok(None);
                    }
                }
            },
            Some((b'*', length)) => match number(length)? {
                -1 => {}
                length => {
                    expected += usize::try_from(length).map_err(|_| Violation("a negative length"))?;
                    if expected > MAX_ELEMENTS {
                        return Err(Violation("too many elements"));
                    }
                }
            },
            _ => return Err(Violation("an unexpected type")),
        }
    }
    Ok(Some(cursor.at))
}

struct Cursor<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn frame(&mut self) -> Result<Option<Frame<'a>>, Violation> {
        let Some(line) = self.line()? else { return Ok(None) };
        match line.split_first() {
            Some((b'+', status)) => Ok(Some(Frame::Status(status))),
            Some((b'-', error)) => Ok(Some(Frame::Error(error))),
            Some((b'$', length)) => {
                let length = usize::try_from(number(length)?).map_err(|_| Violation("a null"))?;
                let Some(Part::Bytes(bytes)) = self.bulk(length)? else { return Ok(None) };
                Ok(Some(Frame::Bulk(bytes)))
            }
            Some((b'*', length)) => {
                let length = usize::try_from(number(length)?).map_err(|_| Violation("a null array"))?;
                if length > MAX_PARTS {
                    return Err(Violation("too many elements"));
                }
                let mut parts = [None; MAX_PARTS];
                for part in &mut parts[..length] {
                    *part = self.part()?;
                    if part.is_none() {
                        return Ok(None);
                    }
                }
                Ok(Some(Frame::Array(parts)))
            }
            _ => Err(Violation("an unexpected type")),
        }
    }

    fn part(&mut self) -> Result<Option<Part<'a>>, Violation> {
        let Some(line) = self.line()? else { return Ok(None) };
        match line.split_first() {
            Some((b':', digits)) => number(digits).map(|_| Some(Part::Integer)),
            Some((b'$', length)) => match number(length)? {
                -1 => Ok(Some(Part::Nil)),
                length => self.bulk(usize::try_from(length).map_err(|_| Violation("a negative length"))?),
            },
            _ => Err(Violation("an unexpected element")),
        }
    }

    fn bulk(&mut self, length: usize) -> Result<Option<Part<'a>>, Violation> {
        if length > MAX_BULK {
            return Err(Violation("a bulk string is too long"));
        }
        let Some(bytes) = self.buffer.get(self.at..self.at + length + 2) else { return Ok(None) };
        let Some(bytes) = bytes.strip_suffix(b"\r\n") else { return Err(Violation("a bulk string without its end")) };
        self.at += length + 2;
        Ok(Some(Part::Bytes(bytes)))
    }

    /// The next line without its end.
    fn line(&mut self) -> Result<Option<&'a [u8]>, Violation> {
        let rest = &self.buffer[self.at..];
        let Some(end) = rest.iter().take(MAX_LINE).position(|b| *b == b'\r') else {
            return if rest.len() < MAX_LINE { Ok(None) } else { Err(Violation("a line is too long")) };
        };
        match rest.get(end + 1) {
            None => Ok(None),
            Some(b'\n') => {
                self.at += end + 2;
                Ok(Some(&rest[..end]))
            }
            Some(_) => Err(Violation("a line without its end")),
        }
    }
}

fn number(text: &[u8]) -> Result<i64, Violation> {
    const NO: Violation = Violation("a number is not one");
    if text.len() > 19 {
        return Err(NO);
    }
    std::str::from_utf8(text).map_err(|_| NO)?.parse().map_err(|_| NO)
}

/// Writes a command: words as bulk strings.
pub(crate) fn command<'a>(out: &mut bytes::BytesMut, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut bytes = Vec::new();
    let mut command = Command::begin(&mut bytes, words.len());
    words.for_each(|word| command.word([word]));
    command.end();
    out.extend_from_slice(&bytes);
}

/// A command that is written word by word, without memory of its own.
pub(crate) struct Command<'a>(&'a mut Vec<u8>);

impl<'a> Command<'a> {
    /// Begins a command of so many words.
    pub(crate) fn begin(out: &'a mut Vec<u8>, words: usize) -> Self {
        let mut space = Digits::default();
        let begin = space.write(words as u64) - 1;
        space.0[begin] = b'*';
        out.extend_from_slice(&space.0[begin..]);
        Self(out)
    }

    /// Words for a command that is begun later.
    pub(crate) fn words(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    /// Words that were written before.
    pub(crate) fn raw(&mut self, written: &[u8]) {
        self.0.extend_from_slice(written);
    }

    /// A word, given in pieces.
    #[inline]
    pub(crate) fn word<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        let mut space = Digits::default();
        space.0[SPACE - 2..].copy_from_slice(LINE_END);
        let begin = space.before(SPACE - 2, pieces.iter().map(|piece| piece.len() as u64).sum()) - 3;
        space.0[begin..begin + 3].copy_from_slice(b"\r\n$");
        self.0.extend_from_slice(&space.0[begin..]);
        pieces.iter().for_each(|piece| self.0.extend_from_slice(piece));
    }

    /// A number as a word.
    pub(crate) fn number(&mut self, number: u64) {
        self.word([itoa::Buffer::new().format(number).as_bytes()]);
    }

    /// Ends it. Lines end where the next begins, so that there is one piece less for each.
    pub(crate) fn end(self) {
        self.0.extend_from_slice(LINE_END);
    }
}

const LINE_END: &[u8] = b"\r\n";
/// Room for the longest number and what stands around it.
const SPACE: usize = 32;

/// Where a number is written, from the end.
#[derive(Default)]
struct Digits([u8; SPACE]);

impl Digits {
    fn write(&mut self, number: u64) -> usize {
        self.before(SPACE, number)
    }

    /// Writes a number before a place, and returns where it begins.
    fn before(&mut self, end: usize, mut number: u64) -> usize {
        let mut begin = end;
        loop {
            begin -= 1;
            self.0[begin] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return begin;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn message(topic: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut out = bytes::BytesMut::new();
        command(&mut out, [b"message".as_slice(), topic, payload].into_iter());
        out.to_vec()
    }

    #[test]
    fn what_redis_sends() {
        let bytes = |text: &'static str| Some(Part::Bytes(text.as_bytes()));
        for (text, frame) in [
            ("+PONG\r\n", Frame::Status(b"PONG")),
            ("-NOPERM no\r\n", Frame::Error(b"NOPERM no")),
            ("*2\r\n$4\r\npong\r\n$0\r\n\r\n", Frame::Array([bytes("pong"), bytes(""), None, None])),
            (
                "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
                Frame::Array([bytes("subscribe"), bytes("a"), Some(Part::Integer), None]),
            ),
            (
                "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
                Frame::Array([bytes("unsubscribe"), Some(Part::Nil), Some(Part::Integer), None]),
            ),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Some((frame, text.len()))), "{text:?}");
            for cut in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_it_never_sends() {
        for text in [
            "*5\r\n",
            "*-1\r\n",
            "*x\r\n",
            "*1\r\n*1\r\n",
            "*1\r\n$-2\r\n",
            "*1\r\n$99999999\r\n",
            "*1\r\n$99999999999999999999999\r\n",
            "*1\r\n$1\r\nab\r\n",
            "+a\rb",
            "\r\n",
            "HTTP/1.1 400 Bad Request\r\n",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(parse(&[b'+'; MAX_LINE]).is_err());
    }

    #[test]
    fn where_replies_end() {
        for text in [
            "+OK\r\n",
            "-ERR no\r\n",
            ":-3\r\n",
            "$-1\r\n",
            "$3\r\na\r\n\r\n",
            "*-1\r\n",
            "*0\r\n",
            "*3\r\n*2\r\n$1\r\na\r\n:1\r\n*1\r\n$-1\r\n+b\r\n",
        ] {
            let more = format!("{text}:1\r\n");
            assert_eq!(length(more.as_bytes()), Ok(Some(text.len())), "{text:?}");
            for cut in 0..text.len() {
                assert_eq!(length(&text.as_bytes()[..cut]), Ok(None), "{text:?} cut at {cut}");
            }
        }
        for text in ["HTTP/1.1 400\r\n", "$-2\r\n", "*-2\r\n", "*9999999\r\n", "$1\r\nabc", "$x\r\n", "%1\r\n"] {
            assert!(length(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn commands_in_pieces() {
        let mut out = Vec::new();
        let mut command = Command::begin(&mut out, 3);
        command.word([b"a".as_slice(), b"", b"bc"]);
        command.number(0);
        command.number(u64::MAX);
        command.end();
        assert_eq!(out, b"*3\r\n$3\r\nabc\r\n$1\r\n0\r\n$20\r\n18446744073709551615\r\n");
    }

    proptest! {
        #[test]
        fn messages_are_read_whole(messages in vec((vec(any::<u8>(), 0..30), vec(any::<u8>(), 0..300)), 0..10)) {
            let all: Vec<u8> = messages.iter().flat_map(|(topic, payload)| message(topic, payload)).collect();
            let mut rest = all.as_slice();
            for (topic, payload) in &messages {
                let (frame, length) = parse(rest).unwrap().unwrap();
                let part = |bytes| Some(Part::Bytes(bytes));
                prop_assert_eq!(frame, Frame::Array([part(b"message"), part(topic), part(payload), None]));
                rest = &rest[length..];
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in vec(prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), Just(b'$'), Just(b'*'), Just(b'1')], 0..200)) {
            let _ = parse(&bytes);
            let _ = length(&bytes);
        }
    }
}
