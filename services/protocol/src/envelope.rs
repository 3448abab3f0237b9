//! The envelope: a publication as nodes send it to each other and as a log entry keeps it.
//!
//! Two parts. The **body** is compact binary and carries everything but the position; log entries hold the body alone.
//! The **header** is text that the publisher puts before the body on pub/sub, because only the publish script has the
//! position:
//!
//! ```text
//! 1:<epoch>:<offset>:<epoch of the predecessor>:<body>     a channel with history
//! 1:-:<body>                                               a channel without
//! ```
//!
//! Both begin with a version. What arrives is untrusted: every length is checked before it is used, nothing panics,
//! nothing is read past the end, and the channel inside must be the one it arrived on, so that a message cannot be
//! moved to another channel. A body of an unknown version is an error, and its reader treats the publication as missed;
//! it never guesses.
//!
//! Versions of the body: [`OLDEST`] has a JSON payload, version 2 bytes of any kind, version 3 either of them and the client
//! that is excluded. A publication is written in the oldest version that can carry it ([`version`]), so that builds of a
//! rollout read as much as possible of each other, and only in that one. Heartbeats announce the [`NEWEST`] version that a
//! node reads, and nodes write none that is newer than the lowest announced.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::publication::breaks_lines;
use crate::{Channel, ClientInfo, Epoch, Payload, Position, Publication};

/// Version of the header that this build writes and reads.
const HEADER_VERSION: &[u8] = b"1";
/// What stands in the place of a position where there is none.
const NO_PLACE: &[u8] = b"-";
/// Version of a body with a JSON payload: every build reads it.
pub const OLDEST: u8 = 1;
/// Version of a body with a binary payload.
const BINARY: u8 = 2;
/// Version of a body with an excluded client, and any payload.
const EXCLUDING: u8 = 3;
/// Newest version of a body that this build reads and writes.
pub const NEWEST: u8 = EXCLUDING;

const HAS_TAGS: u8 = 1;
const HAS_INFO: u8 = 2;
const HAS_CONN_INFO: u8 = 4;
const HAS_TRACE: u8 = 8;
/// In version 3 alone, and always there.
const HAS_EXCLUDE: u8 = 16;
/// In version 3 alone: the payload is binary.
const IS_BINARY: u8 = 32;

/// Flags that a version has.
fn known_flags(version: u8) -> u8 {
    const OLD: u8 = HAS_TAGS | HAS_INFO | HAS_CONN_INFO | HAS_TRACE;
    if version == EXCLUDING { OLD | HAS_EXCLUDE | IS_BINARY } else { OLD }
}

/// Position of a publication, as the header has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its own position.
    pub position: Position,
    /// The epoch its predecessor belongs to.
    pub previous_epoch: Epoch,
}

/// Why bytes are not an envelope that this build can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// A version of another build.
    #[error("unknown envelope version")]
    Version,
    /// The header is not of the form that its version has.
    #[error("malformed envelope header")]
    Header,
    /// It ends early, or goes on after its end.
    #[error("the envelope's length is wrong")]
    Length,
    /// Bits or texts that the version does not allow.
    #[error("malformed envelope body")]
    Body,
    /// Written for another channel than the one it arrived on.
    #[error("the envelope belongs to another channel")]
    Channel,
}

/// The header of a publication in a channel without history.
pub const PLAIN_HEADER: &[u8] = b"1:-:";

/// Splits a pub/sub message into its header (`None` for a channel without history) and its body.
pub fn split_header(message: &[u8]) -> Result<(Option<Header>, &[u8]), EnvelopeError> {
    let (version, rest) = field(message)?;
    if version != HEADER_VERSION {
        return Err(EnvelopeError::Version);
    }
    let (epoch, rest) = field(rest)?;
    if epoch == NO_PLACE {
        return Ok((None, rest));
    }
    let (offset, rest) = field(rest)?;
    let (previous, rest) = field(rest)?;
    let position = Position {
        epoch: Epoch::from_bytes(epoch).ok_or(EnvelopeError::Header)?,
        offset: decimal(offset).filter(|offset| *offset > 0).ok_or(EnvelopeError::Header)?,
    };
    // Nearly always the same text.
    let previous_epoch =
        if previous == epoch { position.epoch } else { Epoch::from_bytes(previous).ok_or(EnvelopeError::Header)? };
    Ok((Some(Header { position, previous_epoch }), rest))
}

