//! Publishing at a set rate over the server API, one publication after another on one connection, which is what gives
//! them an order to check.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use fanway_protocol::Channel;
use serde::Deserialize;

use crate::clients::Faults;
use crate::http::Client;
use crate::report::Latencies;
use crate::schedule::Schedule;
use crate::target::Target;

/// How long one publish may take before it has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After so many failures in a row the rest is not tried.
const FAILURES_IN_A_ROW: u32 = 20;
/// Longest sleep between looks at whether to stop.
const TICK: Duration = Duration::from_millis(100);

/// What is to be published.
pub struct Plan {
    /// Where.
    pub target: Target,
    /// The server API's key.
    pub api_key: String,
    /// The channel.
    pub channel: Channel,
    /// The run's number, in every publication.
    pub run: u64,
    /// How many.
    pub publications: u64,
    /// Bytes of each publication's data.
    pub payload_bytes: usize,
}

/// What was published.
pub struct Published {
    /// Numbers below this one were sent.
    pub attempted: u64,
    /// Of those, the ones the server did not confirm: whether they were published is unknown.
    pub doubtful: BTreeSet<u64>,
    /// From the moment the first was due to the last's confirmation: tells whether the rate was held.
    pub span: Duration,
    /// What went wrong, by kind.
    pub faults: Faults,
    /// From the moment a publication was due to its confirmation.
    pub confirmed: Latencies,
    /// From the moment a publication was due to its sending: how late the load generator itself was.
    pub lag: Latencies,
}

/// Publishes all, until done or told to stop.
pub fn run(plan: &Plan, schedule: Schedule, stop: &AtomicBool) -> Published {
    // Sleeps end late by the thread's timer slack, 50 us unless it is said to matter.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
    let mut client = Client::new(&plan.target, TIMEOUT);
    let headers = format!("X-API-Key: {}\r\n", plan.api_key);
    let mut published = Published {
        attempted: 0,
        span: Duration::ZERO,
        doubtful: BTreeSet::new(),
        faults: Faults::default(),
        confirmed: Latencies::new(),
        lag: Latencies::new(),
    };
    let mut failures_in_a_row = 0;
    for sequence in 0..plan.publications {
        loop {
            let wait = schedule.wait(sequence, Instant::now());
            if wait.is_zero() || stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(wait.min(TICK));
        }
        if stop.load(Ordering::Relaxed) || failures_in_a_row == FAILURES_IN_A_ROW {
            break;
        }
        let body =
            format!(r#"{{"channel":"{}","data":{}}}"#, plan.channel, data(plan.run, sequence, plan.payload_bytes));
        published.lag.note(schedule.due(sequence).elapsed());
        published.attempted = sequence + 1;
        let outcome = publish(&mut client, &headers, body.as_bytes());
        published.span = schedule.start().elapsed();
        match outcome {
            Ok(()) => {
                published.confirmed.note(schedule.due(sequence).elapsed());
                failures_in_a_row = 0;
            }
            Err(error) => {
                published.doubtful.insert(sequence);
                published.faults.note(&format!("publish: {error:#}"));
                failures_in_a_row += 1;
            }
        }
    }
    published
}

fn publish(client: &mut Client, headers: &str, body: &[u8]) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Answer {
        error: Option<Problem>,
    }
    #[derive(Deserialize)]
    struct Problem {
        code: serde_json::Value,
        #[serde(default)]
        message: String,
    }
    let response = client.post("/api/publish", headers, body)?;
    let answer: Option<Answer> = serde_json::from_slice(&response.body).ok();
    match (response.status, answer) {
        (200, Some(Answer { error: None })) => Ok(()),
        (status, Some(Answer { error: Some(error) })) => {
            bail!("HTTP {status}, error {}: {}", error.code, error.message)
        }
        (status, _) => bail!("HTTP {status}"),
    }
}

/// A publication's data: JSON of exactly so many bytes, or as few more as its numbers need.
pub fn data(run: u64, sequence: u64, bytes: usize) -> String {
    let mut data = format!(r#"{{"run":{run},"n":{sequence},"pad":""#);
    let pad = bytes.saturating_sub(data.len() + 2);
    data.extend(std::iter::repeat_n('x', pad));
    data.push_str("\"}");
    data
}

/// Makes sure that a publish would be accepted, with one that no run counts.
pub fn rehearse(plan: &Plan) -> anyhow::Result<()> {
    let body = format!(r#"{{"channel":"{}-rehearsal","data":{{}}}}"#, plan.channel);
    publish(&mut Client::new(&plan.target, TIMEOUT), &format!("X-API-Key: {}\r\n", plan.api_key), body.as_bytes())
        .context("the server refuses a publication (see --api-key)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_length_asked_for_and_is_json() {
        for (run, sequence, bytes) in [(1, 0, 128), (u64::MAX, 1_000_000, 128), (7, 9, 16_384)] {
            let text = data(run, sequence, bytes);
            assert_eq!(text.len(), bytes);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((value["run"].as_u64(), value["n"].as_u64()), (Some(run), Some(sequence)));
        }
        assert!(serde_json::from_str::<serde_json::Value>(&data(1, 2, 0)).is_ok());
    }
}
