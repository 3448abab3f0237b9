//! The event stream format, as the WHATWG HTML standard says browsers read it (section 9.2.6).

use serde::de::DeserializeOwned;

/// A dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its type, `message` unless named.
    pub event: String,
    /// Its data lines, joined by `\n`.
    pub data: String,
    /// The last event id as of this event: set by it or by one before.
    pub id: String,
}

impl Event {
    /// The data as JSON of a shape; panics when it is not.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// An incremental parser: bytes in, events out, whatever the cuts between the bytes.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line being received.
    line: Vec<u8>,
    /// The last byte was CR, so that an LF now is the rest of the same line end.
    after_cr: bool,
    /// A line has been seen, so that a BOM is not the stream's first character any more.
    begun: bool,
    event: String,
    data: String,
    /// The id field's buffer; it counts once a blank line commits it.
    id: String,
    last_event_id: String,
    retry: Option<u64>,
    comments: Vec<String>,
}

impl Parser {
    /// Takes bytes and returns the events they complete. What no blank line completes is never an event.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.end_line(&line));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    /// The id that a reconnect would send.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The reconnection time in milliseconds, once set.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// All comments so far, without the colon.
    pub fn comments(&self) -> &[String] {
        &self.comments
    }

    fn end_line(&mut self, mut line: &[u8]) -> Option<Event> {
        if !std::mem::replace(&mut self.begun, true) {
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch();
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments.push(line[1..].to_owned()),
            "event" => self.event = value.to_owned(),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = value.to_owned(),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry = value.parse().ok();
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Event> {
        self.last_event_id.clone_from(&self.id);
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        data.pop()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Event { event, data, id: self.last_event_id.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, data: &str, id: &str) -> Event {
        Event { event: event.to_owned(), data: data.to_owned(), id: id.to_owned() }
    }

    /// Parses whole and byte by byte: cuts must not matter.
    fn parse(stream: &[u8]) -> (Vec<Event>, Parser) {
        let mut parser = Parser::default();
        let events = parser.feed(stream);
        let mut bytewise = Parser::default();
        let pieces: Vec<Event> = stream.iter().flat_map(|byte| bytewise.feed(&[*byte])).collect();
        assert_eq!(events, pieces);
        assert_eq!(parser.last_event_id(), bytewise.last_event_id());
        (events, parser)
    }

    #[test]
    fn every_line_end_ends_a_line() {
        for stream in
            ["data: a\ndata:b\n\n", "data: a\rdata:b\r\r", "data: a\r\ndata:b\r\n\r\n", "data: a\r\ndata:b\n\r"]
        {
            assert_eq!(parse(stream.as_bytes()).0, [event("message", "a\nb", "")], "{stream:?}");
        }
        assert_eq!(parse(b"data:a\n\ndata:b\r\r").0, [event("message", "a", ""), event("message", "b", "")]);
    }

    #[test]
    fn one_leading_byte_order_mark_is_stripped() {
        assert_eq!(parse("\u{feff}data: a\n\n".as_bytes()).0, [event("message", "a", "")]);
        assert_eq!(parse("\u{feff}\u{feff}data: a\n\n".as_bytes()).0, []);
        assert_eq!(parse("\n\u{feff}data: a\n\n".as_bytes()).0, []);
    }

    #[test]
    fn ids_persist_reset_and_ignore_nul() {
        let (events, parser) = parse(b"id: 1\ndata: a\n\ndata: b\n\nid: x\0y\ndata: c\n\nid\ndata: d\n\n");
        assert_eq!(
            events,
            [
                event("message", "a", "1"),
                event("message", "b", "1"),
                event("message", "c", "1"),
                event("message", "d", "")
            ]
        );
        assert_eq!(parser.last_event_id(), "");
    }

    #[test]
    fn an_id_without_data_counts_and_is_no_event() {
        let (events, parser) = parse(b"id: 7\nevent: ready\n\n");
        assert_eq!(events, []);
        assert_eq!(parser.last_event_id(), "7");
    }

    #[test]
    fn what_the_end_of_the_stream_cuts_off_is_discarded_with_its_id() {
        let (events, parser) = parse(b"id: 1\ndata: a\n\nid: 2\ndata: b\n");
        assert_eq!(events, [event("message", "a", "1")]);
        assert_eq!(parser.last_event_id(), "1");
    }

    #[test]
    fn fields_are_read_as_the_standard_says() {
        let (events, parser) = parse(
            b": comment\n:\nretry: 1500\nretry: 1x\nretry:\nevent: gap\ndata:  two spaces\nData: no\ndata\nother: x\n\nevent: reset\n\ndata:\n\n",
        );
        assert_eq!(events, [event("gap", " two spaces\n", ""), event("message", "", "")]);
        assert_eq!(parser.retry(), Some(1500));
        assert_eq!(parser.comments(), [" comment", ""]);
    }

    #[test]
    fn text_that_is_not_utf_8_is_replaced() {
        assert_eq!(parse(b"data: a\xff\n\n").0, [event("message", "a\u{fffd}", "")]);
    }
}