/// The text up to the next colon, and what follows. No field is longer than an offset or an epoch can be.
fn field(text: &[u8]) -> Result<(&[u8], &[u8]), EnvelopeError> {
    let end = text.iter().take(32).position(|b| *b == b':').ok_or(EnvelopeError::Header)?;
    Ok((&text[..end], &text[end + 1..]))
}

/// A number written with digits alone (`parse` by itself would take a sign).
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The version of a publication's body: the oldest that can carry it.
pub fn version(publication: &Publication) -> u8 {
    match (&publication.exclude, &publication.data) {
        (Some(_), _) => EXCLUDING,
        (None, Payload::Json(_)) => OLDEST,
        (None, Payload::Binary(_)) => BINARY,
    }
}

/// Writes the body of a publication.
pub fn encode(channel: &Channel, publication: &Publication) -> Vec<u8> {
    encode_after(&[], channel, publication)
}

/// Writes the body of a publication behind a prefix (a header).
pub fn encode_after(prefix: &[u8], channel: &Channel, publication: &Publication) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefix.len() + channel.as_str().len() + publication.data.len() + 64);
    out.extend_from_slice(prefix);
    let Publication { data, tags, info, time, trace, exclude } = publication;
    let conn_info = info.as_deref().and_then(|info| info.conn_info.as_deref()).filter(|info| !is_null(info));
    let mut flags = 0;
    for (flag, present) in [
        (HAS_TAGS, tags.is_some()),
        (HAS_INFO, info.is_some()),
        (HAS_CONN_INFO, conn_info.is_some()),
        (HAS_TRACE, trace.is_some()),
        (HAS_EXCLUDE, exclude.is_some()),
        (IS_BINARY, exclude.is_some() && matches!(data, Payload::Binary(_))),
    ] {
        flags |= if present { flag } else { 0 };
    }
    out.extend([version(publication), flags]);
    put_bytes(&mut out, channel.as_str().as_bytes());
    put_number(&mut out, *time);
    if let Some(tags) = tags {
        put_number(&mut out, tags.len() as u64);
        for (name, value) in tags.iter() {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, value.as_bytes());
        }
    }
    if let Some(info) = info {
        put_bytes(&mut out, info.user.as_bytes());
        put_bytes(&mut out, info.client.as_bytes());
    }
    if let Some(conn_info) = conn_info {
        put_bytes(&mut out, conn_info);
    }
    if let Some(trace) = trace {
        put_bytes(&mut out, trace.as_bytes());
    }
    if let Some(exclude) = exclude {
        out.extend_from_slice(exclude.as_bytes());
    }
    put_bytes(&mut out, data.bytes());
    out
}

/// Reads a body that arrived on (or was kept for) a channel.
pub fn decode(channel: &Channel, body: &[u8]) -> Result<Publication, EnvelopeError> {
    let mut rest = Reader(body);
    let version = rest.byte()?;
    if !(OLDEST..=NEWEST).contains(&version) {
        return Err(EnvelopeError::Version);
    }
    let flags = rest.byte()?;
    let excludes = flags & HAS_EXCLUDE != 0;
    if flags & !known_flags(version) != 0
        || (flags & HAS_CONN_INFO != 0 && flags & HAS_INFO == 0)
        || excludes != (version == EXCLUDING)
    {
        return Err(EnvelopeError::Body);
    }
    if rest.bytes()? != channel.as_str().as_bytes() {
        return Err(EnvelopeError::Channel);
    }
    let time = rest.number()?;
    let tags = if flags & HAS_TAGS != 0 { Some(Arc::new(rest.tags()?)) } else { None };
    let info = if flags & HAS_INFO != 0 {
        let (user, client) = (rest.text()?.to_owned(), rest.text()?.to_owned());
        let conn_info = if flags & HAS_CONN_INFO != 0 { Some(rest.json_line()?) } else { None };
        let conn_info = conn_info.filter(|info| !is_null(info));
        Some(Arc::new(ClientInfo { user, client, conn_info }))
    } else {
        None
    };
    let trace = if flags & HAS_TRACE != 0 { Some(Arc::new(rest.text()?.to_owned())) } else { None };
    let exclude = if excludes { Some(Box::new(Uuid::from_bytes(rest.array()?))) } else { None };
    let data = match version == BINARY || flags & IS_BINARY != 0 {
        false => Payload::Json(rest.json_line()?),
        true => Payload::Binary(Bytes::copy_from_slice(rest.bytes()?)),
    };
    if !rest.0.is_empty() {
        return Err(EnvelopeError::Length);
    }
    Ok(Publication { data, tags, info, time, trace, exclude })
}

