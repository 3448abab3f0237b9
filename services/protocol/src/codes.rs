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

/// A code with which the server ends a connection. Between 3500 and 3999 the SDK gives up, otherwise it reconnects with
/// back-off.
///
/// The protocol reserves further codes that Fanway does not send: 3006, 3009, 3014, 3505 and 3509. Over WebSocket it is
/// the close code, with a plain-text reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
#[allow(missing_docs, reason = "each one's meaning is its reason")]
pub enum DisconnectCode {
    /// Of WebSocket itself: the server is overloaded.
    TryAgainLater = 1013,
    ConnectionClosed = 3000,
    Shutdown = 3001,
    Internal = 3004,
    ConnectionExpired = 3005,
    Slow = 3008,
    InsufficientState = 3010,
    ForceReconnect = 3011,
    NoPong = 3012,
    TooManyRequests = 3013,
    InvalidToken = 3500,
    BadRequest = 3501,
    Stale = 3502,
    ForceDisconnect = 3503,
    /// Of other servers only, which the load generator measures too.
    ConnectionLimit = 3504,
    InappropriateProtocol = 3506,
    /// Of other servers only, which the load generator measures too.
    PermissionDenied = 3507,
    NotAvailable = 3508,
}

impl DisconnectCode {
    /// The number in the close frame.
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The protocol's text.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TryAgainLater => "try again later",
            Self::ConnectionClosed => "connection closed",
            Self::Shutdown => "shutdown",
            Self::Internal => "internal server error",
            Self::ConnectionExpired => "connection expired",
            Self::Slow => "slow",
            Self::InsufficientState => "insufficient state",
            Self::ForceReconnect => "force reconnect",
            Self::NoPong => "no pong",
            Self::TooManyRequests => "too many requests",
            Self::InvalidToken => "invalid token",
            Self::BadRequest => "bad request",
            Self::Stale => "stale",
            Self::ForceDisconnect => "force disconnect",
            Self::ConnectionLimit => "connection limit",
            Self::InappropriateProtocol => "inappropriate protocol",
            Self::PermissionDenied => "permission denied",
            Self::NotAvailable => "not available",
        }
    }

    /// Whether SDKs reconnect by themselves.
    pub fn reconnects(self) -> bool {
        !(3500..4000).contains(&self.code())
    }
}
