//! `burst`: several publications of one channel outstanding at once. A server that gathers what a connection has needs
//! fewer writes than publications; the floor writes each.

use super::delivery::{Order, Pace, deliver};
use super::environment::Environment;
use crate::options::Burst;
use crate::publisher::rounds::Batch;
use crate::report::grouped;
use crate::rounds::Measured;

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

pub(super) fn measure(environment: &mut Environment<'_>, options: &Burst) -> anyhow::Result<Measured> {
    let order = Order {
        scenario: "burst",
        title: title(options),
        channels: environment.channels(1, 1)?,
        connections: options.common.connections as usize,
        stalled: 0,
        pace: Pace::Rounds(Batch::Burst(options.in_flight), options.bursts),
        delivery: options.delivery,
        inspect: None,
    };
    deliver(environment, order)
}
