//! Publishing over a server API: [`rate`] holds a rate, [`rounds`] publishes the next when the last is delivered,
//! [`closed`] when the last is answered.
//!
//! Publications of one channel go one after another on one connection, which is what gives them an order to check.

mod api;
pub mod closed;
mod pusher;
pub mod rate;
pub mod rounds;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;

use crate::channels::Channels;
use crate::check::Attempted;
use crate::clients::Faults;
use crate::clock;
use crate::http::Client;
use crate::report::Latencies;
use crate::target::Target;
pub use api::{Api, Place};
pub use pusher::Application;

/// How long one publish may take before it has failed.
const TIMEOUT: Duration = Duration::from_secs(5);
/// After so many failures in a row the rest is not tried.
const FAILURES_IN_A_ROW: u32 = 20;

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub target: Target,
    /// How.
    pub api: Api,
    /// The channels.
    pub channels: Channels,
    /// The run's number, in every publication.
    pub run: u64,
    /// Bytes of each publication's data.
    pub payload_bytes: usize,
    /// What was published before, to go on from.
    pub begun: Attempted,
}

/// What was published.
pub struct Published {
    /// What was sent and is not known to have failed.
    pub attempted: Attempted,
    /// From the moment the first was due to the last's confirmation.
    pub span: Duration,
    /// What went wrong, by kind.
    pub faults: Faults,
    /// From the moment a publication was due to its confirmation.
    pub confirmed: Latencies,
    /// From the moment a publication was due to its sending: how late the load generator itself was.
    pub lag: Latencies,
    /// The place of the last publication of each channel, as far as it was told.
    pub places: BTreeMap<u32, Place>,
    /// Failures since the last success.
    failures_in_a_row: u32,
}

impl Published {
    /// Nothing yet, besides what was published before.
    pub fn new(plan: &Plan) -> Self {
        Self {
            attempted: plan.begun.clone(),
            span: Duration::ZERO,
            faults: Faults::default(),
            confirmed: Latencies::new(),
            lag: Latencies::new(),
            places: BTreeMap::new(),
            failures_in_a_row: 0,
        }
    }

    /// Adds what was published next: by a plan that began with what is here.
    pub fn go_on(&mut self, next: Self) {
        self.attempted = next.attempted;
        self.span += next.span;
        self.faults.merge(&next.faults);
        self.confirmed.merge(&next.confirmed);
        self.lag.merge(&next.lag);
        self.places.extend(next.places);
    }

    /// Adds what was published beside it, to other channels.
    fn join(&mut self, other: Self) {
        self.attempted.join(other.attempted);
        self.span = self.span.max(other.span);
        self.faults.merge(&other.faults);
        self.confirmed.merge(&other.confirmed);
        self.lag.merge(&other.lag);
        self.places.extend(other.places);
    }

    fn is_hopeless(&self) -> bool {
        self.failures_in_a_row >= FAILURES_IN_A_ROW
    }

    /// Notes how a publication ended.
    fn note(&mut self, channel: u32, sequence: u64, due: u64, outcome: anyhow::Result<Place>) {
        match outcome {
            Ok(place) => {
                self.confirmed.note(clock::since(due, clock::now()));
                self.places.insert(channel, place);
                self.failures_in_a_row = 0;
            }
            Err(error) => {
                self.attempted.doubt(channel, sequence);
                self.faults.note(&format!("publish: {error:#}"));
                self.failures_in_a_row += 1;
            }
        }
    }
}

/// A publication's data: JSON of exactly so many bytes, or as few more as its numbers need. `due` is of [`clock`].
pub fn data(run: u64, sequence: u64, due: u64, bytes: usize) -> String {
    let mut data = format!(r#"{{"run":{run},"n":{sequence},"at":{due},"pad":""#);
    let pad = bytes.saturating_sub(data.len() + 2);
    data.extend(std::iter::repeat_n('x', pad));
    data.push_str("\"}");
    data
}

/// Publishes once to a channel, what no run counts but of the usual length.
pub fn publish_once(plan: &Plan, channel: &str) -> anyhow::Result<()> {
    let text = data(0, 0, 0, plan.payload_bytes);
    let (path, headers, body) = plan.api.publish(channel, &text);
    let response = Client::new(&plan.target, TIMEOUT).post(&path, &headers, body.as_bytes())?;
    plan.api.outcome(&response).map(drop)
}

/// Makes sure that a publish would be accepted, with one that no run counts.
pub fn rehearse(plan: &Plan) -> anyhow::Result<()> {
    let (path, headers, body) = plan.api.publish(&format!("{}-rehearsal", plan.channels.prefix), "{}");
    let response = Client::new(&plan.target, TIMEOUT).post(&path, &headers, body.as_bytes());
    let outcome = response.and_then(|response| plan.api.outcome(&response));
    outcome.map(drop).context("the server refuses a publication (see --api-key)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_the_length_asked_for_and_is_json() {
        for (run, sequence, due, bytes) in [(1, 0, 0, 128), (u64::MAX, 1_000_000, 1 << 50, 128), (7, 9, 1, 16_384)] {
            let text = data(run, sequence, due, bytes);
            assert_eq!(text.len(), bytes);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((value["run"].as_u64(), value["n"].as_u64()), (Some(run), Some(sequence)));
            assert_eq!(value["at"].as_u64(), Some(due));
        }
        assert!(serde_json::from_str::<serde_json::Value>(&data(1, 2, 3, 0)).is_ok());
    }
}
