//! What a publish or broadcast request carries, checked: data, tags and where they came from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fanway_protocol::publication::{Tags, json_line};
use fanway_protocol::{Payload, Publication};
use http::HeaderMap;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::body::check_depth;
use super::error::ApiError;
use super::idempotency;
use crate::telemetry::traces::Incoming;

/// The most tags of a publication.
const MAX_TAGS: usize = 32;
/// The longest name of a tag, in bytes.
const MAX_TAG_NAME: usize = 64;
/// The longest value of a tag, in bytes.
const MAX_TAG_VALUE: usize = 256;

/// The members that publish and broadcast share, as they came.
pub(super) struct Parts<'a> {
    pub(super) data: Option<&'a RawValue>,
    pub(super) b64data: Option<&'a str>,
    pub(super) tags: Option<TagMap>,
    pub(super) exclude: Option<&'a str>,
    pub(super) version: Option<u64>,
}

/// What the head says of a publication.
pub(super) struct Marks {
    /// The idempotency key, if it is one.
    pub(super) key: Result<Option<String>, ApiError>,
    pub(super) trace: Incoming,
}

impl Marks {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { key: idempotency::from_headers(headers), trace: Incoming::of(headers) }
    }
}

/// A checked publication, not yet on any channel.
pub(super) struct Content {
    pub(super) publication: Arc<Publication>,
    /// See [`idempotency::fingerprint`]; for requests with an idempotency key.
    pub(super) fingerprint: Option<[u8; 16]>,
}

impl Content {
    pub(super) fn new(parts: Parts<'_>, trace: Option<Arc<str>>, with_key: bool) -> Result<Self, ApiError> {
        if parts.version.is_some_and(|version| version > 0) {
            return Err(ApiError::NotAvailable("publications with a version are not supported"));
        }
        let data = data(parts.data, parts.b64data)?;
        let tags = tags(parts.tags)?;
        let exclude = exclude(parts.exclude)?;
        let fingerprint = with_key.then(|| idempotency::fingerprint(&data, tags.as_ref(), exclude.as_deref()));
        let trace = trace.map(|trace| Arc::new(trace.to_string()));
        let publication = Publication { data, tags, info: None, time: now(), trace, exclude };
        Ok(Self { publication: Arc::new(publication), fingerprint })
    }
}

fn data(data: Option<&RawValue>, b64data: Option<&str>) -> Result<Payload, ApiError> {
    let b64data = b64data.filter(|text| !text.is_empty());
    // `cent` demands a value for `data` beside `b64data` too, so its users give an empty one.
    let data = data.filter(|data| b64data.is_none() || !is_empty(data.get()));
    match (data, b64data) {
        (Some(data), None) => json(data.get()),
        (None, Some(text)) => decode(text),
        (Some(_), Some(_)) => {
            Err(ApiError::bad_request("bad_data", "data and b64data are both given; leave one of them out or empty"))
        }
        (None, None) => Err(ApiError::bad_request("bad_data", "data is missing or null")),
    }
}

/// `""`, `{}` or `[]`, whatever the space between the brackets.
fn is_empty(json: &str) -> bool {
    let inner = |open, close| json.strip_prefix(open)?.strip_suffix(close);
    json == r#""""# || inner('{', '}').or_else(|| inner('[', ']')).is_some_and(|inner| inner.trim_ascii().is_empty())
}

fn json(text: &str) -> Result<Payload, ApiError> {
    json_line(text).map(Payload::Json).map_err(|error| ApiError::BadJson(format!("data: {error}")))
}

/// The payload in base64: JSON if it is JSON text, as server libraries send it to JSON clients too; otherwise binary.
fn decode(text: &str) -> Result<Payload, ApiError> {
    let refused = |message| ApiError::bad_request("bad_data", message);
    let bytes = STANDARD.decode(text).map_err(|_| refused("b64data is not standard base64"))?;
    match serde_json::from_slice::<Option<&RawValue>>(&bytes) {
        Ok(None) => Err(refused("data is missing or null")),
        Ok(Some(value)) => {
            check_depth(value.get())?;
            json(value.get())
        }
        Err(_) => Ok(Payload::Binary(Bytes::from(bytes))),
    }
}

fn tags(tags: Option<TagMap>) -> Result<Option<Tags>, ApiError> {
    let Some(TagMap(tags)) = tags.filter(|tags| !tags.0.is_empty()) else { return Ok(None) };
    let refused = |message| Err(ApiError::bad_request("invalid_tags", message));
    if tags.len() > MAX_TAGS {
        return refused("a publication has at most 32 tags");
    }
    if !tags.keys().all(|name| (1..=MAX_TAG_NAME).contains(&name.len())) {
        return refused("a tag's name is 1 to 64 bytes long");
    }
    if !tags.values().all(|value| value.len() <= MAX_TAG_VALUE) {
        return refused("a tag's value is at most 256 bytes long");
    }
    Ok(Some(Arc::new(tags)))
}

/// The id of the client to exclude.
fn exclude(client: Option<&str>) -> Result<Option<Box<Uuid>>, ApiError> {
    let parsed = client.map(|client| Uuid::try_parse(client).map(Box::new)).transpose();
    parsed.map_err(|_| ApiError::bad_request("invalid_exclude", "exclude is not the id of a client"))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

/// Tags in byte order of their names; a name given twice makes the body malformed.
#[derive(Debug, Default)]
pub(super) struct TagMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for TagMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = TagMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TagMap, A::Error> {
                let mut tags = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if tags.insert(name, value).is_some() {
                        return Err(A::Error::custom("a tag is given twice"));
                    }
                }
                Ok(TagMap(tags))
            }
        }

        deserializer.deserialize_map(Members)
    }
}
