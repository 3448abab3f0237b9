//! Close frames: the codes that may be sent, received payloads, reasons cut to size.

use super::{Event, Fault};

/// The connection has served its purpose.
pub const NORMAL: u16 = 1000;
/// The server goes away.
pub const GOING_AWAY: u16 = 1001;
/// The peer breached the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// A kind of message that the endpoint does not accept.
pub const UNSUPPORTED_DATA: u16 = 1003;
/// Text that is not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// A message that breaks a rule for which no other code exists.
pub const POLICY_VIOLATION: u16 = 1008;
/// A message longer than the endpoint accepts.
pub const TOO_BIG: u16 = 1009;
/// The server failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server is overloaded; come back later.
pub const TRY_AGAIN_LATER: u16 = 1013;

/// Longest reason in bytes that fits into a close frame beside the code.
pub const MAX_REASON_BYTES: usize = 123;

/// True for a code that may be sent in a close frame. 1004-1006 and 1015 are for an endpoint's own use, the rest up to 2999 is
/// unassigned, and 5000 and above does not exist.
pub fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// The longest beginning of `reason` that fits into a close frame and ends at a character.
pub fn cut_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_BYTES)]
}

/// Reads the payload of a close frame.
pub(super) fn parse(payload: &[u8]) -> Result<Event<'_>, Fault> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(Event::Close { code: None, reason: "" }) } else { Err(Fault::BadClose) };
    };
    let code = u16::from_be_bytes(*code);
    if !is_sendable(code) {
        return Err(Fault::BadClose);
    }
    let reason = simdutf8::basic::from_utf8(reason).map_err(|_| Fault::InvalidUtf8)?;
    Ok(Event::Close { code: Some(code), reason })
}
