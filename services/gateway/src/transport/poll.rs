//! Long and short polling: `GET /poll?channel=a&cursor=...&timeout=25`.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use fanway_hub::session::{AnswerMemory, PollAnswer};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::refusal::Refusal;

/// How long a poll waits unless it says so.
const DEFAULT_WAIT: Duration = Duration::from_secs(25);
/// The longest a poll waits; below the idle timeout of common proxies.
const LONGEST_WAIT: Duration = Duration::from_secs(55);

/// The `timeout` parameter: seconds, clamped to what is allowed.
pub(super) fn wait(timeout: Option<&str>) -> Result<Duration, Refusal> {
    let Some(timeout) = timeout else { return Ok(DEFAULT_WAIT) };
    let seconds: f64 = timeout.parse().map_err(|_| Refusal::BadRequest("timeout: not a number of seconds"))?;
    if !seconds.is_finite() || seconds < 0.0 {
        return Err(Refusal::BadRequest("timeout: not a number of seconds"));
    }
    Ok(Duration::from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())))
}

/// `{"publications":[...],"gaps":[...],"cursor":"...","retry":ms,"disconnect":{...}}`; `retry` only from a node that drains,
/// `disconnect` only for a client that must not poll again.
pub(super) fn response(answer: PollAnswer) -> Response {
    let mut body = Vec::with_capacity(256 + answer.publications.len() + answer.gaps.len());
    body.extend_from_slice(b"{\"publications\":[");
    body.extend_from_slice(&answer.publications);
    body.extend_from_slice(b"],\"gaps\":[");
    body.extend_from_slice(&answer.gaps);
    // A cursor needs no escaping: see its grammar.
    body.extend_from_slice(format!("],\"cursor\":\"{}\"", answer.cursor).as_bytes());
    if answer.draining {
        let retry = 500 + u32::from(rand::random::<u16>() % 1500);
        body.extend_from_slice(format!(",\"retry\":{retry}").as_bytes());
    }
    if let Some(disconnect) = &answer.disconnect {
        body.extend_from_slice(b",\"disconnect\":");
        disconnect.write_json(&mut body);
    }
    body.push(b'}');
    head(match answer.memory {
        None => body.into(),
        Some(memory) => Bytes::from_owner(LargeBody { bytes: body, _memory: memory }).into(),
    })
}

/// Body of a large answer, which holds its memory until hyper drops the last reference to it.
struct LargeBody {
    bytes: Vec<u8>,
    _memory: AnswerMemory,
}

impl AsRef<[u8]> for LargeBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer with this body.
pub(super) fn head(body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_clamped_and_nonsense_refused() {
        assert_eq!(wait(None), Ok(DEFAULT_WAIT));
        assert_eq!(wait(Some("0")), Ok(Duration::ZERO));
        assert_eq!(wait(Some("1.5")), Ok(Duration::from_millis(1500)));
        assert_eq!(wait(Some("1e9")), Ok(LONGEST_WAIT));
        for nonsense in ["-1", "NaN", "inf", "", "x", "1s"] {
            assert!(matches!(wait(Some(nonsense)), Err(Refusal::BadRequest(_))), "{nonsense}");
        }
    }
}
