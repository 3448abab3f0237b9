//! `encodings`: two channels whose subscribers use two transports, beside the same clients with a channel per transport.
//!
//! Both cases have the same connections, publications and deliveries; only the encodings of a channel differ. So the ratio
//! of their costs is the price of a second encoding in a channel.

use anyhow::bail;

use super::Stage;
use super::delivery::{Order, Pace, Round};
use crate::clients::Transports;
use crate::options::Encodings;
use crate::publisher::rounds::Batch;
use crate::report::grouped;
use crate::rounds::{Case, Outcome};
use crate::subject::{Layout, Spec};

/// Connections take the channels in turn.
const CHANNELS: u32 = 2;

/// Measures both cases, in slices if `--slices` asks for it.
pub(super) fn run(stage: &Stage<'_>, options: &Encodings) -> anyhow::Result<Outcome> {
    let common = &options.common;
    if stage.builds.is_some() {
        bail!("encodings compares within one build");
    }
    if !common.transport.is_own() || !options.other.is_own() {
        bail!("encodings is for the transports of Fanway: websocket, sse, poll");
    }
    // Connections in a row that use one transport: with one, a channel's are all of the same transport.
    let case = |label: &str, base, in_a_row: usize| Case {
        label: label.to_owned(),
        spec: Spec::new(common, Layout::ALONE),
        base,
        point: None,
        parameters: in_a_row,
    };
    let cases = [case("together", Some(1), CHANNELS as usize), case("apart", None, 1)];
    let title = format!(
        "encodings: {} connections over {} and {}, {} times a publication of {} B to each of {CHANNELS} channels",
        grouped(common.connections.into()),
        common.transport,
        options.other,
        grouped(options.ticks),
        options.delivery.payload_bytes
    );
    stage.cases_in_slices(title.clone(), &cases, |environment, in_a_row| {
        let order = Order {
            scenario: "encodings",
            title: title.clone(),
            channels: environment.channels(CHANNELS, 1)?,
            connections: common.connections as usize,
            transports: Transports::two(common.transport, options.other, *in_a_row),
            stalled: 0,
            pace: Pace::Rounds(Batch::Everywhere, options.ticks),
            delivery: options.delivery,
            inspect: None,
        };
        Round::open(environment, order)
    })
}
