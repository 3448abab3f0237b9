//! Server-sent events (WHATWG HTML, section 9.2), as their sender writes them.
//!
//! An event is its lines ([`write_event`]), optionally an id ([`write_id`]), and [`END`]. Several connections can share the
//! lines and have ids of their own. A blank line follows an event and nothing else: several clients deliver an empty
//! message for every blank line.

/// The blank line that ends an event.
pub const END: &[u8] = b"\n";

/// A comment line without text: breaks the silence of a stream, and no client delivers it.
pub const PING: &[u8] = b":\n";

/// Appends the lines of an event, without its id and [`END`]. `data` appends the event's data: one line.
///
/// An event without a name is one of the type `message`.
#[inline]
pub fn write_event(name: Option<&str>, data: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    if let Some(name) = name {
        write_field(b"event: ", |out| out.extend_from_slice(name.as_bytes()), out);
    }
    write_field(b"data: ", data, out);
}

/// Appends the line that sets the id of the event it belongs to, and of those after it. `id` appends the id: one line.
#[inline]
pub fn write_id(id: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    write_field(b"id: ", id, out);
}

/// Appends a comment line, which no client delivers.
pub fn write_comment(text: &str, out: &mut Vec<u8>) {
    write_field(b": ", |out| out.extend_from_slice(text.as_bytes()), out);
}

/// Appends the line that sets the time in milliseconds after which a client reconnects. It takes effect at its end.
pub fn write_retry(milliseconds: u64, out: &mut Vec<u8>) {
    write_field(b"retry: ", |out| out.extend_from_slice(itoa::Buffer::new().format(milliseconds).as_bytes()), out);
}

/// Appends a line: a field's name and its value.
#[inline]
fn write_field(name: &[u8], value: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    let start = out.len();
    value(out);
    debug_assert!(!out[start..].iter().any(|byte| matches!(byte, b'\n' | b'\r')), "a value is one line");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_lines_its_id_and_a_blank_line() {
        let text = |text: &'static [u8]| move |out: &mut Vec<u8>| out.extend_from_slice(text);
        let mut out = b"before".to_vec();
        write_event(None, text(b"{}"), &mut out);
        out.extend_from_slice(END);
        write_event(Some("gap"), text(b"1"), &mut out);
        write_id(text(b"2~x"), &mut out);
        out.extend_from_slice(END);
        assert_eq!(out, b"beforedata: {}\n\nevent: gap\ndata: 1\nid: 2~x\n\n");
    }

    #[test]
    fn lines_that_belong_to_no_event_have_no_blank_line() {
        let mut out = Vec::new();
        write_comment("fanway", &mut out);
        write_retry(1928, &mut out);
        out.extend_from_slice(PING);
        assert_eq!(out, b": fanway\nretry: 1928\n:\n");
    }

    #[test]
    #[should_panic(expected = "one line")]
    fn a_line_break_in_a_value_is_a_fault() {
        write_id(|out| out.push(b'\r'), &mut Vec::new());
    }
}
