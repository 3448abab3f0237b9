//! Making a channel whole: subscribing it, and reading its log until its stream is live.
//!
//! One task per channel at most, started where the need is noticed. It goes on until the channel is live or nobody wants
//! it any more; failures are retried with jittered back-off, so an outage heals by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{Broker, BrokerError, Ledger, LogView, PageLimit, log_limited};
use fanway_protocol::Channel;

use crate::channel::{LocalChannel, Marked, Source};
use crate::hub::Hub;

/// What one read for a repair returns. More is read in further steps.
const REPAIR_PAGE: PageLimit = PageLimit::new(512, 256 * 1024);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

enum Work {
    Subscribe,
    Read(Option<u64>),
    Done,
}

impl Hub {
    /// Starts the channel's repair unless one is at work.
    pub(crate) fn repair(self: &Arc<Self>, local: &Arc<LocalChannel>) {
        {
            let mut state = local.state();
            let wanted = !state.confirmed() || state.needs_repair();
            if state.repairing || state.dead || !wanted {
                return;
            }
            state.repairing = true;
        }
        self.spawn(self.clone().repairing(local.clone()));
    }

    async fn repairing(self: Arc<Self>, local: Arc<LocalChannel>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let done = match next_work(&local) {
                Work::Done => return,
                Work::Subscribe => self.subscribe_feeds(std::slice::from_ref(&local)).await,
                Work::Read(since) => self.read_log(&local, since).await,
            };
            local.state().tell_change();
            match done {
                Ok(()) => pause = FIRST_PAUSE,
                Err(error) => {
                    log_limited!(DEBUG, channel = %local.name, %error, "channel not repaired yet");
                    tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Has the broker deliver channels.
    pub(crate) async fn subscribe_feeds(&self, channels: &[Arc<LocalChannel>]) -> Result<(), BrokerError> {
        let names: Vec<Channel> = channels.iter().map(|local| local.name.clone()).collect();
        let breaks: Vec<u32> = channels.iter().map(|local| local.state().breaks()).collect();
        self.broker.subscribe(&names).await?;
        for (local, breaks) in channels.iter().zip(breaks) {
            local.state().confirm(breaks);
        }
        Ok(())
    }

    async fn read_log(self: &Arc<Self>, local: &LocalChannel, since: Option<u64>) -> Result<(), BrokerError> {
        let read = self.view(&local.name, local.shared.namespace.retention(), since, REPAIR_PAGE).await;
        self.metrics.repair_reads_total.inc();
        let mut marked = Marked::default();
        let done = self.take_read(local, read, &mut marked);
        self.serve(&mut marked);
        done
    }

    pub(crate) fn take_read(
        &self,
        local: &LocalChannel,
        read: Result<LogView, BrokerError>,
        marked: &mut Marked,
    ) -> Result<(), BrokerError> {
        let mut state = local.state();
        let state = &mut *state;
        let Some(sequencer) = &mut state.sequencer else { return Ok(()) };
        match read {
            Ok(view) => {
                let mut steps = Vec::new();
                sequencer.read(&view, &mut steps);
                if sequencer.is_live() {
                    state.end_read();
                }
                local.emit(state, steps, Source::Log(Instant::now()), marked);
                Ok(())
            }
            Err(error) => {
                sequencer.unanswered();
                Err(error)
            }
        }
    }

    /// One view of a log; makes an empty one if there is none.
    pub(crate) async fn view(
        &self,
        channel: &Channel,
        retention: fanway_broker::Retention,
        since: Option<u64>,
        limit: PageLimit,
    ) -> Result<LogView, BrokerError> {
        let _permit =
            self.reads.acquire().await.map_err(|_| BrokerError::Unavailable("the node is stopping".to_owned()))?;
        if let Some(view) = self.broker.read(channel, since, limit).await? {
            return Ok(view);
        }
        let top = self.broker.create(channel, retention).await?;
        if top.offset == 0 {
            // Nothing was ever published, so that this is all there is to read.
            return Ok(LogView { top, ledger: Ledger::new(top.epoch), oldest: 1, entries: Vec::new() });
        }
        let view = self.broker.read(channel, since, limit).await?;
        view.ok_or_else(|| BrokerError::Unavailable("the log vanished as it was made".to_owned()))
    }
}

fn next_work(local: &LocalChannel) -> Work {
    let mut state = local.state();
    let state = &mut *state;
    // A channel that nobody wants is left as it is: the next attach repairs it.
    let wanted = state.wanted();
    if wanted && !state.confirmed() {
        return Work::Subscribe;
    }
    if let Some(sequencer) = state.sequencer.as_ref().filter(|sequencer| wanted && sequencer.needs_read()) {
        let since = sequencer.since();
        state.begin_read();
        return Work::Read(since);
    }
    state.repairing = false;
    Work::Done
}
