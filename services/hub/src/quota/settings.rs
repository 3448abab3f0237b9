//! The `[limits]` section of the settings.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::{Kind, Rate, Rates};
use crate::limits::Limits;

/// What one user, and one client address, may cost this node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaSettings {
    /// Channels of the node: those with subscribers, or that lately had some.
    pub channels: u32,
    /// Of each user.
    pub user: UserQuotas,
    /// Of each client address, for what clients without a user do.
    pub address: AddressQuotas,
    /// Of all clients together that have no user and whose address is not known.
    pub anonymous: AnonymousQuotas,
}

/// Limits of all clients of this node together that have no user and whose address is not known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnonymousQuotas {
    /// Channels that this node did not have.
    pub new_channel_rate: u32,
    /// Such channels at once.
    pub new_channel_burst: u32,
}

impl Default for AnonymousQuotas {
    fn default() -> Self {
        Self { new_channel_rate: 50, new_channel_burst: 10_000 }
    }
}

impl AnonymousQuotas {
    pub(super) fn rates(&self) -> Rates {
        Rates::default().with(Kind::NewChannels, Rate::new(self.new_channel_rate, self.new_channel_burst))
    }
}

impl Default for QuotaSettings {
    fn default() -> Self {
        Self {
            channels: 1_000_000,
            user: UserQuotas::default(),
            address: AddressQuotas::default(),
            anonymous: AnonymousQuotas::default(),
        }
    }
}

impl QuotaSettings {
    /// No limits.
    pub fn unlimited() -> Self {
        let none = ByteSize(0);
        Self {
            channels: u32::MAX,
            user: UserQuotas {
                connections: 0,
                connect_rate: 0,
                command_rate: 0,
                publish_rate: 0,
                publish_bytes_rate: none,
                new_channel_rate: 0,
                poll_rate: 0,
                stream_rate: 0,
                ..UserQuotas::default()
            },
            address: AddressQuotas {
                connect_rate: 0,
                failed_token_rate: 0,
                new_channel_rate: 0,
                ..AddressQuotas::default()
            },
            anonymous: AnonymousQuotas { new_channel_rate: 0, ..AnonymousQuotas::default() },
        }
    }
}

/// Limits of one user on this node. Rates are per second, bursts what may come at once before that holds; a rate of 0 is no
/// limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserQuotas {
    /// Sessions at once, polls included; 0 is no limit.
    pub connections: u32,
    /// Connect commands.
    pub connect_rate: u32,
    /// Connect commands at once.
    pub connect_burst: u32,
    /// Commands of all connections together; at least what one connection may send.
    pub command_rate: u32,
    /// Commands at once.
    pub command_burst: u32,
    /// Publications.
    pub publish_rate: u32,
    /// Publications at once.
    pub publish_burst: u32,
    /// Bytes of their data.
    pub publish_bytes_rate: ByteSize,
    /// Bytes of their data at once.
    pub publish_bytes_burst: ByteSize,
    /// Channels that this node did not have.
    pub new_channel_rate: u32,
    /// Such channels at once.
    pub new_channel_burst: u32,
    /// Polls.
    pub poll_rate: u32,
    /// Polls at once.
    pub poll_burst: u32,
    /// Event streams begun.
    pub stream_rate: u32,
    /// Event streams begun at once.
    pub stream_burst: u32,
}

impl Default for UserQuotas {
    fn default() -> Self {
        Self {
            connections: 128,
            connect_rate: 5,
            connect_burst: 100,
            command_rate: 100,
            command_burst: 2000,
            publish_rate: 50,
            publish_burst: 500,
            publish_bytes_rate: ByteSize::kib(256),
            publish_bytes_burst: ByteSize::mib(4),
            new_channel_rate: 2,
            new_channel_burst: 512,
            poll_rate: 100,
            poll_burst: 1000,
            stream_rate: 5,
            stream_burst: 100,
        }
    }
}

impl UserQuotas {
    /// The rates of a user. With all connections a user may do at least what one connection may.
    pub(super) fn rates(&self, of_one: &Limits) -> Rates {
        let commands = (self.command_rate > 0).then(|| self.command_rate.max(of_one.command_rate));
        let channels = u32::try_from(of_one.channel_limit).unwrap_or(u32::MAX);
        let message = bytes(of_one.message_size);
        Rates::default()
            .with(Kind::Connects, Rate::new(self.connect_rate, self.connect_burst))
            .with(Kind::Commands, Rate::new(commands.unwrap_or(0), self.command_burst.max(of_one.command_burst)))
            .with(Kind::Publishes, Rate::new(self.publish_rate, self.publish_burst))
            .with(
                Kind::PublishedBytes,
                Rate::new(bytes(self.publish_bytes_rate), bytes(self.publish_bytes_burst).max(message)),
            )
            .with(Kind::NewChannels, Rate::new(self.new_channel_rate, self.new_channel_burst.max(channels)))
            .with(Kind::Polls, Rate::new(self.poll_rate, self.poll_burst))
            .with(Kind::Streams, Rate::new(self.stream_rate, self.stream_burst))
    }
}

/// Limits of one client address on this node, where the address is known, for clients that have no user. Rates are per
/// second, bursts what may come at once before that holds; a rate of 0 is no limit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressQuotas {
    /// Sessions of anonymous clients begun: connects, event streams, polls.
    pub connect_rate: u32,
    /// Such sessions begun at once.
    pub connect_burst: u32,
    /// Credentials that are invalid; an expired one is not.
    pub failed_token_rate: u32,
    /// Such credentials at once.
    pub failed_token_burst: u32,
    /// Channels of anonymous clients that this node did not have.
    pub new_channel_rate: u32,
    /// Such channels at once.
    pub new_channel_burst: u32,
}

impl Default for AddressQuotas {
    fn default() -> Self {
        Self {
            connect_rate: 20,
            connect_burst: 400,
            failed_token_rate: 5,
            failed_token_burst: 50,
            new_channel_rate: 20,
            new_channel_burst: 1000,
        }
    }
}

impl AddressQuotas {
    pub(super) fn rates(&self) -> Rates {
        Rates::default()
            .with(Kind::Connects, Rate::new(self.connect_rate, self.connect_burst))
            .with(Kind::FailedTokens, Rate::new(self.failed_token_rate, self.failed_token_burst))
            .with(Kind::NewChannels, Rate::new(self.new_channel_rate, self.new_channel_burst))
    }
}

/// Bytes as tokens; more than fit are as good as no limit.
fn bytes(size: ByteSize) -> u32 {
    u32::try_from(size.as_u64()).unwrap_or(u32::MAX)
}
