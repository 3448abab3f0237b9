//! `fanway token`.

use std::time::Duration;

use fanway_protocol::{Channel, Right, Rule};
use humantime_serde::re::humantime;

use super::Refusal;
use super::args::TokenArgs;
use crate::auth::{self, Authenticator, CapRequest, KeySettings, Signer, TokenRequest, unix_now};
use crate::config::{Settings, Sources};

/// Signs a token, and makes sure that a node with these settings would take it.
pub(super) fn mint(args: TokenArgs) -> Result<String, Refusal> {
    let settings = match args.secret {
        Some(secret) => auth::Settings { keys: vec![KeySettings::hmac(secret)], ..auth::Settings::default() },
        None => Settings::read(&Sources::of_process(args.config, Vec::new()))?.auth,
    };
    let request =
        TokenRequest { user: args.user, info: args.info, channels: args.channels, caps: args.caps, ttl: args.ttl };
    let now = unix_now();
    let token = Signer::new(&settings)?
        .mint(&request, now)
        .map_err(|error| Refusal::usage(format!("the token cannot be signed: {error}")))?;
    match Authenticator::new(&settings)?.verify(&token, now) {
        Ok(_) => Ok(token),
        Err(failure) => Err(Refusal::usage(format!("a node with these settings would refuse this token: {failure}"))),
    }
}

/// A channel name.
pub(super) fn channel(text: &str) -> Result<String, String> {
    Channel::new(text).map(|channel| channel.as_str().to_owned()).map_err(|error| error.to_string())
}

/// `chat:*=sub,pub`. A `*` between colons makes it a pattern.
pub(super) fn cap(text: &str) -> Result<CapRequest, String> {
    let (pattern, words) = text.rsplit_once('=').ok_or("write it as CHANNEL=sub,pub")?;
    let words: Vec<&str> = words.split(',').collect();
    let rights: Vec<Right> = words
        .iter()
        .map(|word| Right::from_word(word).ok_or_else(|| format!("{word:?} is none of sub, pub, prs, hst")))
        .collect::<Result<_, _>>()?;
    let is_pattern = pattern.contains('*');
    let rule = if is_pattern { Rule::wildcard(pattern, &rights) } else { Rule::exact(pattern, &rights) };
    rule.map_err(|error| error.to_string())?;
    Ok(CapRequest {
        channels: vec![pattern.to_owned()],
        matching: if is_pattern { "wildcard" } else { "exact" },
        allow: words.into_iter().map(str::to_owned).collect(),
    })
}

/// Any JSON value.
pub(super) fn json(text: &str) -> Result<serde_json::Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// A time such as `10m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration >= Duration::from_secs(1) => Ok(duration),
        Ok(_) => Err("less than a second".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
