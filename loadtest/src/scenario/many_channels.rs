//! `many-channels`: connections with many channels each, all published to in one go, or one private channel each.
//!
//! Publications reach the delivering node through Redis, from another node, so that its CPU time is that of delivering. The
//! floor hears of them in no time and writes each delivery by itself.

use super::delivery::{Order, Pace};
use super::environment::Environment;
use crate::options::{ManyChannels, Own};
use crate::publisher::rounds::Batch;
use crate::report::grouped;

pub(super) fn title(options: &ManyChannels) -> String {
    let what = match options.channels {
        Own::Shared(count) => {
            format!("the same {} channels on each, all published to {} times", grouped(count.into()), options.ticks)
        }
        Own::Own => {
            let publications = grouped(options.publications);
            format!("a channel of its own on each, {publications} publications, {} in flight", options.in_flight)
        }
    };
    let common = &options.common;
    format!("many channels over {}: {} connections, {what}", common.transport, grouped(common.connections.into()))
}

pub(super) fn order(environment: &Environment<'_>, options: &ManyChannels) -> anyhow::Result<Order> {
    let (channels, pace) = match options.channels {
        Own::Shared(count) => (environment.channels(count, count)?, Pace::Rounds(Batch::Everywhere, options.ticks)),
        Own::Own => {
            let in_flight = options.in_flight;
            let batch = if options.apart { Batch::Apart(in_flight) } else { Batch::Together(in_flight) };
            let connections = options.common.connections;
            let rounds = options.publications.div_ceil(batch.publications(connections));
            (environment.channels(connections, 1)?, Pace::Rounds(batch, rounds))
        }
    };
    Ok(Order {
        scenario: "many-channels",
        title: title(options),
        channels,
        connections: options.common.connections as usize,
        transports: environment.transports(),
        stalled: 0,
        pace,
        delivery: options.delivery,
        inspect: None,
    })
}
