//! After the feed broke: many channels are compared with their logs at once.
//!
//! Most logs have not moved meanwhile. A channel whose head still is its log's top needs no read, for that is what a read
//! would have shown: nothing after the head. So the tops of many are asked for in one call, and only what moved is read,
//! by the channel's own repair.

use std::sync::Arc;

use fanway_broker::{Broker, LogTop};
use fanway_protocol::Channel;

use crate::channel::{LocalChannel, Marked};
use crate::hub::{CHECK_BATCH, Hub};

/// Fewer are read at once: what moved would cost a second round trip.
const WORTH_COMPARING: usize = 8;

impl Hub {
    /// Makes channels whole whose feed is confirmed again.
    pub(crate) fn make_whole(self: &Arc<Self>, channels: Vec<Arc<LocalChannel>>) {
        if channels.len() < WORTH_COMPARING {
            channels.iter().for_each(|local| self.repair(local));
        } else {
            self.spawn(self.clone().compare(channels));
        }
    }

    async fn compare(self: Arc<Self>, channels: Vec<Arc<LocalChannel>>) {
        for batch in channels.chunks(CHECK_BATCH) {
            let (asked, others): (Vec<_>, Vec<_>) = batch.iter().partition(|local| begin(local));
            others.into_iter().for_each(|local| self.repair(local));
            let names: Vec<Channel> = asked.iter().map(|local| local.name.clone()).collect();
            let tops = self.broker.tops(&names, false).await.unwrap_or_else(|error| {
                tracing::debug!(%error, "logs not compared yet");
                vec![None; asked.len()]
            });
            let mut marked = Marked::default();
            for (local, top) in asked.into_iter().zip(tops) {
                self.compared(local, top, &mut marked);
            }
            self.serve(&mut marked);
        }
    }

    /// Takes a log's top as the answer to a read, if it shows that there is nothing to read.
    fn compared(self: &Arc<Self>, local: &Arc<LocalChannel>, top: Option<LogTop>, marked: &mut Marked) {
        // While a read is under way the head stands still.
        let is_at = |top: &LogTop| local.state().sequencer.as_ref().is_some_and(|sequencer| sequencer.is_at(top));
        match top.filter(is_at) {
            Some(top) => {
                // Only an error could be given back, and there was none; nor is there a loss to record.
                let _ = self.take_read(local, Ok(top.view()), marked);
            }
            None => {
                if let Some(sequencer) = &mut local.state().sequencer {
                    sequencer.unanswered();
                }
            }
        }
        let mut state = local.state();
        state.repairing = false;
        state.tell_change();
        drop(state);
        self.repair(local);
    }
}

/// Begins a read that the comparison may answer, in the place of a repair. False if only a real one will do.
fn begin(local: &LocalChannel) -> bool {
    let mut state = local.state();
    if !state.needs_repair() || state.head().is_none() {
        return false;
    }
    state.begin_read();
    state.repairing = true;
    true
}
