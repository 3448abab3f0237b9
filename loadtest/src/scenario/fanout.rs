//! `fanout`: one channel, many subscribers, publications at a set rate or one at a time.

use super::delivery::{Order, Pace};
use super::environment::Environment;
use crate::options::Fanout;
use crate::publisher::rounds::Batch;
use crate::report::grouped;

pub(super) fn title(options: &Fanout) -> String {
    let common = &options.common;
    let pace = match pace(options) {
        Pace::Rate(rate, publications) | Pace::Lanes(rate, publications, _) => {
            format!("{} publications of {} B at {rate}/s", grouped(publications), options.delivery.payload_bytes)
        }
        Pace::Rounds(_, publications) => {
            let bytes = options.delivery.payload_bytes;
            format!("{} publications of {bytes} B, one at a time", grouped(publications))
        }
    };
    format!("fanout over {}: {} connections, {pace}", common.transport, grouped(u64::from(common.connections)))
}

fn pace(options: &Fanout) -> Pace {
    if options.one_at_a_time {
        return Pace::Rounds(Batch::Burst(1), options.publications);
    }
    let publications = match options.duration {
        Some(duration) => ((duration.as_secs_f64() * options.rate) as u64).max(1),
        None => options.publications,
    };
    Pace::Rate(options.rate, publications)
}

pub(super) fn order(environment: &Environment<'_>, options: &Fanout) -> anyhow::Result<Order> {
    Ok(Order {
        scenario: "fanout",
        title: title(options),
        channels: environment.channels(1, 1)?,
        connections: options.common.connections as usize,
        transports: environment.transports(),
        stalled: 0,
        pace: pace(options),
        delivery: options.delivery,
        inspect: None,
    })
}
