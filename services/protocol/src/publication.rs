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
    if text.bytes().any(|b| matches!(b, b'\n' | b'\r')) {
        Bytes::from(text.replace(['\n', '\r'], " "))
    } else {
        Bytes::copy_from_slice(text.as_bytes())
    }
}
