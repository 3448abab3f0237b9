//! What a channel carries.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// Labels a publisher puts on a publication: short texts, in byte order of their names.
pub type Tags = Arc<BTreeMap<String, String>>;

/// One publication, without its place in the log (see [`crate::Position`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Publication {
    /// One JSON value as its publisher wrote it, free of CR and LF (see [`json_line`]).
    pub data: Bytes,
    /// Tags, if the publisher gave any.
    pub tags: Option<Tags>,
    /// Who published, when a client did.
    pub info: Option<Arc<ClientInfo>>,
    /// When the node took it, in milliseconds since 1970. For display only; nothing is decided by it.
    pub time: u64,
    /// W3C `traceparent` of the publishing request, if it is sampled.
    pub trace: Option<Arc<str>>,
}

/// A client as other clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default, Serialize)]
pub struct ClientInfo {
    /// The token's `sub`; empty for an anonymous client.
    pub user: String,
    /// The connection's id.
    pub client: String,
    /// The token's `info`: JSON.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "raw_json")]
    pub conn_info: Option<Bytes>,
}

/// Serializes JSON text as the value it is.
///
/// Text that is not JSON (it can only come from outside the checked paths) becomes `null` rather than a broken frame.
pub fn raw_json<S: Serializer>(text: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: Option<&RawValue> = text.as_deref().and_then(|text| serde_json::from_slice(text).ok());
    raw.serialize(serializer)
}

/// Makes one line of a JSON value's text: line breaks between tokens become spaces.
///
/// Inside a JSON string a raw line break is illegal, so the value stays the same. Frames of the client protocol and SSE
/// are parted by line breaks, which is why no stored publication has any.
pub fn json_line(text: &str) -> Bytes {
    if breaks_lines(text.as_bytes()) {
        Bytes::from(text.replace(['\n', '\r'], " "))
    } else {
        Bytes::copy_from_slice(text.as_bytes())
    }
}

/// Whether a text has a line break. All of it is looked at, without a way out: that goes many bytes at a time.
pub(crate) fn breaks_lines(text: &[u8]) -> bool {
    text.iter().fold(0, |found, b| found | u8::from(*b == b'\n') | u8::from(*b == b'\r')) != 0
}

/// How deep the JSON of a publication may nest. Deeper texts are legal JSON, and a trap for whoever parses them.
pub const MAX_JSON_DEPTH: usize = 128;

/// Whether a JSON text nests deeper than [`MAX_JSON_DEPTH`]. Takes the text's validity for granted.
pub fn nests_too_deep(text: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        if in_string {
            (in_string, escaped) = match byte {
                _ if escaped => (true, false),
                b'\\' => (true, true),
                b'"' => (false, false),
                _ => (true, false),
            };
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_JSON_DEPTH {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_what_nests_and_nothing_in_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!nests_too_deep(&nested(MAX_JSON_DEPTH)));
        assert!(nests_too_deep(&nested(MAX_JSON_DEPTH + 1)));
        let text = format!(r#"["{}", "\\\"{}"]"#, "[".repeat(500), "{".repeat(500));
        assert!(!nests_too_deep(&text), "{text}");
        let wide = format!("[{}1]", "[1],".repeat(500));
        assert!(!nests_too_deep(&wide));
    }

    #[test]
    fn a_value_becomes_one_line() {
        assert_eq!(&json_line("{\n  \"a\": 1\r\n}")[..], b"{   \"a\": 1  }");
        assert_eq!(&json_line(r#""a\nb""#)[..], br#""a\nb""#);
    }
}
