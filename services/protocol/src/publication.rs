//! Publications: the content of channels.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Labels a publisher puts on a publication: short texts, in byte order of their names.
pub type Tags = Arc<BTreeMap<String, String>>;

/// Payload of a publication. Its kind is the publisher's, and is kept from the API to the socket.
///
/// A codec that has no bytes (JSON) delivers a binary payload as a string in standard base64.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// One JSON value as its publisher wrote it, free of CR, LF and lone surrogates (see [`json_line`]).
    Json(Bytes),
    /// Bytes of any kind.
    Binary(Bytes),
}

impl Payload {
    /// The JSON text, or the bytes.
    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Json(bytes) | Self::Binary(bytes) => bytes,
        }
    }

    /// Length in bytes, before any encoding.
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// True for no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Json(Bytes::new())
    }
}

/// One publication, without its place in the log (see [`crate::Position`]).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Publication {
    /// The published value.
    pub data: Payload,
    /// Tags, if the publisher gave any.
    pub tags: Option<Tags>,
    /// Who published, when a client did.
    pub info: Option<Arc<ClientInfo>>,
    /// When the node took it, in milliseconds since 1970. For display only; nothing is decided by it.
    pub time: u64,
    /// W3C `traceparent` of the publishing request, if it is sampled. Behind a thin pointer, as it is rare.
    pub trace: Option<Arc<String>>,
    /// Id of the client whose connection is not sent the publication. The log has it, and every reader of the
    /// history gets it.
    pub exclude: Option<Box<Uuid>>,
}

impl Publication {
    /// Approximate memory of what the publisher gave, in bytes. For the bounds of pages and queues.
    pub fn size(&self) -> usize {
        let tags = self.tags.iter().flat_map(|tags| tags.iter()).map(|(name, value)| name.len() + value.len());
        let info = self
            .info
            .as_ref()
            .map_or(0, |info| info.user.len() + info.client.len() + info.conn_info.as_ref().map_or(0, Bytes::len));
        self.data.len() + tags.sum::<usize>() + info
    }
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

/// Takes a JSON value's text as it is kept and passed on: on one line, and readable by strict readers.
///
/// Line breaks between tokens become spaces. Inside a JSON string a raw line break is illegal, so the value stays the same.
/// Frames of the client protocol and SSE are separated by line breaks, which is why no stored publication has any.
///
/// Every text from outside that is passed on as JSON comes through here. Takes its validity for granted.
pub fn json_line(text: &str) -> Result<Bytes, LoneSurrogate> {
    let bytes = text.as_bytes();
    if escapes_units(bytes) && has_lone_surrogate(bytes) {
        return Err(LoneSurrogate);
    }
    Ok(match breaks_lines(bytes) {
        true => Bytes::from(text.replace(['\n', '\r'], " ")),
        false => Bytes::copy_from_slice(bytes),
    })
}

/// A JSON text with half of a surrogate pair, such as `"\ud83d"`: legal by the grammar (RFC 8259, section 8.2), but no
/// character, so that strict readers refuse the whole text, and a log that has it at every resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text has an escaped surrogate without its other half, such as \\ud83d, which is no character")]
pub struct LoneSurrogate;

/// Whether a text may have an escape such as `\u00e9`. All of it is looked at, without a way out, many bytes at a time:
/// most texts have none, and are not looked at any closer.
fn escapes_units(text: &[u8]) -> bool {
    let pairs = text.iter().zip(text.get(1..).unwrap_or_default());
    pairs.fold(0, |found, (first, second)| found | u8::from(*first == b'\\') & u8::from(*second == b'u')) != 0
}

fn has_lone_surrogate(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = match (escaped_unit(&rest[at..]), rest[at..].get(6..).and_then(escaped_unit)) {
            // An escape of one character, which may be a backslash.
            (None, _) => rest.get(at + 2..).unwrap_or_default(),
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => &rest[at + 12..],
            (Some(0xD800..=0xDFFF), _) => return true,
            (Some(_), _) => &rest[at + 6..],
        };
    }
    false
}

/// The UTF-16 unit that a text begins with in the form `\uXXXX`.
fn escaped_unit(text: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(text.strip_prefix(b"\\u")?.get(..4)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
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
    fn a_publication_is_small() {
        assert!(size_of::<Publication>() <= 80, "{}", size_of::<Publication>());
    }

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
        assert_eq!(json_line("{\n  \"a\": 1\r\n}").as_deref(), Ok(&b"{   \"a\": 1  }"[..]));
        assert_eq!(json_line(r#""a\nb""#).as_deref(), Ok(&br#""a\nb""#[..]));
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        let lone = [
            r#""\ud83d""#,
            r#""\uDE00""#,
            r#"{"a":["\ud83d"]}"#,
            r#"{"\ud83d":1}"#,
            r#""\ude00\ud83d""#,
            r#""\ud83d\ud83d\ude00""#,
            r#""\ud83d\ude00\ud83d""#,
            r#""\ud83d \ude00""#,
            r#""\ud83d\n""#,
            r#""\\\ud83d""#,
            r#""\"\ud83d\\ude00""#,
        ];
        for text in lone {
            assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{text}");
            assert_eq!(json_line(text), Err(LoneSurrogate), "{text}");
            // Strict readers agree.
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
        }
        let whole = [
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\uD83D\uDE00""#,
            r#""\u00e9\u0000\ud7ff\ue000\uffff""#,
            r#""\\ud83d""#,
            r#""\\\\ud83d\\""#,
            r#"{"\u0061":"\\u"}"#,
            r#""\\""#,
            "\"🦀\"",
            "1",
            "",
        ];
        for text in whole {
            assert_eq!(json_line(text).as_deref(), Ok(text.as_bytes()), "{text}");
        }
    }
}
