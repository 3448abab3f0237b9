//! Disconnects: the code and the reason text for each reason to close, the same over every transport.

use fanway_protocol::DisconnectCode;
use fanway_protocol::codec::json;
use serde::Serialize;

use crate::close_reason::CloseReason;

/// Last words of a session. Over WebSocket the close frame carries both, over server-sent events the last event, over
/// polling a member of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Decides whether an SDK reconnects.
    pub code: DisconnectCode,
    /// Plain text.
    pub reason: &'static str,
}

impl Disconnect {
    /// Last words for a client that must not come back by itself; `None` where the reason lets it come back.
    pub fn permanent(reason: CloseReason) -> Option<Self> {
        (!reason.reconnects()).then(|| reason.into())
    }

    /// Appends `{"code":…,"reason":"…"}`, on one line.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Words {
            code: u16,
            reason: &'static str,
        }
        json::write(&Words { code: self.code.code(), reason: self.reason }, out);
    }
}

impl From<CloseReason> for Disconnect {
    fn from(reason: CloseReason) -> Self {
        let named = |code: DisconnectCode| (code, code.reason());
        let (code, reason) = match reason {
            CloseReason::ConnectionClosed => named(DisconnectCode::ConnectionClosed),
            CloseReason::Shutdown => named(DisconnectCode::Shutdown),
            CloseReason::Internal => named(DisconnectCode::Internal),
            CloseReason::Expired => named(DisconnectCode::ConnectionExpired),
            CloseReason::Slow => named(DisconnectCode::Slow),
            CloseReason::InsufficientState => named(DisconnectCode::InsufficientState),
            // SDKs know this code only; its text and the metrics say which of the two it was.
            CloseReason::MaxAge => (DisconnectCode::ForceReconnect, "connection age"),
            CloseReason::Rebalanced => (DisconnectCode::ForceReconnect, "rebalance"),
            CloseReason::NoPong => named(DisconnectCode::NoPong),
            CloseReason::TooManyRequests => named(DisconnectCode::TooManyRequests),
            CloseReason::Overloaded => named(DisconnectCode::TryAgainLater),
            CloseReason::InvalidToken => named(DisconnectCode::InvalidToken),
            CloseReason::BadRequest => named(DisconnectCode::BadRequest),
            CloseReason::Stale => named(DisconnectCode::Stale),
            CloseReason::Disconnected => named(DisconnectCode::ForceDisconnect),
            // The remedy too: applications show it to whoever chose the format.
            CloseReason::InappropriateProtocol => {
                (DisconnectCode::InappropriateProtocol, "inappropriate protocol: only JSON is supported")
            }
            CloseReason::NotAvailable => named(DisconnectCode::NotAvailable),
        };
        Self { code, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdk_reconnects_exactly_where_the_reason_says_so() {
        for reason in CloseReason::ALL {
            let Disconnect { code, reason: text } = Disconnect::from(*reason);
            assert_eq!(code.reconnects(), reason.reconnects(), "{reason:?}");
            assert!(!text.is_empty() && text.len() <= 123, "{reason:?}: fits into a close frame");
            assert_eq!(Disconnect::permanent(*reason).is_some(), !code.reconnects(), "{reason:?}");
        }
    }

    #[test]
    fn as_json_it_is_one_line() {
        for reason in CloseReason::ALL {
            let mut json = Vec::new();
            Disconnect::from(*reason).write_json(&mut json);
            assert!(!json.contains(&b'\n'));
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let Disconnect { code, reason } = (*reason).into();
            assert_eq!(json, serde_json::json!({"code": code.code(), "reason": reason}));
        }
    }
}
