//! Whether a request may come in, as whom, and to which channels.

use std::borrow::Cow;
use std::sync::Arc;

use fanway_hub::quota::Address;
use fanway_hub::session::Resume;
use fanway_hub::{Hub, Identity};
use fanway_protocol::cursor::{MAX_CURSOR_ITEMS, STOP, is_event_id};
use fanway_protocol::{Channel, Cursor, Right};
use http::Version;
use http::request::Parts;

use super::refusal::Refusal;
use crate::auth::{Caller, Credentials, ForeignOrigin, Origins};
use crate::server::{ClientAddress, Cors, OriginAccess};

/// What every client endpoint asks of a request. Built once from the settings.
#[derive(Debug)]
pub struct Admission {
    /// Which pages may come.
    pub origins: Origins,
    /// Where tokens are.
    pub credentials: Credentials,
    /// The node ends TLS itself.
    pub secure: bool,
    /// The largest request head, in bytes.
    pub max_head: usize,
}

impl Admission {
    /// Where the request comes from, if that is allowed.
    pub fn caller(&self, parts: &Parts) -> Result<Caller, Refusal> {
        self.origins.judge(&parts.headers, &parts.uri, self.secure).map_err(|_| Refusal::Origin)
    }

    /// Which pages of other origins may read answers.
    pub fn cors(self: &Arc<Self>) -> Cors {
        let admission = Arc::clone(self);
        Cors::new(move |headers, uri| match admission.origins.judge(headers, uri, admission.secure) {
            Ok(Caller::Listed(origin)) => {
                OriginAccess::Listed { origin, credentials: admission.origins.allow_credentials() }
            }
            Ok(Caller::Any) => OriginAccess::Any,
            Ok(Caller::SameOrigin | Caller::Unstated) => OriginAccess::SameOrigin,
            Err(ForeignOrigin) => OriginAccess::Foreign,
        })
    }

    /// Who the request's credential says the client is; `None` if it presents none.
    pub fn presented(&self, hub: &Hub, parts: &Parts, caller: &Caller) -> Result<Option<Identity>, Refusal> {
        let token = self.credentials.presented(&parts.headers, &parts.uri, caller);
        let token = token.inspect_err(|failure| hub.credential_refused(failure));
        let identity = token.and_then(|token| token.map(|token| hub.verify(&token)).transpose());
        identity.map_err(|failure| match hub.admit_failure(address(hub, parts), &failure) {
            Ok(()) => Refusal::Credential(failure),
            Err(limited) => Refusal::Limited(limited),
        })
    }

    /// As [`Admission::presented`], for endpoints without a connect command: nobody is anonymous unless that is allowed.
    pub fn identity(&self, hub: &Hub, parts: &Parts, caller: &Caller) -> Result<Identity, Refusal> {
        match self.presented(hub, parts, caller)? {
            Some(identity) => Ok(identity),
            None if hub.allows_anonymous() => Ok(Identity::anonymous()),
            None => Err(Refusal::Credential(fanway_hub::AuthFailure::Missing)),
        }
    }

    /// Where the client joins each channel that it wants, if it may subscribe to all of them, and can come back to them.
    pub fn resume(&self, hub: &Hub, parts: &Parts, identity: &Identity, wanted: Wanted) -> Result<Resume, Refusal> {
        for channel in &wanted.channels {
            let namespace = hub.namespaces().of(channel).ok_or(Refusal::UnknownChannel)?;
            let by_server = identity.channels.contains(channel);
            if !by_server && !namespace.allows(Right::Subscribe, channel, identity, false) {
                return Err(Refusal::Forbidden);
            }
        }
        let without_cursor = head_bytes(parts).saturating_sub(wanted.cursor_bytes);
        let resume = Resume::new(hub.namespaces(), wanted.channels, wanted.cursor.as_deref());
        let needed = without_cursor + room_for_cursors(resume.points.len());
        if needed > self.max_head {
            return Err(Refusal::NoRoomForCursor { needed, max_head: self.max_head });
        }
        Ok(resume)
    }
}

/// The client's address, where it is known, as what may pay for a client without a user.
pub(super) fn address(hub: &Hub, parts: &Parts) -> Option<Address> {
    parts.extensions.get().map(|ClientAddress(address)| hub.address(*address))
}

/// Bytes of a request's head, as the limit counts them: over HTTP/1 the lines, over HTTP/2 each field with 32 bytes more
/// (RFC 9113, section 6.5.2).
fn head_bytes(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    let (line, around) = if parts.version == Version::HTTP_2 {
        // The fields :method, :scheme, :authority and :path.
        (":method:scheme:authority:path".len() + "https".len() + 4 * 32, 32)
    } else {
        ("  HTTP/1.1\r\n\r\n".len() + "https://".len(), ": \r\n".len())
    };
    let fields = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + around);
    parts.method.as_str().len() + authority + target + line + fields.sum::<usize>()
}

/// Bytes that must be left in the head for the cursor of so many channels, when the client reconnects with it. Twice: an
/// `EventSource` whose URL has a cursor keeps that, and sends the newer one besides.
fn room_for_cursors(channels: usize) -> usize {
    // The name of the header or parameter, and each `~` as `%7E`, as some clients write it.
    2 * (Cursor::longest(channels) + 2 * channels + 64)
}

