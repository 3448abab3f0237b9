use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::*;
use crate::auth::api_key::{ApiKey, ApiKeySettings};

const OLD: &str = "fw_old_0123456789abcdef";
const NEW: &str = "fw_new_fedcba9876543210";
const BARE: &str = "no particular form at all";

fn hex(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hashed(id: &str, key: &str) -> ApiKeySettings {
    ApiKeySettings { id: id.to_owned(), hash: Some(hex(key)), key: None, scopes: Vec::new(), expires: None }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)
}

fn keys() -> ApiKeys {
    keys_with(false)
}

fn keys_with(in_query: bool) -> ApiKeys {
    let expired = ApiKeySettings { expires: Some(now()), ..hashed("expired", "fw_expired_0123456789") };
    let limited = ApiKeySettings { scopes: vec![Scope::Publish], ..hashed("limited", BARE) };
    let plain = ApiKeySettings { hash: None, key: Some(Secret::new("fw_plain_0123456789")), ..hashed("plain", "") };
    ApiKeys::new(&[hashed("old", OLD), hashed("new", NEW), expired, limited, plain], in_query).unwrap()
}

fn verify(uri: &str, headers: &[(&str, &str)]) -> Result<String, ApiKeyFailure> {
    let (headers, uri) = request(uri, headers);
    keys().verify(&headers, &uri, now).map(|key| key.id().to_owned())
}

#[test]
fn every_active_key_is_accepted_in_both_headers() {
    for (id, key) in [("old", OLD), ("new", NEW), ("limited", BARE), ("plain", "fw_plain_0123456789")] {
        assert_eq!(verify("/api/publish", &[("x-api-key", key)]).as_deref(), Ok(id));
        assert_eq!(verify("/api/publish", &[("authorization", &format!("apikey {key}"))]).as_deref(), Ok(id));
        assert_eq!(verify("/api/publish", &[("authorization", &format!("ApiKey {key}"))]).as_deref(), Ok(id));
    }
}

#[test]
fn a_key_that_was_presented_before_changes_no_answer() {
    let keys = keys();
    let known =
        [("old", OLD), ("new", NEW), ("limited", BARE), ("plain", "fw_plain_0123456789"), ("-", "fw_none_0123456789")];
    for (id, key) in known.into_iter().chain(known).chain(known.into_iter().rev()) {
        let (headers, uri) = request("/", &[("x-api-key", key)]);
        let found = keys.verify(&headers, &uri, now).map(ApiKey::id);
        assert_eq!(found, if id == "-" { Err(ApiKeyFailure::Invalid) } else { Ok(id) });
        let (headers, uri) = request("/", &[("x-api-key", "fw_expired_0123456789")]);
        assert_eq!(keys.verify(&headers, &uri, now).map(ApiKey::id), Err(ApiKeyFailure::Expired));
    }
}

#[test]
fn nothing_else_is() {
    let long = "x".repeat(100_000);
    for bad in [
        "",
        " ",
        "fw_none_0123456789abcdef",
        "fw_old_fedcba9876543210",
        "fw_old_0123456789abcdeF",
        "fw_old_",
        &hex(OLD),
        &long,
    ] {
        assert_eq!(verify("/", &[("x-api-key", bad)]), Err(ApiKeyFailure::Invalid), "{bad:.40}");
    }
    assert_eq!(verify("/", &[("x-api-key", "fw_expired_0123456789")]), Err(ApiKeyFailure::Expired));
    assert_eq!(verify("/", &[]), Err(ApiKeyFailure::Missing));
    assert_eq!(verify("/", &[("authorization", &format!("Bearer {OLD}"))]), Err(ApiKeyFailure::Invalid));
    assert_eq!(verify("/", &[("authorization", OLD)]), Err(ApiKeyFailure::Invalid));
    assert_eq!(verify("/", &[("authorization", "apikey ")]), Err(ApiKeyFailure::Invalid));
    assert_eq!(verify("/", &[("x-api-key", OLD), ("x-api-key", NEW)]), Err(ApiKeyFailure::Invalid));
    assert_eq!(verify("/", &[("x-api-key", OLD), ("authorization", "apikey x")]), Err(ApiKeyFailure::Invalid));
    assert_eq!(verify(&format!("/api/publish?api_key={OLD}"), &[]), Err(ApiKeyFailure::InUrl));
    assert_eq!(verify(&format!("/api/publish?Key={OLD}"), &[("x-api-key", OLD)]), Err(ApiKeyFailure::InUrl));
    let (headers, uri) = request("/", &[("x-api-key", OLD)]);
    assert!(ApiKeys::new(&[], true).unwrap().verify(&headers, &uri, now).is_err());
}

