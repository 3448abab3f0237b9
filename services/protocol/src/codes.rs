//! Numbers of the client protocol: errors in replies, unsubscribes and disconnects.
//!
//! Source: the open Centrifugal protocol, as its SDKs read it. The ranges decide what an SDK does next.

/// An error in a reply to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "each one's meaning is its message")]
pub enum ErrorCode {
    Internal = 100,
    Unauthorized = 101,
    UnknownChannel = 102,
    PermissionDenied = 103,
    MethodNotFound = 104,
    AlreadySubscribed = 105,
    LimitExceeded = 106,
    BadRequest = 107,
    NotAvailable = 108,
    TokenExpired = 109,
    Expired = 110,
    TooManyRequests = 111,
    UnrecoverablePosition = 112,
}

impl ErrorCode {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The protocol's text.
    pub fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::Unauthorized => "unauthorized",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
        }
    }

    /// Whether the same command may succeed later; SDKs then try again by themselves.
    pub fn temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

/// Why the server ended a subscription. Below 2500 the SDK gives up, from there on it subscribes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
#[allow(missing_docs, reason = "each one's meaning is its reason")]
pub enum UnsubscribeCode {
    Server = 2000,
    InsufficientState = 2500,
    Expired = 2501,
}

impl UnsubscribeCode {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The protocol's text.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Server => "server unsubscribe",
            Self::InsufficientState => "insufficient state",
            Self::Expired => "subscription expired",
        }
    }
}

/// Why the server ends a connection. Between 3500 and 3999 the SDK gives up, otherwise it reconnects with back-off.
///
/// Over WebSocket it is the close code, with [`DisconnectCode::reason`] as plain-text reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs, reason = "each one's meaning is its reason")]
pub enum DisconnectCode {
    ConnectionClosed = 3000,
    Shutdown = 3001,
    Internal = 3004,
    ConnectionExpired = 3005,
    Slow = 3008,
    WriteError = 3009,
    InsufficientState = 3010,
    ForceReconnect = 3011,
    NoPong = 3012,
    TooManyRequests = 3013,
    InvalidToken = 3500,
    BadRequest = 3501,
    Stale = 3502,
    ForceDisconnect = 3503,
    ConnectionLimit = 3504,
    ChannelLimit = 3505,
    InappropriateProtocol = 3506,
    PermissionDenied = 3507,
    NotAvailable = 3508,
    TooManyErrors = 3509,
    /// Lived as long as a connection may. Clients are told [`DisconnectCode::ForceReconnect`].
    MaxAge = 1,
    /// Given away, because other nodes have fewer. Clients are told [`DisconnectCode::ForceReconnect`].
    Rebalanced = 2,
}

impl DisconnectCode {
    /// The number on the wire.
    pub fn code(self) -> u16 {
        match self {
            // SDKs know this number; the difference matters to whoever runs the nodes.
            Self::MaxAge | Self::Rebalanced => Self::ForceReconnect as u16,
            code => code as u16,
        }
    }

    /// A number of its own, by which a node names the code to its own sessions.
    pub fn signal(self) -> u16 {
        self as u16
    }

    /// Bounded label for metrics.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::ConnectionClosed => "connection_closed",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal",
            Self::ConnectionExpired => "expired",
            Self::Slow => "slow",
            Self::WriteError => "write_error",
            Self::InsufficientState => "insufficient_state",
            Self::ForceReconnect => "force_reconnect",
            Self::NoPong => "no_pong",
            Self::TooManyRequests => "too_many_requests",
            Self::InvalidToken => "invalid_token",
            Self::BadRequest => "bad_request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force_disconnect",
            Self::ConnectionLimit => "connection_limit",
            Self::ChannelLimit => "channel_limit",
            Self::InappropriateProtocol => "inappropriate_protocol",
            Self::PermissionDenied => "permission_denied",
            Self::NotAvailable => "not_available",
            Self::TooManyErrors => "too_many_errors",
            Self::MaxAge => "max_age",
            Self::Rebalanced => "rebalanced",
        }
    }

    /// The opposite of [`DisconnectCode::signal`], for the few that a node sends to its own sessions.
    pub fn from_signal(signal: u16) -> Option<Self> {
        let sent = [Self::Shutdown, Self::ForceReconnect, Self::ForceDisconnect, Self::Rebalanced];
        sent.into_iter().find(|known| known.signal() == signal)
    }

    /// The protocol's text.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ConnectionClosed => "connection closed",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal server error",
            Self::ConnectionExpired => "connection expired",
            Self::Slow => "slow",
            Self::WriteError => "write error",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::NoPong => "no pong",
            Self::TooManyRequests => "too many requests",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::ChannelLimit => "channel limit",
            // Besides the protocol's text the remedy: applications show it to whoever chose the format.
            Self::InappropriateProtocol => "inappropriate protocol: only JSON is supported",
            Self::PermissionDenied => "permission denied",
            Self::NotAvailable => "not available",
            Self::TooManyErrors => "too many errors",
            Self::MaxAge => "connection age",
            Self::Rebalanced => "rebalance",
        }
    }

    /// Whether a client of the protocol comes back by itself.
    pub fn reconnect(self) -> bool {
        self.code() < 3500
    }
}
