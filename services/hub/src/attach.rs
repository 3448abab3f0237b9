//! Joining a client to a channel's stream: at the head, or at the position it has reached.
//!
//! The algorithm is the one of [`crate::resume`]. The place in the ring and the head are taken in one turn of the
//! channel, so everything after the head is in the ring from then on, and what lies between cursor and head is served
//! from the ring or read from the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanway_broker::{BrokerError, LogView, PageLimit};
use fanway_protocol::{Channel, GapReason, Position, Publication};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::channel::{Attachment, Interest, LocalChannel};
use crate::handle::Handle;
use crate::hub::Hub;
use crate::resume::{self, Decision, MAX_RETRIES};

/// Where a client wants to join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the head: only what is published from now on.
    Head,
    /// After a position it has reached.
    Position(Position),
    /// Before the first publication, of an epoch that it does not name. Only a log that still has all of its publications,
    /// all of one epoch, shows what such a client has missed.
    Beginning,
    /// After something that is not a position of this channel.
    Nonsense(GapReason),
}

/// What a client gets on joining, besides what comes after.
#[derive(Clone, Debug)]
pub enum Joined {
    /// It joined at the head.
    Fresh,
    /// Everything after its position, oldest first.
    Recovered(Vec<(Position, Arc<Publication>)>),
    /// It joined at the head, and what lies between is lost to it.
    Gap(GapReason),
}

/// A client joined to a channel.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) attachment: Attachment,
    /// Sequence number in the ring of the first entry to deliver.
    pub(crate) next: u64,
    /// The head at joining; `None` for channels without history.
    pub(crate) head: Option<Position>,
    pub(crate) joined: Joined,
}

/// Why a client could not be joined.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AttachError {
    #[error("unknown namespace")]
    UnknownNamespace,
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("the channel did not become ready in time")]
    Timeout,
}

/// What a read for resuming is shared by: everybody who is at this offset of this channel while it is under way.
type ReadKey = (Channel, u64);
type SharedRead = Shared<BoxFuture<'static, Result<Arc<LogView>, BrokerError>>>;

/// Channels whose newest view is kept after the read that made it.
const KEPT_VIEWS: usize = 256;
/// Bytes of publications in a view that is kept.
const KEPT_BYTES: usize = 64 * 1024;
/// How long a view is kept: what it shows may have expired meanwhile, and must not be given away for longer than a second.
const KEPT_FOR: Duration = Duration::from_millis(500);

/// Reads of logs for resumes: those under way, and for a moment the views that small ones made. The clients of a node
/// that has died come back within seconds, not within one read, and the log need not be read for each of them.
#[derive(Default)]
pub(crate) struct Resumes(Mutex<Reads>);

#[derive(Default)]
struct Reads {
    under_way: HashMap<ReadKey, SharedRead>,
    kept: HashMap<Channel, Kept>,
}

/// The whole log after an offset, as it was a moment ago. It serves everybody at that offset or after it.
struct Kept {
    offset: u64,
    view: Arc<LogView>,
    /// When its read began.
    began: Instant,
}

impl Kept {
    fn fresh(&self) -> bool {
        self.began.elapsed() < KEPT_FOR
    }
}

impl Resumes {
    fn lock(&self) -> MutexGuard<'_, Reads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of old views.
    pub(crate) fn sweep(&self) {
        let kept = &mut self.lock().kept;
        kept.retain(|_, kept| kept.fresh());
        if kept.is_empty() {
            *kept = HashMap::new();
        }
    }

    /// Keeps a view, if it is small and was not cut off.
    fn keep(&self, (channel, offset): &ReadKey, view: &Arc<LogView>, began: Instant) {
        let last = view.entries.last().map_or(*offset, |(last, _)| *last);
        let bytes = view.entries.iter().map(|(_, publication)| publication.data.len()).sum::<usize>();
        let kept = &mut self.lock().kept;
        if last == view.top.offset && bytes <= KEPT_BYTES && kept.len() < KEPT_VIEWS {
            kept.insert(channel.clone(), Kept { offset: *offset, view: view.clone(), began });
        } else {
            kept.remove(channel);
        }
    }
}

