//! The two JSON documents of a token, read strictly.
//!
//! Members are read into typed structs, so a member that appears twice is refused, and each claim is checked by itself,
//! so that a refusal can name the claim. A claim that is present is never ignored because it has the wrong type; one that
//! is `null` is absent.

use std::borrow::Cow;

use bytes::Bytes;
use fanway_hub::AuthFailure;
use fanway_protocol::grants::MAX_PATTERNS;
use fanway_protocol::publication::{LoneSurrogate, json_line};
use fanway_protocol::{Channel, Grants, Right, Rule};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::value::RawValue;

/// Audiences of one token.
const MAX_AUDIENCES: usize = 16;
/// Channels that one token subscribes to.
const MAX_CHANNELS: usize = 64;
/// Bytes of `info`; every publication of the client carries it.
const MAX_INFO_BYTES: usize = 4096;
/// Bytes of `sub` and of `jti`.
const MAX_NAME_BYTES: usize = 255;
/// The last second of the year 9999. Later times are milliseconds taken for seconds.
const MAX_TIME: f64 = 253_402_300_799.0;
const BAD_SUBJECT: AuthFailure = AuthFailure::invalid("sub", "neither a text of up to 255 bytes nor an integer");

/// What of the header is looked at. Members that point to keys (`jku`, `jwk`, `x5u`, `x5c`) are not even read.
#[derive(Deserialize)]
pub(super) struct Header<'a> {
    #[serde(borrow)]
    pub(super) alg: Cow<'a, str>,
    #[serde(default, borrow)]
    pub(super) kid: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
    #[serde(default, deserialize_with = "is_present")]
    zip: bool,
    #[serde(default, deserialize_with = "is_present")]
    enc: bool,
}

impl<'a> Header<'a> {
    /// Reads a header and refuses extensions, all of which change what the signature covers or what the payload is.
    pub(super) fn parse(json: &'a [u8]) -> Result<Self, AuthFailure> {
        let header: Self = object(json, "header")?;
        if header.crit || header.b64 || header.zip || header.enc {
            return Err(AuthFailure::invalid("header", "crit, b64, zip and enc are not supported"));
        }
        Ok(header)
    }
}

#[derive(Deserialize)]
struct RawClaims<'a> {
    #[serde(borrow)]
    exp: Option<&'a RawValue>,
    #[serde(borrow)]
    nbf: Option<&'a RawValue>,
    #[serde(borrow)]
    iat: Option<&'a RawValue>,
    #[serde(borrow)]
    sub: Option<&'a RawValue>,
    #[serde(borrow)]
    iss: Option<&'a RawValue>,
    #[serde(borrow)]
    aud: Option<&'a RawValue>,
    #[serde(borrow)]
    jti: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    caps: Option<&'a RawValue>,
    /// Only tokens for one subscription have it; such a token must not open a connection.
    #[serde(default)]
    channel: Option<IgnoredAny>,
}

/// The claims of a connection token, well-formed but not yet weighed.
pub(super) struct Claims {
    pub(super) exp: Option<u64>,
    pub(super) nbf: Option<u64>,
    pub(super) iat: Option<u64>,
    /// Empty if there is none.
    pub(super) sub: String,
    pub(super) iss: Option<String>,
    pub(super) aud: Vec<String>,
    pub(super) jti: Option<String>,
    pub(super) info: Option<Bytes>,
    pub(super) channels: Vec<Channel>,
    pub(super) grants: Grants,
}

impl Claims {
    /// Reads the claims of a payload whose signature has been verified.
    pub(super) fn parse(json: &[u8]) -> Result<Self, AuthFailure> {
        let raw: RawClaims<'_> = object(json, "claims")?;
        if raw.channel.is_some() {
            return Err(AuthFailure::invalid("kind", "a token for one channel does not open a connection"));
        }
        // Rounded to the stricter side.
        Ok(Self {
            exp: time(raw.exp, "exp", f64::floor)?,
            nbf: time(raw.nbf, "nbf", f64::ceil)?,
            iat: time(raw.iat, "iat", f64::floor)?,
            sub: subject(raw.sub)?,
            iss: claim(raw.iss, "iss")?,
            aud: audiences(raw.aud)?,
            jti: name(raw.jti, "jti")?,
            info: info(raw.info)?,
            channels: channels(raw.channels)?,
            grants: grants(raw.caps)?,
        })
    }
}

/// Reads a JSON object. Serde would fill a struct from an array as well.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8], word: &'static str) -> Result<T, AuthFailure> {
    if json.trim_ascii_start().first() != Some(&b'{') {
        return Err(AuthFailure::invalid(word, "not a JSON object"));
    }
    serde_json::from_slice(json).map_err(|_| AuthFailure::invalid(word, "malformed JSON, or a member twice"))
}

fn claim<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>, word: &'static str) -> Result<Option<T>, AuthFailure> {
    raw.map(|raw| serde_json::from_str(raw.get()).map_err(|_| AuthFailure::invalid(word, "of a wrong type")))
        .transpose()
}

