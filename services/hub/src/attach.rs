//! Joining a client to a channel's stream: at the head, or at the position it has reached.
//!
//! The algorithm is the one of [`crate::resume`]. The place in the ring and the head are taken in one turn of the
//! channel, so everything after the head is in the ring from then on, and what lies between cursor and head is served
//! from the ring or read from the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{BrokerError, PageLimit};
use fanway_protocol::{Channel, GapReason, Position, Publication};

use crate::channel::{Attachment, Interest, LocalChannel};
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::pages::{Grant, PAGE_BYTES, PAGE_LIFE, Page, page};
use crate::quota::{Limited, Payer};
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
#[derive(Debug)]
pub enum Joined {
    /// It joined at the head.
    Fresh,
    /// The first page of what comes after its position.
    Recovered(Page),
    /// It joined at the head, and what lies between is lost to it.
    Gap(GapReason),
}

/// Pauses between reads for a client that is behind, while the log cannot be read.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How far a subscription has come that falls behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reached {
    pub(crate) position: Position,
    /// See [`crate::session::subscription::Subscription::start`].
    pub(crate) start: u64,
}

/// A client joined to a channel.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) attachment: Attachment,
    /// Sequence number in the ring of the first entry to deliver.
    pub(crate) next: u64,
    /// The head at joining; `None` for channels without history.
    pub(crate) head: Option<Position>,
    /// See [`crate::session::subscription::Subscription::start`].
    pub(crate) start: u64,
    pub(crate) joined: Joined,
}

/// What a client that joins may be given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Most publications that it may have missed; more are a gap.
    pub(crate) missed: usize,
    /// Bytes of the first page, at most [`PAGE_BYTES`]. Where several channels are joined at once each has a part, and one
    /// publication that does not fit waits for the next page.
    pub(crate) first_page: usize,
    /// Whose quota the channel counts against if this node did not have it.
    pub(crate) payer: Payer,
}

/// Reason for which a client could not join a channel.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AttachError {
    /// No namespace of this node has the channel.
    #[error("unknown namespace")]
    UnknownNamespace,
    /// The broker could not be read.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The channel's stream was not live in time.
    #[error("the channel did not become ready in time")]
    Timeout,
    /// This node does not have the channel, and the client has used up its quota of such channels.
    #[error("too many new channels")]
    Limited(Limited),
    /// The node is stopping, and grants no memory for missed publications any more.
    #[error("the node is stopping")]
    Stopping,
}

impl AttachError {
    /// Reason to end a session that cannot do without the channel.
    pub(crate) fn close_reason(&self) -> CloseReason {
        match self {
            Self::Limited(_) => CloseReason::TooManyRequests,
            Self::UnknownNamespace | Self::Broker(_) | Self::Timeout | Self::Stopping => CloseReason::Internal,
        }
    }
}

/// A grant without a page, and when it is given back at the latest.
type KeptGrant = (Grant, Instant);

/// A client that joins a channel. While the channel is not live it waits between its attempts, without memory for a page.
struct JoinAttempts<'a> {
    interest: &'a Interest,
    from: From,
    handle: &'a Arc<Handle>,
    index: u32,
    /// Most publications that it may have missed.
    most: usize,
    /// Offset at which the client came to this node, if that was earlier.
    start: Option<u64>,
    /// Number of the channel's newest read of the log when it began.
    reads: u32,
    /// Repairs that it has asked for because the log's view did not fit the channel's head.
    retries: u32,
}

