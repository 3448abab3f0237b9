//! Reasons for which the hub ends a session, independent of any protocol.
//!
//! Each protocol maps a reason to its own code or last words; metrics and signals within the node use the reason itself.

/// Declares the reasons once: the enum, its list and the labels cannot disagree.
macro_rules! close_reasons {
    ($($(#[$meta:meta])* $name:ident = $label:literal,)+) => {
        /// A reason to end a session.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum CloseReason {
            $($(#[$meta])* $name,)+
        }

        impl CloseReason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Bounded label for metrics.
            pub fn metric_label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }
        }
    };
}

close_reasons! {
    /// The client closed the connection.
    ConnectionClosed = "connection_closed",
    /// The node shuts down.
    Shutdown = "shutdown",
    /// The node, or the broker behind it, failed.
    Internal = "internal",
    /// The credential expired and was not refreshed within the grace.
    Expired = "expired",
    /// The client does not read fast enough, and cannot catch up over this connection.
    Slow = "slow",
    /// A subscription that the server made lost its continuity.
    InsufficientState = "insufficient_state",
    /// The connection lived as long as a connection may.
    MaxAge = "max_age",
    /// Other nodes have fewer connections.
    Rebalanced = "rebalanced",
    /// A ping was not answered in time.
    NoPong = "no_pong",
    /// The client sent commands far above its rate, or has used up a quota.
    TooManyRequests = "too_many_requests",
    /// The node holds too many bytes for clients that have not connected.
    Overloaded = "overloaded",
    /// A credential was refused.
    InvalidToken = "invalid_token",
    /// The client broke its protocol.
    BadRequest = "bad_request",
    /// The client did not authenticate in time.
    Stale = "stale",
    /// The back end disconnects the client.
    Disconnected = "force_disconnect",
    /// The client asked for a codec that is not supported.
    InappropriateProtocol = "inappropriate_protocol",
    /// The client asked for a method that is not supported and has no reply to carry an error.
    NotAvailable = "not_available",
}

impl CloseReason {
    /// Whether the client should come back by itself: the same client may be served again, here or on another node.
    pub fn reconnects(self) -> bool {
        match self {
            Self::ConnectionClosed
            | Self::Shutdown
            | Self::Internal
            | Self::Expired
            | Self::Slow
            | Self::InsufficientState
            | Self::MaxAge
            | Self::Rebalanced
            | Self::NoPong
            | Self::TooManyRequests
            | Self::Overloaded => true,
            Self::InvalidToken
            | Self::BadRequest
            | Self::Stale
            | Self::Disconnected
            | Self::InappropriateProtocol
            | Self::NotAvailable => false,
        }
    }

    /// Whether it replaces a reason that came first: that would bring the client back, and this one does not.
    pub(crate) fn outlasts(self, first: Self) -> bool {
        first.reconnects() && !self.reconnects()
    }

    /// The discriminant, by which a handle's signal carries the reason.
    pub(crate) fn discriminant(self) -> u8 {
        self as u8
    }

    /// The reason with this discriminant.
    ///
    /// # Panics
    /// On a number that is no discriminant. Numbers come from [`Self::discriminant`] alone, so another one is a bug, and
    /// must not turn into some reason: a client that was sent away would be asked to come back.
    pub(crate) fn from_discriminant(discriminant: u8) -> Self {
        Self::ALL[usize::from(discriminant)]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_survives_its_discriminant_and_has_a_label_of_its_own() {
        for reason in CloseReason::ALL {
            assert_eq!(CloseReason::from_discriminant(reason.discriminant()), *reason);
        }
        let labels: BTreeSet<_> = CloseReason::ALL.iter().map(|reason| reason.metric_label()).collect();
        assert_eq!(labels.len(), CloseReason::ALL.len());
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn no_number_turns_into_another_reason() {
        CloseReason::from_discriminant(CloseReason::ALL.len() as u8);
    }
}
