//! The channels of a run and who has which.

use anyhow::Context;
use fanway_protocol::Channel;
use serde::{Deserialize, Serialize};

/// So many channels with a common prefix, dealt out to connections: connection n has the `per_connection` channels from
/// number `n * per_connection` on, modulo their `count`.
///
/// One for all is `(1, 1)`, the same hundred for all `(100, 100)`, each its own `(connections, 1)`, one of ten
/// `(10, 1)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// What every name begins with; a dash and the channel's number follow.
    pub prefix: String,
    /// How many there are.
    pub count: u32,
    /// How many each connection subscribes to.
    pub per_connection: u32,
}

impl Channels {
    /// The name of a channel.
    pub fn name(&self, number: u32) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// The same, checked.
    pub fn channel(&self, number: u32) -> anyhow::Result<Channel> {
        let name = self.name(number);
        Channel::new(&name).with_context(|| format!("--channel-prefix: {name}"))
    }

    /// The numbers of a connection's channels.
    pub fn of(&self, connection: usize) -> impl Iterator<Item = u32> {
        let first = self.first(connection);
        (0..self.per_connection.min(self.count)).map(move |index| (first + index) % self.count)
    }

    /// Where among its channels a connection has one; `None` if it does not have it.
    pub fn place(&self, connection: usize, channel: u32) -> Option<usize> {
        if channel >= self.count {
            return None;
        }
        let place = (channel + self.count - self.first(connection)) % self.count;
        (place < self.per_connection).then_some(place as usize)
    }

    fn first(&self, connection: usize) -> u32 {
        (connection as u64 * u64::from(self.per_connection) % u64::from(self.count)) as u32
    }

    /// Whether several connections have one channel, and so receive the same bytes.
    pub fn are_shared(&self, connections: usize) -> bool {
        (connections as u64 * u64::from(self.per_connection)) > u64::from(self.count)
    }

    /// The number at the end of a name that [`Self::name`] made.
    pub fn number(name: &str) -> Option<u32> {
        name.rsplit_once('-')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(count: u32, per_connection: u32, connection: usize) -> Vec<u32> {
        let channels = Channels { prefix: "p".into(), count, per_connection };
        let numbers: Vec<u32> = channels.of(connection).collect();
        for (place, number) in numbers.iter().enumerate() {
            assert_eq!(channels.place(connection, *number), Some(place));
        }
        let others = (0..count + 2).filter(|number| !numbers.contains(number));
        assert!(others.into_iter().all(|number| channels.place(connection, number).is_none()));
        numbers
    }

    #[test]
    fn channels_are_dealt_out_as_documented() {
        assert_eq!(dealt(1, 1, 7), [0]);
        assert_eq!(dealt(3, 3, 5), [0, 1, 2]);
        assert_eq!(dealt(10, 1, 7), [7]);
        assert_eq!(dealt(4, 1, 7), [3]);
        assert_eq!(dealt(6, 2, 2), [4, 5]);
    }

    #[test]
    fn a_name_tells_the_number() {
        let channels = Channels { prefix: "load-x".into(), count: 20, per_connection: 1 };
        assert_eq!(Channels::number(&channels.name(17)), Some(17));
        assert_eq!(Channels::number("news"), None);
        assert!(channels.are_shared(21) && !channels.are_shared(20));
    }
}
