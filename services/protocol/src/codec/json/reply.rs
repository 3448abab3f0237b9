//! Encoder of replies and pushes.
//!
//! Members that hold their zero value are left out, as the SDKs expect, but for the few that the protocol always has.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};
use serde_json::value::RawValue;

use super::{is_zero, write};
use crate::publication::{ClientInfo, Payload, Publication, Tags};
use crate::reply::{ConnectResult, ErrorBody, HistoryResult, Outcome, Push, RefreshResult, Reply, SubscribeResult};
use crate::{Epoch, Position};

/// Appends a reply.
pub fn write_reply(reply: &Reply<'_>, out: &mut Vec<u8>) {
    write(&ReplyMembers(reply), out);
}

/// Appends a push.
pub fn write_push(push: &Push<'_>, out: &mut Vec<u8>) {
    let push = match push {
        Push::Publication { channel, publication, position, first_of_epoch } => {
            let epoch = position.filter(|_| *first_of_epoch).map(|position| position.epoch);
            let publication = PublicationMembers { epoch, ..PublicationMembers::new(publication, *position) };
            PushMembers { channel, publication: Some(publication), unsubscribe: None }
        }
        Push::Unsubscribe { channel, code, reason } => {
            PushMembers { channel, publication: None, unsubscribe: Some(Unsubscribe { code: *code, reason }) }
        }
    };
    write(&PushFrame { push }, out);
}

/// A payload: JSON as the value it is, bytes as a string in standard base64.
///
/// Text that is not JSON (it can only come from outside the checked paths) becomes `null` rather than a broken frame.
pub(super) struct Data<'a>(pub(super) &'a Payload);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Payload::Json(text) => serde_json::from_slice::<&RawValue>(text).ok().serialize(serializer),
            Payload::Binary(bytes) => serializer.collect_str(&Base64Display::new(bytes, &STANDARD)),
        }
    }
}

struct ReplyMembers<'a>(&'a Reply<'a>);

impl Serialize for ReplyMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Reply { id, result } = self.0;
        let mut reply = serializer.serialize_struct("Reply", 2)?;
        reply.serialize_field("id", id)?;
        match result {
            Err(error) => reply.serialize_field("error", &Error::from(error))?,
            Ok(Outcome::Connect(result)) => reply.serialize_field("connect", &Connect::from(result))?,
            Ok(Outcome::Subscribe(result)) => reply.serialize_field("subscribe", &Subscribe::from(result))?,
            Ok(Outcome::Unsubscribe) => reply.serialize_field("unsubscribe", &Empty {})?,
            Ok(Outcome::Publish) => reply.serialize_field("publish", &Empty {})?,
            Ok(Outcome::History(result)) => reply.serialize_field("history", &History::from(result))?,
            Ok(Outcome::Ping) => reply.serialize_field("ping", &Empty {})?,
            Ok(Outcome::Refresh(result)) => reply.serialize_field("refresh", &Refresh::from(result))?,
        }
        reply.end()
    }
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Error<'a> {
    code: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    temporary: bool,
}

impl<'a> From<&'a ErrorBody> for Error<'a> {
    fn from(error: &'a ErrorBody) -> Self {
        Self { code: error.code, message: &error.message, temporary: error.temporary }
    }
}

#[derive(Serialize)]
struct Connect<'a> {
    client: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    expires: bool,
    #[serde(skip_serializing_if = "is_zero")]
    ttl: u32,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subs: BTreeMap<&'a str, Subscribe<'a>>,
    #[serde(skip_serializing_if = "is_zero")]
    ping: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pong: bool,
}

impl<'a> From<&'a ConnectResult<'a>> for Connect<'a> {
    fn from(result: &'a ConnectResult<'a>) -> Self {
        Self {
            client: result.client,
            version: result.version,
            expires: result.ttl.is_some(),
            ttl: result.ttl.unwrap_or(0),
            subs: result.subs.iter().map(|(channel, result)| (channel.as_str(), result.into())).collect(),
            ping: result.ping,
            pong: result.pong,
        }
    }
}

#[derive(Serialize)]
struct Subscribe<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    recoverable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Publications::is_empty")]
    publications: Publications<'a>,
    #[serde(skip_serializing_if = "is_zero")]
    recovered: bool,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    positioned: bool,
    #[serde(skip_serializing_if = "is_zero")]
    was_recovering: bool,
}

impl<'a> From<&'a SubscribeResult> for Subscribe<'a> {
    fn from(result: &'a SubscribeResult) -> Self {
        Self {
            recoverable: result.recoverable,
            epoch: result.epoch,
            publications: Publications(&result.publications),
            recovered: result.recovered,
            offset: result.offset,
            positioned: result.positioned,
            was_recovering: result.was_recovering,
        }
    }
}

#[derive(Serialize)]
struct History<'a> {
    publications: Publications<'a>,
    epoch: Epoch,
    offset: u64,
}

impl<'a> From<&'a HistoryResult> for History<'a> {
    fn from(result: &'a HistoryResult) -> Self {
        let Position { epoch, offset } = result.top;
        Self { publications: Publications(&result.publications), epoch, offset }
    }
}

#[derive(Serialize)]
struct Refresh<'a> {
    client: &'a str,
    version: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    expires: bool,
    #[serde(skip_serializing_if = "is_zero")]
    ttl: u32,
}

impl<'a> From<&'a RefreshResult<'a>> for Refresh<'a> {
    fn from(result: &'a RefreshResult<'a>) -> Self {
        let (client, version) = (result.client, result.version);
        Self { client, version, expires: result.ttl.is_some(), ttl: result.ttl.unwrap_or(0) }
    }
}

/// Publications of a log, with their positions.
struct Publications<'a>(&'a [(Position, Arc<Publication>)]);

impl Publications<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Publications<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let publications = self.0.iter();
        serializer.collect_seq(
            publications.map(|(position, publication)| PublicationMembers::new(publication, Some(*position))),
        )
    }
}

#[derive(Serialize)]
struct PublicationMembers<'a> {
    data: Data<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<&'a ClientInfo>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<&'a Tags>,
    #[serde(skip_serializing_if = "is_zero")]
    time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
}

impl<'a> PublicationMembers<'a> {
    fn new(publication: &'a Publication, position: Option<Position>) -> Self {
        Self {
            data: Data(&publication.data),
            info: publication.info.as_deref(),
            offset: position.map_or(0, |position| position.offset),
            tags: publication.tags.as_ref(),
            time: publication.time,
            epoch: None,
        }
    }
}

#[derive(Serialize)]
struct PushFrame<'a> {
    push: PushMembers<'a>,
}

#[derive(Serialize)]
struct PushMembers<'a> {
    channel: &'a str,
    #[serde(rename = "pub", skip_serializing_if = "Option::is_none")]
    publication: Option<PublicationMembers<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unsubscribe: Option<Unsubscribe<'a>>,
}

#[derive(Serialize)]
struct Unsubscribe<'a> {
    code: u32,
    reason: &'a str,
}

#[cfg(test)]
mod tests;
