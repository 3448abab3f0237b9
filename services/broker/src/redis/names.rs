//! Names of keys and pub/sub channels.
//!
//! The fleet stands in each of them, because `SELECT` does not part pub/sub. The channel stands in braces (the hash tag
//! of Redis Cluster), so that everything of a channel lives together; channel names have no braces of their own.

use std::fmt::Write;

use fanway_protocol::Channel;
use sha2::{Digest, Sha256};

/// Makes the names of one fleet.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `fw:<fleet>:`
    prefix: String,
    /// What comes before the channel in the name of its entries.
    entries_prefix: String,
    /// The same of its meta.
    meta_prefix: String,
    /// The same of its pub/sub channel.
    topic_prefix: String,
    /// This node's own pub/sub channel, for the echo probe.
    echo: String,
    /// The pub/sub channel on which nodes speak to each other.
    nodes: String,
    /// Keys of this node's own, for the self-test.
    trial: [String; 3],
}

impl Names {
    pub(crate) fn new(fleet: &str, node: &str) -> Self {
        Self {
            prefix: format!("fw:{fleet}:"),
            entries_prefix: format!("fw:{fleet}:h:{{"),
            meta_prefix: format!("fw:{fleet}:m:{{"),
            topic_prefix: format!("fw:{fleet}:c:{{"),
            echo: format!("fw:{fleet}:e:{{{node}}}"),
            nodes: format!("fw:{fleet}:n"),
            trial: ["h", "m", "i"].map(|kind| format!("fw:{fleet}:t:{{{node}}}:{kind}")),
        }
    }

    /// The hash of a channel's entries.
    pub(crate) fn entries(&self, channel: &Channel) -> String {
        format!("{}{channel}}}", self.entries_prefix)
    }

    /// The text that says a log's epoch, top and ledger.
    pub(crate) fn meta(&self, channel: &Channel) -> String {
        format!("{}{channel}}}", self.meta_prefix)
    }

    /// The stored result of a publish. The caller's key is hashed: it may hold any byte, and be long.
    pub(crate) fn result(&self, channel: &Channel, key: &str) -> String {
        format!("{}i:{{{channel}}}:{}", self.prefix, hex(&Sha256::digest(key.as_bytes())))
    }

    /// The same names in pieces, for those who write them where they are needed: what stands before the channel in the
    /// names of its entries, its meta and its pub/sub channel. A `}` stands after it.
    pub(crate) fn before_channel(&self) -> [&str; 3] {
        [&self.entries_prefix, &self.meta_prefix, &self.topic_prefix]
    }

    /// The pub/sub channel.
    pub(crate) fn topic(&self, channel: &Channel) -> String {
        format!("{}{channel}}}", self.topic_prefix)
    }

    /// The channel's name in a pub/sub channel's.
    pub(crate) fn channel_in<'a>(&self, topic: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(topic).ok()?.strip_prefix(&self.topic_prefix)?.strip_suffix('}')
    }

    /// The pub/sub channel of this node's own probes.
    pub(crate) fn echo(&self) -> &str {
        &self.echo
    }

    /// The pub/sub channel on which the nodes of the fleet speak to each other.
    pub(crate) fn nodes(&self) -> &str {
        &self.nodes
    }

    /// Entries, meta and stored result of the self-test.
    pub(crate) fn trial(&self) -> &[String; 3] {
        &self.trial
    }

    /// What an ACL rule must allow: the pattern of the fleet's keys and pub/sub channels.
    pub(crate) fn pattern(&self) -> String {
        format!("{}*", self.prefix)
    }
}

/// Bytes as hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_its_own_for_everything() {
        let (names, channel) = (Names::new("blue", "n1"), Channel::new("news:1").unwrap());
        assert_eq!(names.entries(&channel), "fw:blue:h:{news:1}");
        assert_eq!(names.meta(&channel), "fw:blue:m:{news:1}");
        assert_eq!(names.topic(&channel), "fw:blue:c:{news:1}");
        let pieces = names.before_channel().map(|before| format!("{before}{channel}}}"));
        assert_eq!(pieces, [names.entries(&channel), names.meta(&channel), names.topic(&channel)]);
        assert_eq!(names.echo(), "fw:blue:e:{n1}");
        assert_eq!(names.nodes(), "fw:blue:n");
        assert_eq!(
            names.result(&channel, "abc"),
            "fw:blue:i:{news:1}:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(names.channel_in(b"fw:blue:c:{news:1}"), Some("news:1"));
        assert_eq!(names.channel_in(b"fw:green:c:{news:1}"), None);
        assert_eq!(names.channel_in(b"fw:blue:c:{news:1"), None);
        assert_eq!(names.channel_in(b"fw:blue:c:{\xff}"), None);
    }
}
