//! Publishing at a set rate, whatever the server does: the open loop, in which a stall of the server shows.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Plan, Published, TIMEOUT, data};
use crate::clock;
use crate::http::Client;
use crate::schedule::Schedule;

/// Longest sleep between looks at whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// Publishes so many, to the channels in turn, one after another, until done or told to stop.
pub fn run(plan: &Plan, publications: u64, schedule: Schedule, stop: &AtomicBool) -> Published {
    lane(plan, publications, schedule, (0, 1), stop)
}

/// The same over so many connections in turn, so that none waits for the answer to another's. Their number divides that
/// of the channels: each channel is one connection's.
pub fn in_lanes(plan: &Plan, publications: u64, schedule: Schedule, lanes: u32, stop: &AtomicBool) -> Published {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes)
            .map(|number| scope.spawn(move || lane(plan, publications, schedule, (number, lanes), stop)))
            .collect();
        let mut published = Published::new(plan);
        for part in threads.into_iter().filter_map(|thread| thread.join().ok()) {
            published.join(part);
        }
        published
    })
}

/// Every so manyth of them, from a number on.
fn lane(plan: &Plan, publications: u64, schedule: Schedule, (first, step): (u32, u32), stop: &AtomicBool) -> Published {
    // Sleeps end late by the thread's timer slack, 50 us unless it is said to matter.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    let mut client = Client::new(&plan.target, TIMEOUT);
    let mut published = Published::new(plan);
    let before = published.attempted.total();
    for number in (u64::from(first)..publications).step_by(step as usize) {
        loop {
            let wait = schedule.wait(number, Instant::now());
            if wait.is_zero() || stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(wait.min(TICK));
        }
        if stop.load(Ordering::Relaxed) || published.is_hopeless() {
            break;
        }
        let channel = ((before + number) % u64::from(plan.channels.count)) as u32;
        let sequence = published.attempted.next(channel);
        let due = clock::at(schedule.due(number));
        let text = data(plan.run, sequence, due, plan.payload_bytes);
        let (path, headers, body) = plan.api.publish(&plan.channels.name(channel), &text);
        published.lag.note(schedule.due(number).elapsed());
        let response = client.post(&path, &headers, body.as_bytes());
        published.span = schedule.start().elapsed();
        published.note(channel, sequence, due, response.and_then(|response| plan.api.outcome(&response)));
    }
    published
}
