//! What servers say, typed as far as tests look into it.

use serde::Deserialize;
use serde_json::Value;

/// The error of a reply.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ErrorReply {
    /// The protocol's error code.
    pub code: u32,
    /// Its text.
    #[serde(default)]
    pub message: String,
    /// Whether the same command may succeed later.
    #[serde(default)]
    pub temporary: bool,
}

/// A publication, pushed or recovered.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Publication {
    /// The push's channel; empty in replies, where the command names it.
    #[serde(skip)]
    pub channel: String,
    /// The published value.
    pub data: Value,
    /// 0 for channels without history.
    #[serde(default)]
    pub offset: u64,
    /// Only on the first publication of an epoch.
    pub epoch: Option<String>,
    /// Tags, or null.
    #[serde(default)]
    pub tags: Value,
    /// Who published, or null.
    #[serde(default)]
    pub info: Value,
    /// When the publishing node took it, in milliseconds since 1970.
    #[serde(default)]
    pub time: u64,
}

/// The result of subscribe.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
#[derive(Default)]
#[allow(missing_docs, reason = "members are the protocol's own words")]
pub struct Subscribed {
    pub recoverable: bool,
    pub epoch: String,
    pub offset: u64,
    pub publications: Vec<Publication>,
    pub recovered: bool,
    pub positioned: bool,
    pub was_recovering: bool,
}

impl Subscribed {
    pub(super) fn parse(result: Value) -> Self {
        serde_json::from_value(result.clone()).unwrap_or_else(|error| panic!("subscribe result: {error}: {result}"))
    }

    /// The data of the recovered publications, in order.
    pub fn data(&self) -> Vec<Value> {
        self.publications.iter().map(|publication| publication.data.clone()).collect()
    }
}

/// Something the server says unasked.
#[derive(Clone, Debug, PartialEq)]
pub enum Push {
    /// A publication.
    Publication(Publication),
    /// The server ended a subscription.
    Unsubscribe {
        /// Of this channel.
        channel: String,
        /// The protocol's code.
        code: u32,
        /// Its text.
        reason: String,
    },
    /// Anything else, as received.
    Other(Value),
}

impl Push {
    pub(super) fn parse(push: Value) -> Self {
        let channel = push["channel"].as_str().unwrap_or_default().to_owned();
        if let Some(publication) = push.get("pub") {
            let publication: Publication = serde_json::from_value(publication.clone())
                .unwrap_or_else(|error| panic!("publication: {error}: {push}"));
            return Self::Publication(Publication { channel, ..publication });
        }
        if let Some(end) = push.get("unsubscribe") {
            let code = end["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or_default();
            return Self::Unsubscribe { channel, code, reason: end["reason"].as_str().unwrap_or_default().to_owned() };
        }
        Self::Other(push)
    }
}
