//! The very command that a publish came to in Redis, overheard and sent again a hundred at a time, as
//! `redis-benchmark -P 100` does: what it costs Redis itself. Each time with other data, as publications have: Lua keeps a
//! text that it has seen before at hand, and would be too cheap.

use anyhow::Context;

use crate::channels::Channels;
use crate::publisher;
use crate::subject::{self, Pipeline, Redis};

/// Commands in one write.
const AT_ONCE: usize = 100;
/// Commands that differ, before they begin anew.
const DIFFERENT: u32 = 5000;

/// The command that a publish is to Redis, for each channel.
pub(super) struct Replay {
    connection: subject::Replay,
    pipelines: Vec<(Pipeline, u64)>,
    /// The command's first words.
    pub(super) what: String,
}

impl Replay {
    pub(super) fn prepare(redis: &Redis, plan: &publisher::Plan) -> anyhow::Result<Self> {
        let channels = &plan.channels;
        let name = channels.name(0);
        // A publish of what nobody counts, of the same length.
        let publish = || publisher::publish_once(plan, &name);
        let data = publisher::data(0, 0, 0, plan.payload_bytes);
        let of_publish = |words: &[Vec<u8>]| words.iter().any(|word| contains(word, name.as_bytes()));
        // Twice: of the first, the server may learn the script.
        publish()?;
        let words = redis.overhear(publish, of_publish).context("nothing of a publish was heard in redis")?;
        anyhow::ensure!(
            words.iter().any(|word| contains(word, data.as_bytes())),
            "a publish came to redis without its data"
        );
        let what = words.iter().take(2).map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
        let turns: Vec<u32> = (0..channels.count.max(DIFFERENT)).collect();
        let pipelines = turns.chunks(AT_ONCE).map(|chunk| {
            let mut pipeline = Pipeline::default();
            for turn in chunk {
                let other = publisher::data(0, u64::from(*turn), 0, plan.payload_bytes);
                let words = words.iter().map(|word| replaced(word, &data, &other)).collect::<Vec<_>>();
                pipeline.add(&of_channel(&words, channels, &name, *turn % channels.count));
            }
            (pipeline, chunk.len() as u64)
        });
        Ok(Self { connection: redis.replay()?, pipelines: pipelines.collect(), what })
    }

    /// Sends it so often, or somewhat more.
    pub(super) fn send(&mut self, count: u64) -> anyhow::Result<()> {
        let mut sent = 0;
        for (pipeline, commands) in self.pipelines.iter().cycle() {
            if sent >= count {
                break;
            }
            self.connection.send(pipeline)?;
            sent += commands;
        }
        Ok(())
    }
}

/// The same command for another channel. The envelope inside names the first one still, but nobody reads it.
fn of_channel(words: &[Vec<u8>], channels: &Channels, name: &str, number: u32) -> Vec<Vec<u8>> {
    let other = channels.name(number);
    let change = |word: &Vec<u8>| match std::str::from_utf8(word) {
        // Names of keys and of pub/sub channels.
        Ok(text) if text.ends_with(&format!("{name}}}")) => text.replace(name, &other).into_bytes(),
        _ => word.clone(),
    };
    words.iter().map(change).collect()
}

/// The word, its data exchanged for other data of the same length.
fn replaced(word: &[u8], data: &str, other: &str) -> Vec<u8> {
    let mut word = word.to_vec();
    let at = word.windows(data.len()).position(|window| window == data.as_bytes());
    // Very little data has no room for numbers that leave its length as it is.
    if let Some(at) = at.filter(|_| data.len() == other.len()) {
        word[at..at + data.len()].copy_from_slice(other.as_bytes());
    }
    word
}

fn contains(word: &[u8], part: &[u8]) -> bool {
    word.windows(part.len()).any(|window| window == part)
}