impl Hub {
    /// Joins a client. Waits as long as it takes for the channel to become ready, or until `deadline`.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        channel: &Channel,
        from: From,
        handle: &Arc<Handle>,
        index: u32,
        deadline: Option<Instant>,
    ) -> Result<Attached, AttachError> {
        let joining = self.join(channel, from, handle, index);
        let attached = match deadline {
            None => joining.await,
            Some(deadline) => {
                tokio::time::timeout_at(deadline.into(), joining).await.unwrap_or(Err(AttachError::Timeout))
            }
        }?;
        let outcome = match &attached.joined {
            Joined::Fresh => return Ok(attached),
            Joined::Recovered(_) => "recovered",
            Joined::Gap(reason) => reason.as_str(),
        };
        self.metrics.recoveries_total.with_label_values(&[outcome]).inc();
        Ok(attached)
    }

    /// Joins a client at once, if nothing has to be waited for: the channel is live, and the client starts at its head or
    /// where the ring goes back to. Everything else is for [`Hub::attach`].
    pub(crate) fn attach_now(
        &self,
        channel: &Channel,
        from: From,
        handle: &Arc<Handle>,
        index: u32,
    ) -> Option<Attached> {
        let local = self.find(channel)?;
        let attached = place(&local, handle, index)?;
        let cursor = match (from, attached.head) {
            (From::Head, _) => return Some(attached),
            (From::Position(cursor), Some(_)) => cursor,
            (From::Beginning, Some(head)) => beginning(head),
            (From::Position(_) | From::Beginning, None) | (From::Nonsense(_), _) => return None,
        };
        let publications = served_by_ring(&attached, cursor, self.limits.recovery_limit)?;
        self.metrics.recoveries_total.with_label_values(&["recovered"]).inc();
        Some(Attached { joined: Joined::Recovered(publications), ..attached })
    }

    async fn join(
        self: &Arc<Self>,
        channel: &Channel,
        from: From,
        handle: &Arc<Handle>,
        index: u32,
    ) -> Result<Attached, AttachError> {
        let interest = self.interest(channel).ok_or(AttachError::UnknownNamespace)?;
        let local = &interest.0;
        let reads = local.state().reads();
        let (mut retries, mut alone) = (0, false);
        loop {
            self.ready(&interest).await;
            let Some(attached) = place(local, handle, index) else { continue };
            let (cursor, head) = match (from, attached.head) {
                (From::Head, _) => return Ok(attached),
                // Without a log there are no positions: nothing tells what was missed.
                (_, None) => return Ok(Attached { joined: Joined::Gap(GapReason::BadPosition), ..attached }),
                (From::Nonsense(reason), _) => return Ok(Attached { joined: Joined::Gap(reason), ..attached }),
                (From::Position(cursor), Some(head)) => (cursor, head),
                (From::Beginning, Some(head)) => (beginning(head), head),
            };
            if let Some(publications) = served_by_ring(&attached, cursor, self.limits.recovery_limit) {
                return Ok(Attached { joined: Joined::Recovered(publications), ..attached });
            }
            if resume::needs_repair_first(cursor, head) && !local.state().verified_after(reads) {
                drop(attached);
                self.suspect(local);
                continue;
            }
            let (view, shared) = self.resume_view(local, cursor.offset, alone).await?;
            // The read may have been begun by somebody else, before this place was taken; what came since is in the ring.
            let (target, newer) = match served_by_ring(&attached, view.top, self.limits.recovery_limit) {
                Some(newer) => (view.top, newer),
                // Or it is not: then the view is too old.
                None if shared && !view.on_the_line(head) => {
                    alone = true;
                    drop(attached);
                    continue;
                }
                None => (head, Vec::new()),
            };
            let decision = match from {
                // The part that the ring adds may have begun another epoch.
                From::Beginning if target.epoch != head.epoch => Decision::Gap(GapReason::UnknownEpoch),
                From::Beginning => resume::decide_from_beginning(target, &view, self.limits.recovery_limit),
                _ => resume::decide(cursor, target, &view, self.limits.recovery_limit),
            };
            let mut publications = match decision {
                Decision::CaughtUp => Vec::new(),
                Decision::ServeFrom(range) => view.entries[range]
                    .iter()
                    .map(|(offset, publication)| (view.position_of(*offset), publication.clone()))
                    .collect(),
                // A read that somebody else began may be older than the line of this cursor: ask for itself.
                Decision::Gap(GapReason::UnknownEpoch | GapReason::Truncated) if shared => {
                    alone = true;
                    drop(attached);
                    continue;
                }
                Decision::Gap(reason) => return Ok(Attached { joined: Joined::Gap(reason), ..attached }),
                Decision::Retry if retries < MAX_RETRIES => {
                    retries += 1;
                    drop(attached);
                    self.suspect(local);
                    continue;
                }
                Decision::Retry => return Ok(Attached { joined: Joined::Gap(GapReason::UnknownEpoch), ..attached }),
            };
            publications.extend(newer);
            // Those that came since the read may have displaced its oldest in the log.
            if shared && publications.len() > local.shared.namespace.history_size as usize {
                alone = true;
                drop(attached);
                continue;
            }
            let joined = if publications.len() > self.limits.recovery_limit {
                Joined::Gap(GapReason::Limit)
            } else {
                Joined::Recovered(publications)
            };
            return Ok(Attached { joined, ..attached });
        }
    }

    /// Waits until the channel's stream is live.
    async fn ready(self: &Arc<Self>, interest: &Interest) {
        let local = &interest.0;
        loop {
            let changed = {
                let mut state = local.state();
                if state.ready() {
                    return;
                }
                state.changed()
            };
            self.repair(local);
            changed.await;
        }
    }

    fn suspect(self: &Arc<Self>, local: &Arc<LocalChannel>) {
        if let Some(sequencer) = &mut local.state().sequencer {
            sequencer.suspect();
        }
        self.repair(local);
    }

    /// A view of the log after an offset (or an earlier one), and whether its read was begun by somebody else. Everybody who
    /// asks for the same while it is read and shortly after shares one read, unless they insist on their own.
    async fn resume_view(
        self: &Arc<Self>,
        local: &Arc<LocalChannel>,
        offset: u64,
        alone: bool,
    ) -> Result<(Arc<LogView>, bool), BrokerError> {
        let key = (local.name.clone(), offset);
        let (read, shared) = {
            let mut reads = self.resumes.lock();
            let serves = |kept: &&Kept| kept.offset <= offset && kept.fresh() && !alone;
            if let Some(kept) = reads.kept.get(&key.0).filter(serves) {
                return Ok((kept.view.clone(), true));
            }
            match reads.under_way.get(&key) {
                Some(read) if !alone => (read.clone(), true),
                _ => {
                    let read = self.begin_read(local.clone(), key.clone());
                    reads.under_way.insert(key, read.clone());
                    (read, false)
                }
            }
        };
        read.await.map(|view| (view, shared))
    }

    /// Begins a read in a task of its own, which ends even if all who wait for it have gone.
    fn begin_read(self: &Arc<Self>, local: Arc<LocalChannel>, key: ReadKey) -> SharedRead {
        let hub = self.clone();
        // One more than may be served shows whether there are more.
        let limit = PageLimit::entries(self.limits.recovery_limit + 1);
        let read = self.tracker.spawn(async move {
            let offset = key.1;
            let under_way = UnderWay { hub, key };
            let retention = local.shared.namespace.retention();
            under_way.hub.metrics.resume_reads_total.inc();
            let began = Instant::now();
            let view = Arc::new(under_way.hub.view(&local.name, retention, Some(offset), limit).await?);
            under_way.hub.resumes.keep(&under_way.key, &view, began);
            Ok(view)
        });
        read.map(|done| done.unwrap_or_else(|error| Err(BrokerError::Unavailable(error.to_string())))).boxed().shared()
    }
}

