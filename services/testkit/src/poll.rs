//! Long and short polling.

use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::PATIENCE;
use crate::dial::Target;
use crate::http::{Failure, Response, request};

/// A publication as SSE and polling write it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Publication {
    /// The channel's name.
    pub channel: String,
    /// Absent for channels without history.
    pub offset: Option<u64>,
    /// Absent for channels without history.
    pub epoch: Option<String>,
    /// The published value; null for bytes.
    #[serde(default)]
    pub data: Value,
    /// The published bytes in base64.
    pub b64data: Option<String>,
    /// Tags, or null.
    #[serde(default)]
    pub tags: Value,
    /// When the publishing node took it, in milliseconds since 1970.
    #[serde(default)]
    pub time: u64,
}

/// A gap as SSE and polling write it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Gap {
    /// The channel's name.
    pub channel: String,
    /// Why.
    pub reason: String,
    /// Where the stream goes on.
    pub offset: Option<u64>,
    /// Where the stream goes on.
    pub epoch: Option<String>,
}

/// A poll's answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Answer {
    /// What came since the cursor.
    pub publications: Vec<Publication>,
    /// Continuity lost, by channel.
    #[serde(default)]
    pub gaps: Vec<Gap>,
    /// What the next poll asks with.
    pub cursor: String,
}

impl Answer {
    /// The data of the publications, in order.
    pub fn data(&self) -> Vec<Value> {
        self.publications.iter().map(|publication| publication.data.clone()).collect()
    }
}

/// Polls once. `url` ends in `/poll`, with further query parameters (a token, say) or none; `timeout` is the server's.
///
/// Panics on any status but 200; [`try_poll`] returns them.
pub async fn poll(url: impl Into<Target>, channels: &[&str], cursor: Option<&str>, timeout: Duration) -> Answer {
    let response = try_poll(url, channels, cursor, timeout, &[]).await.expect("the poll is answered");
    assert_eq!(response.status, 200, "poll: {}", response.text());
    serde_json::from_value(response.json()).unwrap_or_else(|error| panic!("poll: {error}: {}", response.text()))
}

/// Polls once with headers, and returns whatever the answer is.
pub async fn try_poll(
    url: impl Into<Target>,
    channels: &[&str],
    cursor: Option<&str>,
    timeout: Duration,
    headers: &[(&str, &str)],
) -> Result<Response, Failure> {
    let mut target = url.into();
    let mut query: Vec<String> = channels.iter().map(|channel| format!("channel={}", escape(channel))).collect();
    query.extend(cursor.map(|cursor| format!("cursor={}", escape(cursor))));
    query.push(format!("timeout={}", timeout.as_secs()));
    target = target.with_query(&query.join("&"));
    request(Method::GET, &target, headers, Bytes::new(), timeout + PATIENCE).await
}

/// Percent-encodes a query value.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
