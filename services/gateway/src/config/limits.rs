//! What the limits of users and client addresses must fulfil, each by itself.

use bytesize::ByteSize;
use fanway_hub::QuotaSettings;

use super::problem::Problems;

/// Rates and bursts are held in 32 bits.
const MOST_BYTES: ByteSize = ByteSize::gib(1);

pub(super) fn check(limits: &QuotaSettings) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let QuotaSettings { channels, user, address, anonymous } = limits;
    problems.require(*channels > 0, "limits.channels", "0 would refuse every channel; give at least 1");
    let bursts = [
        ("limits.user.connect_burst", user.connect_rate, user.connect_burst),
        ("limits.user.command_burst", user.command_rate, user.command_burst),
        ("limits.user.publish_burst", user.publish_rate, user.publish_burst),
        ("limits.user.new_channel_burst", user.new_channel_rate, user.new_channel_burst),
        ("limits.user.poll_burst", user.poll_rate, user.poll_burst),
        ("limits.user.stream_burst", user.stream_rate, user.stream_burst),
        ("limits.address.connect_burst", address.connect_rate, address.connect_burst),
        ("limits.address.failed_token_burst", address.failed_token_rate, address.failed_token_burst),
        ("limits.address.new_channel_burst", address.new_channel_rate, address.new_channel_burst),
        ("limits.anonymous.new_channel_burst", anonymous.new_channel_rate, anonymous.new_channel_burst),
    ];
    for (setting, rate, burst) in bursts {
        problems.require(
            rate == 0 || burst > 0,
            setting,
            "0 would let nothing pass; give at least 1, or set the rate to 0 for no limit",
        );
    }
    let sizes = [
        ("limits.user.publish_bytes_rate", user.publish_bytes_rate),
        ("limits.user.publish_bytes_burst", user.publish_bytes_burst),
    ];
    for (setting, size) in sizes {
        problems.require(size <= MOST_BYTES, setting, "more than 1 GiB; set the rate to 0 for no limit");
    }
    problems.into_result(())
}