/// Takes a read out of the list of those under way, however it ends.
struct UnderWay {
    hub: Arc<Hub>,
    key: ReadKey,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.hub.resumes.lock().under_way.remove(&self.key);
    }
}

/// Takes a place at the head, in the channel's turn; `None` if the channel is not live.
fn place(local: &Arc<LocalChannel>, handle: &Arc<Handle>, index: u32) -> Option<Attached> {
    let mut state = local.state();
    if state.dead || !state.ready() {
        return None;
    }
    let head = state.head();
    let next = local.ring().head();
    let attachment = Attachment::new(local, &mut state, handle.clone(), index);
    Some(Attached { attachment, next, head, joined: Joined::Fresh })
}

/// Before the first publication of the head's epoch. The ring's positions prove the epoch of each of its publications.
fn beginning(head: Position) -> Position {
    Position { epoch: head.epoch, offset: 0 }
}

/// What the ring alone proves about the publications between a cursor and the place just taken. Nothing about those that
/// the log has dropped: it decides.
fn served_by_ring(attached: &Attached, cursor: Position, limit: usize) -> Option<Vec<(Position, Arc<Publication>)>> {
    let channel = &attached.attachment.channel;
    let retention = channel.shared.namespace.retention();
    // Entries may have come since the place was taken; those are delivered live.
    let publications = channel.ring().since(cursor, attached.head, attached.next, retention, Instant::now())?;
    (publications.len() <= limit).then_some(publications)
}
