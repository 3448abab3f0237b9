//! Heartbeats: the state of a node, sent to the fleet every few seconds.
//!
//! Control messages between nodes are JSON: `{"v":1,"heartbeat":{...}}`. They have a version, and are parsed as untrusted.
//! Unknown members are ignored, so that the next build may add some; what would be misread gets a new version.

use serde::{Deserialize, Deserializer, Serialize};

use crate::envelope;

/// The version that this build writes and reads.
const VERSION: u32 = 1;
/// A longer message is none of ours.
const MAX_BYTES: usize = 4096;
/// The longest name of a node.
const MAX_NODE_BYTES: usize = 64;

/// A node as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which node: different for every start of every node. 1 to 64 printable ASCII characters.
    pub node: String,
    /// Connections whose clients would go to another node if they were closed.
    pub connections: u32,
    /// Most connections that clients may have here.
    pub limit: u32,
    /// How many more it takes: others than `connections` count against the limit, too. None, if a node does not say.
    #[serde(default, deserialize_with = "null_as_default")]
    pub free: u32,
    /// The node drains its connections and takes no new ones.
    pub draining: bool,
    /// Newest version of the envelope that the node reads; builds that do not announce it read only the oldest.
    #[serde(default = "oldest_envelope", deserialize_with = "envelope_version")]
    pub envelope: u32,
}

fn oldest_envelope() -> u32 {
    envelope::OLDEST.into()
}

/// `null` is absence, and so is 0, which no envelope has.
fn envelope_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let announced: Option<u32> = Option::deserialize(deserializer)?;
    Ok(announced.unwrap_or_default().max(oldest_envelope()))
}

/// `null` for a member that may be absent is its absence.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Why a control message cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeartbeatError {
    /// Not a control message.
    #[error("not a control message")]
    Malformed,
    /// From a build that this one does not understand.
    #[error("a control message of version {0}")]
    Version(u32),
}

/// The version alone, which every version has.
#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

#[derive(Serialize)]
struct Outgoing<'a> {
    v: u32,
    heartbeat: &'a Heartbeat,
}

#[derive(Deserialize)]
struct Incoming {
    heartbeat: Option<Heartbeat>,
}

impl Heartbeat {
    /// As bytes for the other nodes.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of numbers and one text: there is nothing in it that JSON cannot hold.
        serde_json::to_vec(&Outgoing { v: VERSION, heartbeat: self }).unwrap_or_default()
    }

    /// From bytes; `None` if they are a control message of another kind.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, HeartbeatError> {
        if bytes.len() > MAX_BYTES {
            return Err(HeartbeatError::Malformed);
        }
        let Versioned { v } = serde_json::from_slice(bytes).map_err(|_| HeartbeatError::Malformed)?;
        if v != VERSION {
            return Err(HeartbeatError::Version(v));
        }
        let Incoming { heartbeat } = serde_json::from_slice(bytes).map_err(|_| HeartbeatError::Malformed)?;
        let legal = |heartbeat: &Heartbeat| {
            let name = heartbeat.node.as_bytes();
            (1..=MAX_NODE_BYTES).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
        };
        match heartbeat {
            Some(heartbeat) if !legal(&heartbeat) => Err(HeartbeatError::Malformed),
            heartbeat => Ok(heartbeat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> Heartbeat {
        Heartbeat { node: "n1".to_owned(), connections: 12, limit: 100, free: 80, draining: false, envelope: 2 }
    }

    #[test]
    fn arrives_as_it_was_sent() {
        let bytes = heartbeat().encode();
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"v":1,"heartbeat":{"node":"n1","connections":12,"limit":100,"free":80,"draining":false,"envelope":2}}"#
        );
        assert_eq!(Heartbeat::decode(&bytes), Ok(Some(heartbeat())));
    }

    #[test]
    fn other_kinds_and_newer_members_are_left_alone() {
        assert_eq!(Heartbeat::decode(br#"{"v":1,"revocation":{"user":"a"}}"#), Ok(None));
        let newer = r#"{"v":1,"heartbeat":{"node":"n1","connections":12,"limit":100,"free":80,"draining":false,"zone":"a","envelope":2},"b":2}"#;
        assert_eq!(Heartbeat::decode(newer.as_bytes()), Ok(Some(heartbeat())));
        for free in ["", r#""free":null,"#] {
            let other = newer.replace(r#""free":80,"#, free);
            assert_eq!(Heartbeat::decode(other.as_bytes()), Ok(Some(Heartbeat { free: 0, ..heartbeat() })), "{other}");
        }
        for (announced, read) in [("", 1), (r#","envelope":null"#, 1), (r#","envelope":0"#, 1), (r#","envelope":9"#, 9)]
        {
            let other = newer.replace(r#","envelope":2"#, announced);
            let expected = Heartbeat { envelope: read, ..heartbeat() };
            assert_eq!(Heartbeat::decode(other.as_bytes()), Ok(Some(expected)), "{other}");
        }
    }

    #[test]
    fn nonsense_and_other_versions_are_told_apart() {
        assert_eq!(Heartbeat::decode(br#"{"v":2,"heartbeat":"anything"}"#), Err(HeartbeatError::Version(2)));
        let long = format!(r#"{{"v":1,"pad":"{}"}}"#, "x".repeat(MAX_BYTES));
        let name = |name: &str| {
            format!(r#"{{"v":1,"heartbeat":{{"node":"{name}","connections":1,"limit":1,"draining":false}}}}"#)
        };
        let cases = [
            String::new(),
            "{}".to_owned(),
            r#"{"v":-1}"#.to_owned(),
            r#"{"v":1,"heartbeat":{"node":"n","connections":-1,"limit":1,"draining":false}}"#.to_owned(),
            r#"{"v":1,"heartbeat":{"node":"n","connections":1,"limit":1}}"#.to_owned(),
            name(""),
            name("a b"),
            name(&"x".repeat(65)),
            long,
        ];
        for case in cases {
            assert_eq!(Heartbeat::decode(case.as_bytes()), Err(HeartbeatError::Malformed), "{case}");
        }
    }
}
