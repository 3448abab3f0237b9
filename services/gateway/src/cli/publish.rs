//! `fanway publish`: one publication over the HTTP API, to try a node out.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::Full;
use serde_json::{Value, json};

use super::args::PublishArgs;
use super::exchange::exchange;
use crate::auth::Secret;
use crate::auth::secret::unseen;

/// For everything, from connecting to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A publication to be sent.
#[derive(Debug)]
pub struct PublishRequest {
    /// Where the API is.
    uri: Uri,
    /// `host:port` of it.
    address: String,
    api_key: Option<Secret>,
    body: Value,
}

impl PublishRequest {
    pub(super) fn new(args: PublishArgs) -> Result<Self, String> {
        let url = format!("{}/api/publish", args.url.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|_| format!("{:?} is not a URL; write it as http://host:port", args.url))?;
        if uri.scheme_str() != Some("http") {
            return Err(format!(
                "{:?}: only http:// is spoken here; for TLS use curl or another HTTP client",
                args.url
            ));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("the URL names no host")?;
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        if let Some(fault) = args.api_key.as_ref().and_then(|key| unseen(key.expose())) {
            return Err(format!("--api-key, FANWAY_API_KEY: {fault}"));
        }
        let data: Value = serde_json::from_str(&args.data).unwrap_or(Value::String(args.data));
        Ok(Self { uri, address, api_key: args.api_key, body: json!({"channel": args.channel, "data": data}) })
    }

    /// Sends it and tells what became of it, for people.
    pub async fn send(self) -> anyhow::Result<String> {
        let address = self.address.clone();
        tokio::time::timeout(DEADLINE, self.exchange())
            .await
            .with_context(|| format!("{address} did not answer within {DEADLINE:?}"))?
    }

    async fn exchange(self) -> anyhow::Result<String> {
        let mut request = Request::post(self.uri.path())
            .header(header::HOST, self.uri.authority().map_or("", |authority| authority.as_str()))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header("x-api-key", key.expose());
        }
        let request = request.body(Full::new(Bytes::from(self.body.to_string())))?;
        let (status, body) = exchange(&self.address, request).await?;
        let body: Value = serde_json::from_slice(&body).with_context(|| format!("{status}: the answer is not JSON"))?;
        report(status, &body)
    }
}

fn report(status: http::StatusCode, body: &Value) -> anyhow::Result<String> {
    if let Some(error) = body.get("error") {
        let message = error.get("message").and_then(Value::as_str).unwrap_or("no reason given");
        let code = error.get("code").map(Value::to_string).unwrap_or_default();
        bail!("refused with {status}: {message} (code {code})");
    }
    if !status.is_success() {
        bail!("refused with {status}");
    }
    let result = |name: &str| body.get("result").and_then(|result| result.get(name));
    Ok(match (result("offset").and_then(Value::as_u64), result("epoch").and_then(Value::as_str)) {
        (Some(offset), Some(epoch)) if offset > 0 => format!("published at offset {offset}, epoch {epoch}"),
        _ => "published (the channel keeps no history, so it has no position)".to_owned(),
    })
}
