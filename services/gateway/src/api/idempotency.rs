//! Idempotency keys: one per request, from the body or from the `Idempotency-Key` header.

use fanway_protocol::Payload;
use fanway_protocol::publication::Tags;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::error::ApiError;

/// The header that may carry the key instead of the body.
const HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// The header's key. It is taken out of the head before the body is read.
pub(super) fn from_headers(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::InvalidIdempotencyKey("there is more than one Idempotency-Key header"));
    }
    let key = value.to_str().map_err(|_| ApiError::InvalidIdempotencyKey(RULE))?;
    check(key)?;
    Ok(Some(key.to_owned()))
}

/// The one key of a request that may carry two.
pub(super) fn choose<'a>(header: Option<&'a str>, body: Option<&'a str>) -> Result<Option<&'a str>, ApiError> {
    if let Some(key) = body {
        check(key)?;
        if header.is_some_and(|header| header != key) {
            return Err(ApiError::InvalidIdempotencyKey("the header and the body carry different idempotency keys"));
        }
    }
    Ok(body.or(header))
}

const RULE: &str = "an idempotency key is 1 to 255 printable ASCII characters";

fn check(key: &str) -> Result<(), ApiError> {
    // An empty key is more likely a variable that was never set than a wish to go without one.
    let legal = (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| (b' '..=b'~').contains(&b));
    if legal { Ok(()) } else { Err(ApiError::InvalidIdempotencyKey(RULE)) }
}

/// Fingerprint of what a key is bound to: data, tags and excluded client.
pub(super) fn fingerprint(data: &Payload, tags: Option<&Tags>, exclude: Option<&Uuid>) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(data.bytes());
    for (name, value) in tags.into_iter().flat_map(|tags| tags.iter()) {
        part(name.as_bytes());
        part(value.as_bytes());
    }
    // Neither JSON nor what everybody is sent has such a mark: results that older builds stored keep their fingerprints.
    if matches!(data, Payload::Binary(_)) {
        hash.update(b"binary");
    }
    if let Some(client) = exclude {
        hash.update(b"exclude");
        hash.update(client.as_bytes());
    }
    let digest = hash.finalize();
    std::array::from_fn(|at| digest[at])
}
