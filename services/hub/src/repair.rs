//! Making a channel whole: subscribing it, and reading its log until its stream is live.
//!
//! One task per channel at most, started where the need is noticed. It goes on until the channel is live or nobody wants
//! it any more; failures are retried with jittered back-off, so an outage heals by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{Broker, BrokerError, Ledger, LogView, PageLimit, Timeline, log_limited};
use fanway_protocol::Channel;

use crate::channel::{LocalChannel, Marked, Source};
use crate::hub::Hub;
use crate::sequencer::{Answered, Step};

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
            let unheard = !state.confirmed() && state.wanted();
            if state.repairing || !unheard && !state.needs_repair() {
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
        self.record_losses(local, done?).await
    }

    /// Records in a log that it lacks publications of these timelines. Where the server refuses to write, the channel goes
    /// on without: nothing can be published there meanwhile, and the next comparison tries again.
    async fn record_losses(&self, local: &LocalChannel, lacking: Vec<Timeline>) -> Result<(), BrokerError> {
        let mut recorded = lacking.is_empty();
        for timeline in lacking {
            match self.broker.cut(&local.name, &timeline).await {
                Ok(true) => {
                    recorded = true;
                    self.metrics.losses_recorded_total.inc();
                    log_limited!(WARN, channel = %local.name, "the log has lost publications; subscribers are sent a gap");
                }
                Ok(false) => {}
                Err(error) => {
                    self.metrics.losses_unrecorded_total.with_label_values(&[error.metric_label()]).inc();
                    if let (BrokerError::Refused { .. }, Some(sequencer)) = (&error, &mut local.state().sequencer) {
                        sequencer.cut_refused();
                        return Ok(());
                    }
                    return Err(error);
                }
            }
        }
        // Another node did, as the next read shows. Should script and node ever disagree, they must not go on asking.
        if !recorded && let Some(sequencer) = &mut local.state().sequencer {
            sequencer.cut_refused();
        }
        Ok(())
    }

    /// Takes the answer to a read. Returns the timelines whose loss is to be recorded before the next one.
    pub(crate) fn take_read(
        &self,
        local: &LocalChannel,
        read: Result<LogView, BrokerError>,
        marked: &mut Marked,
    ) -> Result<Vec<Timeline>, BrokerError> {
        let mut state = local.state();
        let state = &mut *state;
        let held = state.held_bytes();
        let Some(sequencer) = &mut state.sequencer else { return Ok(Vec::new()) };
        match read {
            Ok(view) => {
                let mut steps = Vec::new();
                let answered = sequencer.read(&view, &mut steps);
                if sequencer.is_live() {
                    state.end_read();
                }
                if !matches!(answered, Answered::CutFirst(_)) {
                    // Once is enough for a channel that nobody wants: what is published there meanwhile is not held.
                    state.compared();
                }
                local.shared.held.changed(held, state.held_bytes());
                if steps.iter().any(|step| !matches!(step, Step::Emit { .. })) {
                    // Under the channel's lock: whoever takes a place after this must not be served by such a view.
                    self.resumes.forget(&local.name);
                }
                local.emit(state, steps, Source::Log(Instant::now()), marked);
                match answered {
                    Answered::CutFirst(lacking) => Ok(lacking),
                    Answered::Whole | Answered::Again => Ok(Vec::new()),
                }
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
    if state.wanted() && !state.confirmed() {
        return Work::Subscribe;
    }
    let is_read = state.is_read() && state.confirmed();
    if let Some(sequencer) = state.sequencer.as_ref().filter(|sequencer| is_read && sequencer.needs_read()) {
        let since = sequencer.since();
        state.begin_read();
        return Work::Read(since);
    }
    state.repairing = false;
    Work::Done
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use fanway_broker::{Delivery, Event, Place};
    use fanway_protocol::{Epoch, Payload, Position, Publication};

    use super::*;
    use crate::Limits;
    use crate::channel::Interest;
    use crate::held::{NODE_BYTES, cost};
    use crate::testing::hub;

    const SIZE: usize = 400 * 1024;

    fn at(offset: u64) -> Position {
        Position { epoch: Epoch::parse("abcdefgh0123456789ab").unwrap(), offset }
    }

    /// A channel that reads its log, and has received its first publication meanwhile.
    fn holding(hub: &Hub, name: &str, publication: &Arc<Publication>) -> Interest {
        let interest = hub.interest(&Channel::new(name).unwrap()).unwrap();
        {
            let mut state = interest.0.state();
            let breaks = state.breaks();
            state.confirm(breaks);
            state.begin_read();
        }
        receive(&interest.0, 1, publication);
        interest
    }

    /// Receives a publication by the feed. Returns whether the channel must be repaired.
    fn receive(local: &LocalChannel, offset: u64, publication: &Arc<Publication>) -> bool {
        let delivery = Delivery {
            channel: local.name.clone(),
            publication: publication.clone(),
            place: Some(Place { position: at(offset), previous_epoch: at(1).epoch }),
            received: Instant::now(),
        };
        local.hear(Event::Publication(delivery), Instant::now(), &mut Marked::default())
    }

    fn view(top: u64) -> LogView {
        LogView { top: at(top), ledger: Ledger::new(at(top).epoch), oldest: 1, entries: Vec::new() }
    }

    #[tokio::test]
    async fn what_all_channels_hold_is_bounded_and_accounted_for() {
        let (hub, mut marked) = (hub(Limits::default()), Marked::default());
        let data = Payload::Json(vec![b'1'; SIZE].into());
        let publication = Arc::new(Publication { data, ..Publication::default() });
        let (size, fit) = (cost(&publication), NODE_BYTES / cost(&publication));
        let mut channels: Vec<_> = (0..fit + 10).map(|n| holding(&hub, &format!("c{n}"), &publication)).collect();
        let held = || hub.metrics.inbox_bytes.get() as usize;
        assert_eq!(held(), fit * size);
        // Those that hold theirs are live once their logs were read; the others, which could not, must read again.
        for (n, Interest(local)) in channels.iter().enumerate().skip(fit - 1).take(2) {
            hub.take_read(local, Ok(view(0)), &mut marked).unwrap();
            let (state, fits) = (local.state(), n < fit);
            assert_eq!((state.ready(), state.needs_repair(), state.head()), (fits, !fits, Some(at(u64::from(fits)))));
        }
        assert_eq!(held(), (fit - 1) * size);
        channels[0].0.hear(Event::Interrupted, Instant::now(), &mut marked);
        assert_eq!(held(), (fit - 2) * size);
        // Nobody wants them any more, and the hub has not removed them yet.
        channels.clear();
        assert_eq!((held(), hub.channels()), (0, fit + 10));
    }

    #[tokio::test]
    async fn publications_without_bytes_are_not_held_for_free() {
        let (hub, empty) = (hub(Limits::default()), Arc::new(Publication::default()));
        let Interest(local) = &holding(&hub, "a", &empty);
        (2..=100).for_each(|offset| assert!(!receive(local, offset, &empty)));
        assert_eq!(hub.metrics.inbox_bytes.get() as usize, 100 * cost(&empty));
        let least = size_of::<Publication>() + size_of::<(Place, Arc<Publication>)>();
        assert!(cost(&empty) > least, "{} bytes", cost(&empty));
    }

    #[tokio::test]
    async fn a_channel_that_nobody_wants_holds_nothing_and_is_not_repaired() {
        let (hub, publication) = (hub(Limits::default()), Arc::new(Publication::default()));
        let interest = holding(&hub, "a", &publication);
        let local = interest.0.clone();
        drop(interest);
        assert_eq!(hub.metrics.inbox_bytes.get(), 0);
        // The read that was under way has not seen what was released.
        hub.take_read(&local, Ok(view(0)), &mut Marked::default()).unwrap();
        assert!(!local.state().ready());
        assert!(!receive(&local, 2, &publication));
        assert_eq!(hub.metrics.inbox_bytes.get(), 0);
        hub.repair(&local);
        assert!(!local.state().repairing && !local.state().needs_repair());
        let again = hub.interest(&local.name).unwrap();
        assert!(again.0.state().needs_repair(), "somebody wants it");
    }
}