impl<'a> JoinAttempts<'a> {
    fn new(interest: &'a Interest, from: From, handle: &'a Arc<Handle>, index: u32, most: usize) -> Self {
        let reads = interest.0.state().reads();
        Self { interest, from, handle, index, most, start: None, reads, retries: 0 }
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
        terms: Terms,
    ) -> Result<Attached, AttachError> {
        let joining = self.attach_page(channel, from, handle, index, terms);
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

    /// Joins a client with its first page.
    async fn attach_page(
        self: &Arc<Self>,
        channel: &Channel,
        from: From,
        handle: &Arc<Handle>,
        index: u32,
        terms: Terms,
    ) -> Result<Attached, AttachError> {
        let interest = self.interest(channel)?;
        let mut joining = JoinAttempts::new(&interest, from, handle, index, terms.missed);
        loop {
            // No memory is held while the channel cannot be joined, nor by whoever may not be polled for long.
            self.ready(&interest).await;
            let paged = from != From::Head && terms.first_page > 0;
            let grant = paged.then(|| self.pages.try_grant(terms.first_page)).flatten();
            let limit = first_page(terms, grant.is_some());
            let Some(mut attached) = self.try_join(&mut joining, limit).await? else { continue };
            if let (Joined::Recovered(page), Some(grant)) = (&mut attached.joined, grant)
                && page.charge(&self.pages, grant).is_err()
            {
                page.forget();
            }
            return Ok(attached);
        }
    }

    /// Joins a client at once, if nothing has to be waited for: the channel is live, and the client starts at its head or
    /// where the ring goes back to. Everything else is for [`Hub::attach`].
    pub(crate) fn attach_now(
        &self,
        channel: &Channel,
        from: From,
        handle: &Arc<Handle>,
        index: u32,
        terms: Terms,
    ) -> Option<Attached> {
        let local = self.find(channel)?;
        let attached = place(&local, handle, index)?;
        let cursor = match (from, attached.head) {
            (From::Head, _) => return Some(attached),
            (From::Position(cursor), Some(_)) => cursor,
            (From::Beginning, Some(head)) => beginning(head),
            (From::Position(_) | From::Beginning, None) | (From::Nonsense(_), _) => return None,
        };
        let missed = served_by_ring(&attached, cursor, terms.missed)?;
        let grant = self.pages.try_grant(terms.first_page);
        let mut page = Page::of(missed, true, first_page(terms, grant.is_some()));
        if grant.is_some_and(|grant| page.charge(&self.pages, grant).is_err()) {
            page.forget();
        }
        self.metrics.recoveries_total.with_label_values(&["recovered"]).inc();
        Some(Attached { joined: Joined::Recovered(page), start: cursor.offset, ..attached })
    }

    /// Joins a client anew that is behind, at the position it has reached. The page is at least one publication. Where the
    /// log cannot be read it tries again until it can.
    ///
    /// Waits in turn for memory for the page, however long that takes: pages that clients do not take are dropped, so that
    /// the turn comes, and a client that was closed instead would come back to the end of the same queue.
    pub(crate) async fn next_page(
        self: &Arc<Self>,
        channel: &Channel,
        reached: Reached,
        handle: &Arc<Handle>,
        index: u32,
        mut limit: PageLimit,
    ) -> Result<Attached, AttachError> {
        let mut pause = FIRST_PAUSE;
        let interest = self.interest(channel)?;
        let begin = || JoinAttempts {
            start: Some(reached.start),
            ..JoinAttempts::new(&interest, From::Position(reached.position), handle, index, usize::MAX)
        };
        let mut joining = begin();
        let mut kept = None;
        loop {
            kept = self.ready_with(&interest, kept).await;
            let (grant, until) = match kept.take() {
                Some(kept) => kept,
                None => {
                    let grant = self.pages.grant(limit.bytes).await.ok_or(AttachError::Stopping)?;
                    (grant, Instant::now() + PAGE_LIFE)
                }
            };
            let attempt = tokio::time::timeout(self.limits.command_timeout, self.try_join(&mut joining, limit)).await;
            let mut attached = match attempt.unwrap_or(Err(AttachError::Timeout)) {
                Ok(Some(attached)) => attached,
                // Clients that resume ahead of the stream make the channel verify its log again and again: a subscription
                // that gave its grant back at once would only ever be queued.
                Ok(None) => {
                    kept = Some((grant, until));
                    continue;
                }
                Err(_) => {
                    drop(grant);
                    tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    joining = begin();
                    continue;
                }
            };
            match &mut attached.joined {
                Joined::Fresh => return Ok(attached),
                Joined::Gap(reason) => {
                    self.metrics.recoveries_total.with_label_values(&[reason.as_str()]).inc();
                    return Ok(attached);
                }
                Joined::Recovered(page) => match page.charge(&self.pages, grant) {
                    Ok(()) => return Ok(attached),
                    // One large publication: again, with memory for it.
                    Err(needed) => limit.bytes = needed,
                },
            }
        }
    }

    /// Tries to join a client. `None` if the channel's stream is not live: it is to be tried again when it is.
    async fn try_join(
        self: &Arc<Self>,
        joining: &mut JoinAttempts<'_>,
        limit: PageLimit,
    ) -> Result<Option<Attached>, AttachError> {
        let JoinAttempts { interest: Interest(local), from, handle, index, most, start, reads, retries } = joining;
        let (from, most) = (*from, *most);
        let mut alone = false;
        loop {
            let Some(attached) = place(local, handle, *index) else { return Ok(None) };
            let joined = |joined, attached| Ok(Some(Attached { joined, ..attached }));
            let (cursor, head) = match (from, attached.head) {
                (From::Head, _) => return Ok(Some(attached)),
                // Without a log there are no positions: nothing tells what was missed.
                (_, None) => return joined(Joined::Gap(GapReason::BadPosition), attached),
                (From::Nonsense(reason), _) => return joined(Joined::Gap(reason), attached),
                (From::Position(cursor), Some(head)) => (cursor, head),
                (From::Beginning, Some(head)) => (beginning(head), head),
            };
            let attached = Attached { start: start.unwrap_or(cursor.offset), ..attached };
            // The ring may have dropped the notice of a loss that the client has passed over.
            let ring_serves = start.is_none() || !local.state().has_lost();
            if let Some(missed) = served_by_ring(&attached, cursor, most).filter(|_| ring_serves) {
                return joined(Joined::Recovered(Page::of(missed, true, limit)), attached);
            }
            if resume::needs_repair_first(cursor, head) && !local.state().verified_after(*reads) {
                self.suspect(local);
                return Ok(None);
            }
            let (view, shared) = self.resume_view(local, cursor.offset, limit, alone).await?;
            // The read may have been begun by somebody else, before this place was taken; what came since is in the ring.
            let (target, newer) = match served_by_ring(&attached, view.top, usize::MAX) {
                Some(newer) => (view.top, newer),
                // Or it is not: then the view is too old.
                None if shared && !view.on_the_line(head) => {
                    alone = true;
                    continue;
                }
                None => (head, Vec::new()),
            };
            let decision = match from {
                // The part that the ring adds may have begun another epoch.
                From::Beginning if target.epoch != head.epoch => Decision::Gap(GapReason::UnknownEpoch),
                From::Beginning => resume::decide_from_beginning(target, &view, most),
                _ => resume::decide(cursor, attached.start, target, &view, most),
            };
            let (mut missed, whole) = match decision {
                Decision::CaughtUp => (Vec::new(), true),
                Decision::Serve { entries, whole } => {
                    let entries = view.entries[entries].iter();
                    let missed = entries.map(|(offset, missed)| (view.position_of(*offset), missed.clone()));
                    (missed.collect::<Vec<_>>(), whole)
                }
                // A read that somebody else began may be older than the line of this cursor: ask for itself.
                Decision::Gap(GapReason::UnknownEpoch | GapReason::Truncated) if shared => {
                    alone = true;
                    continue;
                }
                Decision::Gap(reason) => {
                    // Its own cursor tells what it knows to be lost, and no notice has to repeat it.
                    let known = match (reason, view.ledger.end_of(cursor.epoch, view.top.offset)) {
                        (GapReason::Truncated, Some(end)) if cursor.offset > end => end + 1,
                        _ => 0,
                    };
                    return joined(Joined::Gap(reason), Attached { start: head.offset.max(known), ..attached });
                }
                Decision::Retry if *retries < MAX_RETRIES => {
                    *retries += 1;
                    self.suspect(local);
                    return Ok(None);
                }
                Decision::Retry => {
                    return joined(Joined::Gap(GapReason::UnknownEpoch), Attached { start: head.offset, ..attached });
                }
            };
            let missing = head.offset.saturating_sub(cursor.offset);
            // Those that came since the read may have displaced its oldest in the log.
            if shared && missing > local.shared.namespace.history_size.into() {
                alone = true;
                continue;
            }
            if missing > most as u64 {
                return joined(Joined::Gap(GapReason::Limit), Attached { start: head.offset, ..attached });
            }
            if whole {
                missed.extend(newer);
            }
            return joined(Joined::Recovered(Page::of(missed, whole, limit)), attached);
        }
    }

    /// Waits until the channel's stream is live, with a grant until a deadline, and then without it.
    async fn ready_with(self: &Arc<Self>, interest: &Interest, kept: Option<KeptGrant>) -> Option<KeptGrant> {
        if let Some((_, until)) = &kept
            && tokio::time::timeout_at((*until).into(), self.ready(interest)).await.is_ok()
        {
            return kept;
        }
        drop(kept);
        self.ready(interest).await;
        None
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
}

/// Bounds of a first page. Only one that is a client's only one may be a publication that is larger.
fn first_page(terms: Terms, granted: bool) -> PageLimit {
    match granted {
        true if terms.first_page == PAGE_BYTES => page(PAGE_BYTES),
        true => page(terms.first_page).strict(),
        false => page(0).strict(),
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
    let start = head.map_or(0, |head| head.offset);
    Some(Attached { attachment, next, head, start, joined: Joined::Fresh })
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
