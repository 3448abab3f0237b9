//! The bad-input tables of authentication, against real keys.

mod api_key;
mod credential;
mod jwt;
mod origin;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};

use super::*;

/// The time at which all tests happen.
const NOW: u64 = 1_900_000_000;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn settings() -> Settings {
    Settings { keys: vec![KeySettings::hmac(Secret::new(SECRET))], ..Settings::default() }
}

/// A token of exactly these documents, signed with an HMAC secret.
fn hmac_token(header: &str, claims: &str, secret: &str) -> String {
    signed(header, claims, &EncodingKey::from_secret(secret.as_bytes()), Algorithm::HS256)
}

fn signed(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A request with headers.
fn request(uri: &str, headers: &[(&str, &str)]) -> (http::HeaderMap, http::Uri) {
    let mut request = http::Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    (parts.headers, parts.uri)
}
