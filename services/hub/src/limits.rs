//! Bounds and clocks of sessions: how much a client may ask for, how long anything may take.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

/// The `[client]` section of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The server pings a silent connection this often. The first ping comes after a random part of it.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// A ping unanswered for so long ends the connection (3012).
    #[serde(with = "humantime_serde")]
    pub pong_timeout: Duration,
    /// A connection that has not authenticated after so long is ended (3502).
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// A connection whose token has expired is ended (3005) if it was not refreshed within so long. Event streams end and
    /// polls are answered then too; event streams are told as long before the expiry (`auth_expiring`).
    #[serde(with = "humantime_serde")]
    pub expiry_grace: Duration,
    /// A connection that takes no byte of what waits for it for so long is ended (3008).
    #[serde(with = "humantime_serde")]
    pub write_stall: Duration,
    /// A command waits so long for the broker before it is answered with an error.
    #[serde(with = "humantime_serde")]
    pub command_timeout: Duration,
    /// Largest message a client may send.
    pub message_size: ByteSize,
    /// Bytes of replies that may wait for a slow connection, give or take one reply, before its commands wait too.
    pub reply_buffer: ByteSize,
    /// Commands per second that a connection may send over time. Beyond `command_burst` it is not read from until it is
    /// within the rate again.
    pub command_rate: u32,
    /// Commands that may come at once. A connection that is ahead by as many again is ended (3013).
    pub command_burst: u32,
    /// Channels of one connection.
    pub channel_limit: usize,
    /// Publications that a client of the client protocol may have missed and resume; more are a gap (`limit`). Event
    /// streams and polls get whatever the log has.
    pub recovery_limit: usize,
    /// Publications of one history page, which also ends after 1 MiB of them.
    pub history_limit: usize,
    /// Recent publications that a channel keeps in memory for subscribers that are behind.
    pub ring_entries: usize,
    /// The same in bytes, encodings for the transports of their subscribers included.
    pub ring_bytes: ByteSize,
    /// Bytes of such publications of all channels of this node. Beyond it the oldest go, whatever the channel.
    pub node_ring_bytes: ByteSize,
    /// Bytes of missed publications that this node holds for clients that are behind. Beyond it they wait for each other.
    pub node_page_bytes: ByteSize,
    /// Bytes of unfinished messages of all connections of this node that have not connected. Beyond it the oldest of them are
    /// closed (1013).
    pub node_unfinished_bytes: ByteSize,
    /// Forced resubscriptions per second on this node, after a gap or a change of epoch; one tenth is immediate. A waiting
    /// subscription receives nothing, so none waits longer than 10 s or a quarter of its namespace's `history_ttl`,
    /// whichever is shorter; the rate rises where that needs it.
    pub resubscribe_rate: u32,
    /// How often a channel without traffic is compared with its log. Lost publications are noticed at the next one or
    /// after this, whichever comes first.
    #[serde(with = "humantime_serde")]
    pub position_check: Duration,
    /// How long a channel without subscribers stays subscribed, so that reconnecting clients find it warm.
    #[serde(with = "humantime_serde")]
    pub channel_linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            connect_timeout: Duration::from_secs(5),
            expiry_grace: Duration::from_secs(25),
            write_stall: Duration::from_secs(10),
            command_timeout: Duration::from_secs(4),
            message_size: ByteSize::kib(64),
            reply_buffer: ByteSize::mib(1),
            command_rate: 30,
            command_burst: 200,
            channel_limit: 128,
            recovery_limit: 500,
            history_limit: 300,
            ring_entries: 256,
            ring_bytes: ByteSize::kib(512),
            node_ring_bytes: ByteSize::mib(48),
            node_page_bytes: ByteSize::mib(16),
            node_unfinished_bytes: ByteSize::mib(64),
            resubscribe_rate: 5000,
            position_check: Duration::from_secs(20),
            channel_linger: Duration::from_secs(5),
        }
    }
}
