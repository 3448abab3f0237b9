//! Disconnects of the client protocol: the code and the reason text for each reason to close.

use fanway_protocol::DisconnectCode;

use crate::close_reason::CloseReason;

/// Last words of a session of the client protocol. Over WebSocket the close frame carries both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// Decides whether an SDK reconnects.
    pub code: DisconnectCode,
    /// Plain text.
    pub reason: &'static str,
}

impl From<CloseReason> for Disconnect {
    fn from(reason: CloseReason) -> Self {
        let code = match reason {
            CloseReason::ConnectionClosed => DisconnectCode::ConnectionClosed,
            CloseReason::Shutdown => DisconnectCode::Shutdown,
            CloseReason::Internal => DisconnectCode::Internal,
            CloseReason::Expired => DisconnectCode::ConnectionExpired,
            CloseReason::Slow => DisconnectCode::Slow,
            CloseReason::InsufficientState => DisconnectCode::InsufficientState,
            // SDKs know this code only; its text and the metrics say which of the two it was.
            CloseReason::MaxAge | CloseReason::Rebalanced => DisconnectCode::ForceReconnect,
            CloseReason::NoPong => DisconnectCode::NoPong,
            CloseReason::TooManyRequests => DisconnectCode::TooManyRequests,
            CloseReason::InvalidToken => DisconnectCode::InvalidToken,
            CloseReason::BadRequest => DisconnectCode::BadRequest,
            CloseReason::Stale => DisconnectCode::Stale,
            CloseReason::Disconnected => DisconnectCode::ForceDisconnect,
            CloseReason::InappropriateProtocol => DisconnectCode::InappropriateProtocol,
            CloseReason::NotAvailable => DisconnectCode::NotAvailable,
        };
        let reason = match reason {
            CloseReason::MaxAge => "connection age",
            CloseReason::Rebalanced => "rebalance",
            // The remedy too: applications show it to whoever chose the format.
            CloseReason::InappropriateProtocol => "inappropriate protocol: only JSON is supported",
            _ => code.reason(),
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
        }
    }
}