/// Whether JSON text is `null`: for an optional member that is its absence.
fn is_null(json: &[u8]) -> bool {
    json.trim_ascii() == b"null"
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, EnvelopeError> {
        let (first, rest) = self.0.split_first().ok_or(EnvelopeError::Length)?;
        self.0 = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EnvelopeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(EnvelopeError::Length)?;
        self.0 = rest;
        Ok(*taken)
    }

    /// Seven bits a byte, lowest first. Only the shortest form is legal, so that each publication has one encoding.
    fn number(&mut self) -> Result<u64, EnvelopeError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(EnvelopeError::Body);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(EnvelopeError::Body)
    }

    fn bytes(&mut self) -> Result<&'a [u8], EnvelopeError> {
        let length = usize::try_from(self.number()?).map_err(|_| EnvelopeError::Length)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(EnvelopeError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn text(&mut self) -> Result<&'a str, EnvelopeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| EnvelopeError::Body)
    }

    /// One JSON value without line breaks: anything else would break the frames it is put into. Copied, so that a kept
    /// publication does not hold on to the buffer it was read into.
    fn json_line(&mut self) -> Result<Bytes, EnvelopeError> {
        let text = self.bytes()?;
        if breaks_lines(text) || serde_json::from_slice::<&RawValue>(text).is_err() {
            return Err(EnvelopeError::Body);
        }
        Ok(Bytes::copy_from_slice(text))
    }

    fn tags(&mut self) -> Result<BTreeMap<String, String>, EnvelopeError> {
        let mut tags = BTreeMap::new();
        for _ in 0..self.number()? {
            let (name, value) = (self.text()?.to_owned(), self.text()?.to_owned());
            tags.insert(name, value);
        }
        Ok(tags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::{btree_map, vec};
    use proptest::option;
    use proptest::prelude::*;

    fn channel() -> impl Strategy<Value = Channel> {
        "[!-)+-z|~]{1,255}".prop_map(|name| Channel::new(&name).unwrap())
    }

    fn json() -> impl Strategy<Value = Bytes> {
        prop_oneof![
            Just(Bytes::from_static(b"null")),
            any::<i64>().prop_map(|n| Bytes::from(n.to_string())),
            ".{0,300}".prop_map(|text| Bytes::from(serde_json::to_string(&text).unwrap())),
            vec(any::<u32>(), 0..40).prop_map(|numbers| Bytes::from(serde_json::to_string(&numbers).unwrap())),
        ]
    }

    fn publication() -> impl Strategy<Value = Publication> {
        let not_null = json().prop_filter("null is absence", |json| !is_null(json));
        let info = ("[a-z]{0,9}", "[a-z0-9]{0,36}", option::of(not_null))
            .prop_map(|(user, client, conn_info)| Arc::new(ClientInfo { user, client, conn_info }));
        let tags = btree_map(".{0,9}", ".{0,20}", 0..5).prop_map(Arc::new);
        let trace = "[0-9a-f-]{1,55}".prop_map(Arc::new);
        let exclude = any::<u128>().prop_map(|id| Box::new(Uuid::from_u128(id)));
        let data = prop_oneof![
            json().prop_map(Payload::Json),
            vec(any::<u8>(), 0..300).prop_map(|bytes| Payload::Binary(bytes.into())),
        ];
        (data, option::of(tags), option::of(info), any::<u64>(), option::of(trace), option::of(exclude))
            .prop_map(|(data, tags, info, time, trace, exclude)| Publication { data, tags, info, time, trace, exclude })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(channel in channel(), publication in publication()) {
            let body = encode(&channel, &publication);
            prop_assert_eq!(decode(&channel, &body), Ok(publication.clone()));
            let message = encode_after(PLAIN_HEADER, &channel, &publication);
            prop_assert_eq!(split_header(&message), Ok((None, body.as_slice())));
        }

        #[test]
        fn no_cut_and_no_tail_is_accepted(channel in channel(), publication in publication(), cut in any::<prop::sample::Index>()) {
            let mut body = encode(&channel, &publication);
            prop_assert!(decode(&channel, &body[..cut.index(body.len())]).is_err());
            body.push(b'0');
            prop_assert!(decode(&channel, &body).is_err());
        }

        #[test]
        fn another_channel_is_refused(one in channel(), other in channel(), publication in publication()) {
            prop_assume!(one != other);
            prop_assert_eq!(decode(&other, &encode(&one, &publication)), Err(EnvelopeError::Channel));
        }

        #[test]
        fn one_encoding_for_each_publication(channel in channel(), publication in publication(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut body = encode(&channel, &publication);
            let at = at.index(body.len());
            body[at] = byte;
            // Damaged bytes may still be a legal publication, but then a publication that is written as these bytes.
            if let Ok(read) = decode(&channel, &body) {
                prop_assert_eq!(decode(&channel, &encode(&channel, &read)), Ok(read));
            }
        }

        #[test]
        fn random_bytes_do_no_harm(channel in channel(), version in OLDEST..=NEWEST, mut bytes in vec(any::<u8>(), 0..400)) {
            let _ = split_header(&bytes);
            let _ = decode(&channel, &bytes);
            // Also behind a valid beginning, where more of the parser is reached.
            let excludes = if version == EXCLUDING { HAS_EXCLUDE } else { 0 };
            let mut body = vec![version, bytes.first().copied().unwrap_or(0) & known_flags(version) | excludes];
            put_bytes(&mut body, channel.as_str().as_bytes());
            body.append(&mut bytes);
            let _ = decode(&channel, &body);
        }
    }

    #[test]
    fn headers() {
        let (old, new) = ("aaaaaaaa0123456789ab", "bbbbbbbb0123456789ab");
        let text = format!("1:{new}:7:{old}:\x01body");
        let (header, body) = split_header(text.as_bytes()).unwrap();
        assert_eq!(
            header,
            Some(Header {
                position: Position { epoch: Epoch::parse(new).unwrap(), offset: 7 },
                previous_epoch: Epoch::parse(old).unwrap(),
            })
        );
        assert_eq!(body, b"\x01body");
        for (text, error) in [
            (String::new(), EnvelopeError::Header),
            ("1".into(), EnvelopeError::Header),
            ("2:-:x".into(), EnvelopeError::Version),
            (format!("2:{new}:7:{old}:x"), EnvelopeError::Version),
            (format!("1:{new}:0:{old}:x"), EnvelopeError::Header),
            (format!("1:{new}:-1:{old}:x"), EnvelopeError::Header),
            (format!("1:{new}:+1:{old}:x"), EnvelopeError::Header),
            (format!("1:{new}:18446744073709551616:{old}:x"), EnvelopeError::Header),
            (format!("1:{new}x:1:{old}:x"), EnvelopeError::Header),
            (format!("1:{new}:1:{old}"), EnvelopeError::Header),
            (format!("1:{}", "9".repeat(4000)), EnvelopeError::Header),
        ] {
            assert_eq!(split_header(text.as_bytes()), Err(error), "{text:?}");
        }
    }

    /// Written by an older build, or by another back end: the members of a client that other clients see.
    #[test]
    fn null_in_an_optional_member_is_its_absence() {
        let channel = Channel::new("news").unwrap();
        let with = |conn_info| Publication {
            data: Payload::Json(Bytes::from_static(b"null")),
            info: Some(Arc::new(ClientInfo { user: "ann".into(), client: "c".into(), conn_info })),
            ..Publication::default()
        };
        let (absent, null) = (with(None), with(Some(Bytes::from_static(b" null"))));
        assert_eq!(encode(&channel, &null), encode(&channel, &absent));
        let mut stored = encode(&channel, &with(Some(Bytes::from_static(b"1234"))));
        let at = stored.windows(4).position(|bytes| bytes == b"1234").unwrap();
        stored[at..at + 4].copy_from_slice(b"null");
        assert_eq!(decode(&channel, &stored), Ok(absent), "and data that is null stays null");
    }

    #[test]
    fn a_binary_payload_alone_has_the_newer_version() {
        let channel = Channel::new("news").unwrap();
        let with = |data| Publication { data, ..Publication::default() };
        // What a strict reader of JSON would refuse, and what it would not.
        for bytes in [&b"\x00\xff\r\n"[..], b"", b"{}"] {
            let (json, binary) = (Bytes::from_static(b"{}"), Bytes::from_static(bytes));
            let (json, binary) = (with(Payload::Json(json)), with(Payload::Binary(binary)));
            assert_eq!((encode(&channel, &json)[0], encode(&channel, &binary)[0]), (1, 2));
            assert_eq!(decode(&channel, &encode(&channel, &binary)), Ok(binary));
        }
    }

    /// Builds that read version 2 deliver to everybody: they must not read this.
    #[test]
    fn an_excluded_client_alone_has_the_newest_version() {
        let channel = Channel::new("news").unwrap();
        let exclude = Some(Box::new(Uuid::from_u128(7)));
        for data in [Payload::Json(Bytes::from_static(b"{}")), Payload::Binary(Bytes::from_static(b"\xff"))] {
            let everybodys = Publication { data, ..Publication::default() };
            let excluding = Publication { exclude: exclude.clone(), ..everybodys.clone() };
            let (old, new) = (encode(&channel, &everybodys), encode(&channel, &excluding));
            assert_eq!((old[0] < EXCLUDING, new[0]), (true, EXCLUDING));
            assert_eq!(new.len(), old.len() + 16);
            assert_eq!(decode(&channel, &new), Ok(excluding));
            // The flags of one version in another.
            let with = |mut body: Vec<u8>, version, flags| {
                body[..2].copy_from_slice(&[version, flags]);
                decode(&channel, &body)
            };
            assert_eq!(with(old.clone(), EXCLUDING, old[1]), Err(EnvelopeError::Body));
            for version in [OLDEST, BINARY] {
                assert_eq!(with(new.clone(), version, new[1]), Err(EnvelopeError::Body));
                assert_eq!(with(old.clone(), version, IS_BINARY), Err(EnvelopeError::Body));
            }
        }
    }

    #[test]
    fn what_could_break_a_frame_is_refused() {
        let channel = Channel::new("news").unwrap();
        for data in ["{\n}", "1\r", "", "{", "1 2", "nul", "\u{feff}1"] {
            let publication =
                Publication { data: Payload::Json(Bytes::from(data.to_owned())), ..Publication::default() };
            assert_eq!(decode(&channel, &encode(&channel, &publication)), Err(EnvelopeError::Body), "{data:?}");
        }
        let one = Payload::Json(Bytes::from_static(b"1"));
        let mut future = encode(&channel, &Publication { data: one, ..Publication::default() });
        future[0] = NEWEST + 1;
        assert_eq!(decode(&channel, &future), Err(EnvelopeError::Version));
        future[0] = 0;
        assert_eq!(decode(&channel, &future), Err(EnvelopeError::Version));
        future[0] = 1;
        future[1] = 0x80;
        assert_eq!(decode(&channel, &future), Err(EnvelopeError::Body));
    }
}