/// The channels and the cursor that a request names.
#[derive(Debug, Default)]
pub struct Wanted {
    channels: Vec<Channel>,
    /// The cursor as sent, if one was: of the header `Last-Event-ID`, else of the query's `lastEventId`, else of its
    /// `cursor`. An empty one is none.
    pub cursor: Option<String>,
    /// Bytes of the head that cursors take.
    cursor_bytes: usize,
    /// The value of `timeout`, if given.
    pub timeout: Option<String>,
}

impl Wanted {
    /// Reads the channels, the cursor and `timeout`. Other parameters are left alone: polyfills add some.
    ///
    /// No cursor is refused, whatever it looks like: it comes from a client that reconnects, often by itself and for ever.
    pub fn parse(parts: &Parts) -> Result<Self, Refusal> {
        let mut wanted = Self::default();
        let (mut event_id, mut cursor) = (None, None);
        for pair in parts.uri.query().unwrap_or_default().split('&') {
            let Some((name, value)) = form_urlencoded::parse(pair.as_bytes()).next() else { continue };
            if name == "cursor" || is_event_id(&name) {
                wanted.cursor_bytes += pair.len() + "&".len();
            }
            match &*name {
                "channel" => {
                    if wanted.channels.len() == MAX_CURSOR_ITEMS {
                        return Err(Refusal::TooManyChannels);
                    }
                    wanted.channels.push(Channel::new(&value).map_err(Refusal::InvalidChannel)?);
                }
                "timeout" => set(&mut wanted.timeout, value, "timeout: given twice")?,
                _ if value.is_empty() => {}
                // The last of a kind: a polyfill appends its own to the URL that it was given.
                "cursor" => cursor = Some(value.into_owned()),
                name if is_event_id(name) => event_id = Some(value.into_owned()),
                _ => {}
            }
        }
        // An EventSource reconnects to the URL it began with: what it sends besides is newer than a `cursor` in the URL.
        let headers = parts.headers.get_all("last-event-id");
        wanted.cursor_bytes += headers.iter().map(|id| "last-event-id: \r\n".len() + id.len()).sum::<usize>();
        let header = headers.iter().rfind(|id| !id.is_empty());
        let header = header.map(|id| id.to_str().unwrap_or("not a cursor").to_owned());
        wanted.cursor = header.or(event_id).or(cursor);
        if wanted.channels.is_empty() {
            return Err(Refusal::BadRequest("channel: at least one is needed"));
        }
        Ok(wanted)
    }

    /// True if the client presents the id of the event after which it must not come back.
    pub fn must_stop(&self) -> bool {
        self.cursor.as_deref() == Some(STOP)
    }
}

fn set(slot: &mut Option<String>, value: Cow<'_, str>, twice: &'static str) -> Result<(), Refusal> {
    match slot.replace(value.into_owned()) {
        None => Ok(()),
        Some(_) => Err(Refusal::BadRequest(twice)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(target: &str, headers: &[(&str, &str)]) -> Option<String> {
        let mut request = http::Request::get(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Wanted::parse(&request.body(()).unwrap().into_parts().0).unwrap().cursor
    }

    #[test]
    fn the_header_comes_before_the_event_id_of_the_query_and_that_before_the_cursor() {
        let all = "/sse?channel=a&lastEventId=2&cursor=3";
        assert_eq!(cursor(all, &[("Last-Event-ID", "1")]).as_deref(), Some("1"));
        assert_eq!(cursor(all, &[]).as_deref(), Some("2"));
        assert_eq!(cursor("/sse?cursor=3&channel=a", &[]).as_deref(), Some("3"));
        assert_eq!(cursor("/sse?channel=a", &[]), None);
    }

    #[test]
    fn the_last_of_a_kind_wins() {
        assert_eq!(cursor("/sse?channel=a", &[("last-event-id", "1"), ("last-event-id", "2")]).as_deref(), Some("2"));
        assert_eq!(cursor("/sse?channel=a&lastEventId=1&last_event_id=2", &[]).as_deref(), Some("2"));
        assert_eq!(cursor("/sse?channel=a&cursor=1&cursor=2", &[]).as_deref(), Some("2"));
    }

    #[test]
    fn an_empty_one_is_none() {
        assert_eq!(cursor("/sse?channel=a&lastEventId=&cursor=", &[("Last-Event-ID", "")]), None);
        assert_eq!(cursor("/sse?channel=a&lastEventId=1&lastEventId=&cursor=3", &[]).as_deref(), Some("1"));
    }

    #[test]
    fn the_event_id_of_the_query_has_many_spellings() {
        for name in [
            "lastEventId",
            "lastEventID",
            "lasteventid",
            "last_event_id",
            "last-event-id",
            "Last-Event-ID",
            "LAST-EVENT-ID",
            "evs_last_event_id",
            "last%2Devent%2Did",
        ] {
            assert_eq!(cursor(&format!("/sse?channel=a&{name}=1~x"), &[]).as_deref(), Some("1~x"), "{name}");
        }
        for name in ["lastEvent", "eventId", "xlastEventId", "lastEventIdx", "lastEventId%00"] {
            assert_eq!(cursor(&format!("/sse?channel=a&{name}=1~x"), &[]), None, "{name}");
        }
    }

    #[test]
    fn what_is_no_text_is_no_cursor_and_not_refused() {
        let mut parts = http::Request::get("/sse?channel=a").body(()).unwrap().into_parts().0;
        parts.headers.insert("last-event-id", http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(Wanted::parse(&parts).unwrap().cursor.as_deref(), Some("not a cursor"));
    }
}