/// A NumericDate (RFC 7519, section 2): a number of seconds since 1970, which may have a fraction and an exponent.
fn time(raw: Option<&RawValue>, word: &'static str, round: fn(f64) -> f64) -> Result<Option<u64>, AuthFailure> {
    match claim::<f64>(raw, word)? {
        None => Ok(None),
        Some(time) if time >= 0.0 && round(time) <= MAX_TIME => Ok(Some(round(time) as u64)),
        Some(_) => Err(AuthFailure::invalid(word, "before 1970, or after the year 9999: not seconds")),
    }
}

/// The user; empty if the token names none. An integer counts as its text, which names the same user everywhere only if
/// there is one way to write it.
fn subject(raw: Option<&RawValue>) -> Result<String, AuthFailure> {
    let Some(raw) = raw else { return Ok(String::new()) };
    let text = raw.get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = text == "0" || digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
    match canonical {
        true if text.len() > MAX_NAME_BYTES => Err(BAD_SUBJECT),
        true => Ok(text.to_owned()),
        false if text == r#""""# => Ok(String::new()),
        false => name(Some(raw), "sub").map_err(|_| BAD_SUBJECT).map(Option::unwrap_or_default),
    }
}

fn name(raw: Option<&RawValue>, word: &'static str) -> Result<Option<String>, AuthFailure> {
    let name: Option<String> = claim(raw, word)?;
    match name {
        Some(name) if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) => {
            Err(AuthFailure::invalid(word, "empty, longer than 255 bytes, or with control characters"))
        }
        name => Ok(name),
    }
}

fn audiences(raw: Option<&RawValue>) -> Result<Vec<String>, AuthFailure> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Several(Vec<String>),
    }
    Ok(match claim(raw, "aud")? {
        None => Vec::new(),
        Some(Audience::One(audience)) => vec![audience],
        Some(Audience::Several(audiences)) if audiences.len() <= MAX_AUDIENCES => audiences,
        Some(Audience::Several(_)) => return Err(AuthFailure::invalid("aud", "more than 16")),
    })
}

fn info(raw: Option<&RawValue>) -> Result<Option<Bytes>, AuthFailure> {
    match raw.map(RawValue::get) {
        None => Ok(None),
        Some(info) if info.len() > MAX_INFO_BYTES => Err(AuthFailure::invalid("info", "longer than 4 KiB")),
        Some(info) => match json_line(info) {
            Ok(info) => Ok(Some(info)),
            Err(LoneSurrogate) => Err(AuthFailure::invalid("info", "has an escaped surrogate without its other half")),
        },
    }
}

fn channels(raw: Option<&RawValue>) -> Result<Vec<Channel>, AuthFailure> {
    let names: Vec<Text<'_>> = claim(raw, "channels")?.unwrap_or_default();
    if names.len() > MAX_CHANNELS {
        return Err(AuthFailure::invalid("channels", "more than 64"));
    }
    let mut channels = Vec::with_capacity(names.len());
    for Text(name) in names {
        let channel = Channel::new(&name).map_err(|error| AuthFailure::because("channels", error))?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

/// One element of `caps`. An unknown member might be a restriction that this version does not know: refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cap<'a> {
    #[serde(borrow)]
    channels: Vec<Text<'a>>,
    #[serde(default, rename = "match")]
    matching: Option<Matching>,
    #[serde(borrow)]
    allow: Vec<Text<'a>>,
}

/// A text inside a list, borrowed where it has no escapes: serde borrows a bare `Cow` only as a member.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Matching {
    #[default]
    Exact,
    Wildcard,
}

fn grants(raw: Option<&RawValue>) -> Result<Grants, AuthFailure> {
    let refuse = |reason| AuthFailure::invalid("caps", reason);
    let caps: Vec<Cap<'_>> = claim(raw, "caps")?.unwrap_or_default();
    let patterns = caps.iter().map(|cap| cap.channels.len()).sum::<usize>();
    let mut rules = Vec::with_capacity(patterns.min(MAX_PATTERNS));
    for cap in caps {
        let rights: Option<Vec<Right>> = cap.allow.iter().map(|Text(word)| Right::from_word(word)).collect();
        let rights = rights.ok_or(refuse("allow: other words than sub, pub, prs and hst"))?;
        for Text(pattern) in &cap.channels {
            if rules.len() == MAX_PATTERNS {
                return Err(refuse("more than 64 channels"));
            }
            let rule = match cap.matching.unwrap_or_default() {
                Matching::Exact => Rule::exact(pattern, &rights),
                Matching::Wildcard => Rule::wildcard(pattern, &rights),
            };
            rules.push(rule.map_err(|error| AuthFailure::because("caps", error))?);
        }
    }
    Ok(Grants::new(rules))
}

/// Notices a member of the header even if it is `null`, which is no value that such a member may have.
fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}
