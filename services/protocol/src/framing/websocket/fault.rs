//! Faults of a client: breaches of the protocol or of a limit.

use super::close;

/// A breach of the WebSocket protocol or of a limit. It ends the connection: send a close frame with
/// [`close_code`](Self::close_code) and [`reason`](Self::reason), then close the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.reason())]
pub enum Fault {
    /// A client frame without a mask.
    Unmasked,
    /// A reserved bit is set although no extension was negotiated (a compressed frame, for example).
    ReservedBit,
    /// An opcode that the protocol does not define.
    ReservedOpcode,
    /// A ping, pong or close frame of more than 125 bytes.
    ControlTooLong,
    /// A ping, pong or close frame without the FIN bit.
    ControlFragmented,
    /// A length in a longer form than it needs, or with its top bit set.
    BadLength,
    /// A continuation frame while no message is in progress.
    UnexpectedContinuation,
    /// A new text or binary frame while a fragmented message is in progress.
    ExpectedContinuation,
    /// A close frame with a payload of one byte, or a code that must not be sent.
    BadClose,
    /// Text, or the reason of a close frame, that is not UTF-8.
    InvalidUtf8,
    /// A message longer than [`Limits::max_message_bytes`](super::Limits::max_message_bytes), as announced or as summed up over its fragments.
    MessageTooLong,
    /// A message in more fragments than [`Limits::max_fragments`](super::Limits::max_fragments).
    TooManyFragments,
    /// A binary message where only text is accepted.
    UnexpectedBinary,
}

impl Fault {
    /// The code to close the connection with.
    pub fn close_code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBit
            | Self::ReservedOpcode
            | Self::ControlTooLong
            | Self::ControlFragmented
            | Self::BadLength
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::BadClose => close::PROTOCOL_ERROR,
            Self::InvalidUtf8 => close::INVALID_PAYLOAD,
            Self::MessageTooLong => close::TOO_BIG,
            Self::TooManyFragments => close::POLICY_VIOLATION,
            Self::UnexpectedBinary => close::UNSUPPORTED_DATA,
        }
    }

    /// The reason to put into the close frame: plain text, short enough for it, and never JSON (client libraries would parse it).
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unmasked => "client frame without mask",
            Self::ReservedBit => "reserved bit set",
            Self::ReservedOpcode => "reserved opcode",
            Self::ControlTooLong => "control frame too long",
            Self::ControlFragmented => "fragmented control frame",
            Self::BadLength => "malformed frame length",
            Self::UnexpectedContinuation => "continuation without a message",
            Self::ExpectedContinuation => "new message inside a fragmented one",
            Self::BadClose => "malformed close frame",
            Self::InvalidUtf8 => "invalid utf-8",
            Self::MessageTooLong => "message too long",
            Self::TooManyFragments => "too many fragments",
            Self::UnexpectedBinary => "binary messages are not supported",
        }
    }

    /// The value of a metric's `reason` label.
    pub fn metric_label(self) -> &'static str {
        match self {
            Self::Unmasked => "unmasked",
            Self::ReservedBit => "reserved_bit",
            Self::ReservedOpcode => "reserved_opcode",
            Self::ControlTooLong => "control_too_long",
            Self::ControlFragmented => "control_fragmented",
            Self::BadLength => "bad_length",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::ExpectedContinuation => "expected_continuation",
            Self::BadClose => "bad_close",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::MessageTooLong => "message_too_long",
            Self::TooManyFragments => "too_many_fragments",
            Self::UnexpectedBinary => "unexpected_binary",
        }
    }
}