#[test]
fn the_query_may_carry_a_key_where_that_is_allowed() {
    let verify = |query: &str, headers: &[(&str, &str)]| {
        let (headers, uri) = request(&format!("/api/publish?{query}"), headers);
        keys_with(true).verify(&headers, &uri, now).map(|key| key.id().to_owned())
    };
    assert_eq!(verify(&format!("api_key={OLD}"), &[]).as_deref(), Ok("old"));
    assert_eq!(verify(&format!("x=1&api_key={}", BARE.replace(' ', "%20")), &[]).as_deref(), Ok("limited"));
    assert_eq!(verify("x=1", &[("x-api-key", OLD)]).as_deref(), Ok("old"), "headers stay");
    assert_eq!(verify("x=1", &[]), Err(ApiKeyFailure::Missing));
    for bad in ["api_key=", "api_key", "api_key=nope"] {
        assert_eq!(verify(bad, &[]), Err(ApiKeyFailure::Invalid), "{bad}");
    }
    assert_eq!(verify("api_key=fw_expired_0123456789", &[]), Err(ApiKeyFailure::Expired));
    assert_eq!(verify(&format!("api_key={OLD}&api_key={OLD}"), &[]), Err(ApiKeyFailure::Invalid), "twice");
    assert_eq!(verify(&format!("api_key={OLD}"), &[("x-api-key", OLD)]), Err(ApiKeyFailure::Invalid), "which?");
    assert_eq!(verify(&format!("api_key={OLD}"), &[("authorization", "Bearer x")]), Err(ApiKeyFailure::Invalid));
    for other in ["API_KEY", "apikey", "key"] {
        assert_eq!(verify(&format!("{other}={OLD}"), &[]), Err(ApiKeyFailure::InUrl), "{other}");
    }
}

#[test]
fn scopes_limit_a_key() {
    let keys = keys();
    let find = |key: &str| {
        let (headers, uri) = request("/", &[("x-api-key", key)]);
        keys.verify(&headers, &uri, now).unwrap().clone()
    };
    assert!(find(BARE).allows(Scope::Publish) && !find(BARE).allows(Scope::Read) && !find(BARE).allows(Scope::Manage));
    assert!(find(OLD).allows(Scope::Publish) && find(OLD).allows(Scope::Read) && find(OLD).allows(Scope::Manage));
}

#[test]
fn unusable_settings_are_refused() {
    let problem = |key: ApiKeySettings| ApiKeys::new(&[key], false).err().unwrap().to_string();
    let base = hashed("a", OLD);
    for bad in ["", "xyz", &hex(OLD)[1..], &format!("{}0", hex(OLD)), &"g".repeat(64), &"é".repeat(32)] {
        let text = problem(ApiKeySettings { hash: Some(bad.to_owned()), ..base.clone() });
        assert!(text.starts_with("api.keys[0].hash: not a SHA-256"), "{bad}: {text}");
    }
    let plain = |key: &str| ApiKeySettings { hash: None, key: Some(Secret::new(key)), ..base.clone() };
    assert!(problem(plain("short")).starts_with("api.keys[0].key: 5 bytes"));
    assert!(problem(plain(&format!("{OLD} "))).starts_with("api.keys[0].key: ends with a blank"));
    assert!(problem(plain(&format!("\u{feff}{OLD}"))).starts_with("api.keys[0].key: begins with a byte order mark"));
    let hash = |text: String| ApiKeySettings { hash: Some(text), ..base.clone() };
    assert!(problem(hash(format!("{} ", hex(OLD)))).starts_with("api.keys[0].hash: not a SHA-256"));
    for key in [plain(&format!("{OLD}\n")), plain(&format!("{OLD}\r\n")), hash(format!("{}\n", hex(OLD)))] {
        let (headers, uri) = request("/", &[("x-api-key", OLD)]);
        assert!(
            ApiKeys::new(&[key], false).unwrap().verify(&headers, &uri, now).is_ok(),
            "one line break does not count"
        );
    }
    assert!(
        problem(ApiKeySettings { key: Some(Secret::new(OLD)), ..base.clone() })
            .starts_with("api.keys[0].key: hash is set")
    );
    assert!(problem(ApiKeySettings { hash: None, ..base.clone() }).starts_with("api.keys[0].hash: missing"));
    assert!(problem(ApiKeySettings { id: String::new(), ..base.clone() }).starts_with("api.keys[0].id: empty"));
    assert!(
        ApiKeys::new(&[base.clone(), base], false).err().unwrap().to_string().starts_with("api.keys[1].id: used twice")
    );
}
