//! What the bounds of client connections must fulfil, each by itself.

use std::time::Duration;

use bytesize::ByteSize;
use fanway_hub::Limits;

use super::problem::Problems;

/// See `client.position_check`.
const LONGEST_CHECK: Duration = Duration::from_secs(15 * 60);

/// Publications reach nodes in one piece, and a connection with Redis takes pieces of 16 MiB at most.
pub(crate) const LARGEST_PUBLICATION: ByteSize = ByteSize::mib(8);

pub(super) fn check(limits: &Limits) -> Result<(), Problems> {
    let mut problems = Problems::default();
    problems.require(
        limits.ping_interval >= Duration::from_secs(1),
        "client.ping_interval",
        "less than 1s; pings would be most of the traffic",
    );
    // What nothing was published to lives an hour from one refresh to the next.
    problems.require(
        limits.position_check <= LONGEST_CHECK,
        "client.position_check",
        "more than 15m; channels that are silent so long would lose their position. Lower it",
    );
    let not_zero = [
        ("client.pong_timeout", limits.pong_timeout),
        ("client.connect_timeout", limits.connect_timeout),
        ("client.write_stall", limits.write_stall),
        ("client.command_timeout", limits.command_timeout),
        ("client.position_check", limits.position_check),
    ];
    for (setting, value) in not_zero {
        problems.require(!value.is_zero(), setting, "0s would end everything at once; give a time such as 5s");
    }
    let at_least_one = [
        ("client.command_rate", limits.command_rate as usize),
        ("client.command_burst", limits.command_burst as usize),
        ("client.resubscribe_rate", limits.resubscribe_rate as usize),
        ("client.channel_limit", limits.channel_limit),
        ("client.recovery_limit", limits.recovery_limit),
        ("client.history_limit", limits.history_limit),
        ("client.ring_entries", limits.ring_entries),
    ];
    for (setting, value) in at_least_one {
        problems.require(value > 0, setting, "0 would refuse everything; give at least 1");
    }
    let sizes = [
        ("client.message_size", limits.message_size),
        ("client.reply_buffer", limits.reply_buffer),
        ("client.ring_bytes", limits.ring_bytes),
        ("client.node_ring_bytes", limits.node_ring_bytes),
        ("client.node_page_bytes", limits.node_page_bytes),
        ("client.node_unfinished_bytes", limits.node_unfinished_bytes),
    ];
    for (setting, value) in sizes {
        problems.require(value.as_u64() >= 1024, setting, "less than 1 KiB; no useful message fits");
    }
    problems.require(
        limits.message_size <= LARGEST_PUBLICATION,
        "client.message_size",
        "more than 8 MiB; a publication of that size would cut the connections of all nodes with Redis. Lower it",
    );
    problems.into_result(())
}
