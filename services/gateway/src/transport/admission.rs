//! Whether a request may come in, as whom, and to which channels.

use std::borrow::Cow;

use fanway_hub::session::{ResumePoint, resume_points};
use fanway_hub::{Hub, Identity};
use fanway_protocol::cursor::MAX_CURSOR_ITEMS;
use fanway_protocol::{Channel, Right};
use http::request::Parts;

use super::refusal::Refusal;
use crate::auth::{Caller, Credentials, Origins};

/// What every client endpoint asks of a request. Built once from the settings.
#[derive(Debug)]
pub struct Admission {
    /// Which pages may come.
    pub origins: Origins,
    /// Where tokens are.
    pub credentials: Credentials,
    /// The node ends TLS itself.
    pub secure: bool,
}

impl Admission {
    /// Where the request comes from, if that is allowed.
    pub fn caller(&self, parts: &Parts) -> Result<Caller, Refusal> {
        self.origins.judge(&parts.headers, &parts.uri, self.secure).map_err(|_| Refusal::Origin)
    }

    /// Who the request's credential says the client is; `None` if it presents none.
    pub fn presented(&self, hub: &Hub, parts: &Parts, caller: &Caller) -> Result<Option<Identity>, Refusal> {
        let token = self.credentials.presented(&parts.headers, &parts.uri, caller);
        let token = token.inspect_err(|failure| hub.credential_refused(failure)).map_err(Refusal::Credential)?;
        token.map(|token| hub.verify(&token)).transpose().map_err(Refusal::Credential)
    }

    /// As [`Admission::presented`], for endpoints without a connect command: nobody is anonymous unless that is allowed.
    pub fn identity(&self, hub: &Hub, parts: &Parts, caller: &Caller) -> Result<Identity, Refusal> {
        match self.presented(hub, parts, caller)? {
            Some(identity) => Ok(identity),
            None if hub.allows_anonymous() => Ok(Identity::anonymous()),
            None => Err(Refusal::Credential(fanway_hub::AuthFailure::Missing)),
        }
    }
}

/// The channels and the cursor that a request names.
#[derive(Debug, Default)]
pub struct Wanted {
    channels: Vec<Channel>,
    /// The cursor as sent, if one was.
    pub cursor: Option<String>,
    /// The value of `timeout`, if given.
    pub timeout: Option<String>,
}

impl Wanted {
    /// Reads `channel`, `cursor` and `timeout` of the query. Other parameters are left alone.
    pub fn parse(parts: &Parts) -> Result<Self, Refusal> {
        let mut wanted = Self::default();
        for (name, value) in form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            match &*name {
                "channel" => {
                    if wanted.channels.len() == MAX_CURSOR_ITEMS {
                        return Err(Refusal::TooManyChannels);
                    }
                    wanted.channels.push(Channel::new(&value).map_err(Refusal::InvalidChannel)?);
                }
                "cursor" => set(&mut wanted.cursor, value, "cursor: given twice")?,
                "timeout" => set(&mut wanted.timeout, value, "timeout: given twice")?,
                _ => {}
            }
        }
        // An EventSource reconnects to the URL it began with, and tells in a header where it has got to.
        if let Some(id) = parts.headers.get("last-event-id").filter(|id| !id.is_empty()) {
            wanted.cursor = Some(id.to_str().unwrap_or("not a cursor").to_owned());
        }
        if wanted.channels.is_empty() {
            return Err(Refusal::BadRequest("channel: at least one is needed"));
        }
        Ok(wanted)
    }

    /// Where the client joins each channel, if it may subscribe to all of them.
    pub fn authorise(self, hub: &Hub, identity: &Identity) -> Result<Vec<ResumePoint>, Refusal> {
        for channel in &self.channels {
            let namespace = hub.namespaces().of(channel).ok_or(Refusal::UnknownChannel)?;
            let by_server = identity.channels.contains(channel);
            if !by_server && !namespace.allows(Right::Subscribe, channel, identity, false) {
                return Err(Refusal::Forbidden);
            }
        }
        Ok(resume_points(hub.namespaces(), self.channels, self.cursor.as_deref()))
    }
}

fn set(slot: &mut Option<String>, value: Cow<'_, str>, twice: &'static str) -> Result<(), Refusal> {
    match slot.replace(value.into_owned()) {
        None => Ok(()),
        Some(_) => Err(Refusal::BadRequest(twice)),
    }
}
