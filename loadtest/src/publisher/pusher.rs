//! Publishing as the Pusher HTTP API has it: requests signed with the application's secret.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use md5::{Digest, Md5};

use super::api::{JSON, Request};

/// An application of a server.
#[derive(Clone)]
pub struct Application {
    /// Its id, in paths.
    id: String,
    /// Its public name.
    key: String,
    /// Signs requests.
    secret: String,
}

impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Application {
    /// From `ID:KEY:SECRET`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut parts = text.splitn(3, ':').map(str::to_owned);
        let mut part = || parts.next().filter(|part| !part.is_empty()).context("--api-key: say ID:KEY:SECRET");
        Ok(Self { id: part()?, key: part()?, secret: part()? })
    }

    /// One event for some channels.
    pub(super) fn publish(&self, channels: &[impl AsRef<str>], data: &str) -> Request {
        let channels: Vec<&str> = channels.iter().map(AsRef::as_ref).collect();
        let body = serde_json::json!({"name": "publication", "channels": channels, "data": data}).to_string();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        (self.path(&body, now), JSON.to_owned(), body)
    }

    /// The signed path of a body at a time.
    fn path(&self, body: &str, now: u64) -> String {
        let Self { id, key, secret } = self;
        let path = format!("/apps/{id}/events");
        let digest = hex(&Md5::digest(body));
        let query = format!("auth_key={key}&auth_timestamp={now}&auth_version=1.0&body_md5={digest}");
        let text = format!("POST\n{path}\n{query}");
        let key = EncodingKey::from_secret(secret.as_bytes());
        // An HMAC takes any key, and base64 what it has made itself: what fails is refused by the server.
        let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key, Algorithm::HS256).unwrap_or_default();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        format!("{path}?{query}&auth_signature={}", hex(&signature))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_signed_as_the_documentation_shows() {
        // The worked example of the Pusher HTTP API reference.
        let application = Application::parse("3:278d425bdf160c739803:7ad3773142a6692b25b8").unwrap();
        let body = r#"{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}"#;
        assert_eq!(
            application.path(body, 1_353_088_179),
            "/apps/3/events?auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0\
             &body_md5=ec365a775a4cd0599faeb73354201b6f\
             &auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
        );
    }

    #[test]
    fn the_data_is_a_string() {
        let application = Application::parse("1:k:s:with:colons").unwrap();
        let (path, _, body) = application.publish(&["c-0"], r#"{"n":1}"#);
        assert!(path.starts_with("/apps/1/events?auth_key=k&"), "{path}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["channels"][0], &body["data"]), (&"c-0".into(), &r#"{"n":1}"#.into()));
        assert!(Application::parse("1:k").is_err() && Application::parse("1::s").is_err());
    }
}
