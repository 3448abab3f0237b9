//! `burst`: several publications of one channel outstanding at once. A server that gathers what a connection has needs
//! fewer writes than publications; the floor writes each.

use super::delivery::{Order, Pace};
use super::environment::Environment;
use crate::options::Burst;
use crate::publisher::rounds::Batch;
use crate::report::grouped;

pub(super) fn title(options: &Burst) -> String {
    format!(
        "burst over {}: {} connections, {} times {} publications of {} B at once",
        options.common.transport,
        grouped(u64::from(options.common.connections)),
        grouped(options.bursts),
        options.in_flight,
        options.delivery.payload_bytes
    )
}

pub(super) fn order(environment: &Environment<'_>, options: &Burst) -> anyhow::Result<Order> {
    Ok(Order {
        scenario: "burst",
        title: title(options),
        channels: environment.channels(1, 1)?,
        connections: options.common.connections as usize,
        transports: environment.transports(),
        stalled: 0,
        pace: Pace::Rounds(Batch::Burst(options.in_flight), options.bursts),
        delivery: options.delivery,
        inspect: None,
    })
}
