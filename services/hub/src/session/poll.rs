//! Long and short polling: stateless, with a cursor that the client holds.
//!
//! Each poll joins the channels at the cursor (live feed first, then what was missed, so nothing falls between), answers
//! at once if there is anything to tell, and waits otherwise. The same cursor may be sent any number of times to any
//! node. A channel stays subscribed for a while after a poll, so the next one finds its publications in the ring.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use fanway_protocol::codec::json;

use super::answer::{Collected, PollAnswer};
use super::core::Output;
use super::disconnect::Disconnect;
use super::join::Joins;
use super::protocol::{Protocol, Session};
use super::resume_points::{Resume, ResumePoint, share};
use super::transport::Transport;
use crate::attach::{AttachError, Terms};
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::quota::Payer;
use crate::turn::{TURN_BYTES, with_turn};

/// Longest wait for the memory of an answer, in command timeouts.
const MEMORY_WAIT: u32 = 2;

/// Reason for which a poll could not be answered.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// A channel could not be joined.
    #[error("the channels could not be joined: {0}")]
    Attach(#[from] AttachError),
    /// What was missed could not be had in time.
    #[error("there was no memory for what was missed, or it was not read in time")]
    Late,
}

/// Answers one poll of channels that the caller has authorised and had admitted ([`Hub::admit`]). With a `wait` of zero answers at once, and likewise if a
/// channel is new to the client: it should have a position there before it waits. Nobody waits for longer than their
/// credential and the grace after it last.
pub async fn poll(
    hub: &Arc<Hub>,
    identity: Identity,
    resume: &Resume,
    wait: Duration,
) -> Result<PollAnswer, PollError> {
    let mut session = PollSession::new(hub.clone(), identity, &resume.points, wait);
    std::future::poll_fn(|cx| session.poll_answer(cx)).await?;
    Ok(session.into_answer(resume))
}

/// Polling, from the side of one poll: its output is an answer, which the poll ends with.
struct Polling {
    identity: Identity,
    /// Channels that are being joined, until they are.
    joins: Joins,
    /// End of waiting for something to answer.
    until: Instant,
    /// End of reading what was missed.
    deadline: Instant,
    /// End of waiting for memory. Set by the first wait and not extended by later ones.
    memory_deadline: Option<Instant>,
    /// End of the credential and the grace after it, but not before the poll had time to be answered at once. Nothing is
    /// waited for beyond it.
    expiry: Option<Instant>,
    collected: Collected,
}

/// A session of one poll.
type PollSession = Session<Polling>;

impl Protocol for Polling {
    /// There are no last bytes.
    const CLOSE_TIMEOUT: Duration = Duration::ZERO;

    fn identity(&self) -> Option<&Identity> {
        Some(&self.identity)
    }

    /// A poll has no input besides its request.
    fn on_input(_session: &mut PollSession, _input: &mut [u8], _now: Instant) {}

    /// A poll is answered also if it must end: joining is a part of [`PollSession::poll_answer`].
    fn poll(_session: &mut PollSession, _cx: &mut Context<'_>, _now: Instant) {}

    fn on_tick(session: &mut PollSession, _now: Instant) {
        session.core.schedule(session.end_of_wait());
    }

    fn on_close(session: &mut PollSession, reason: CloseReason) {
        let answer = &mut session.protocol.collected.answer;
        answer.draining = reason == CloseReason::Shutdown;
        answer.disconnect = Disconnect::permanent(reason);
    }
}

impl PollSession {
    fn new(hub: Arc<Hub>, identity: Identity, points: &[ResumePoint], wait: Duration) -> Self {
        let now = Instant::now();
        let left = identity.left(hub.limits.expiry_grace);
        let wait = left.map_or(wait, |left| wait.min(left));
        let until = if points.iter().any(|point| point.fresh) { now } else { now + wait };
        let deadline = now + hub.limits.command_timeout;
        // A credential that was accepted in its last moment is answered all the same.
        let expiry = left.and_then(|left| now.checked_add(left)).map(|end| end.max(deadline));
        let output = Output::new(Transport::POLL, hub.built_in.list_items);
        let protocol = Polling {
            identity,
            joins: Joins::default(),
            until,
            deadline,
            memory_deadline: None,
            expiry,
            collected: Collected::default(),
        };
        let mut session = Self::open(hub, Handle::by_task(), output, protocol, now, until);
        session.core.identify(&session.protocol.identity);
        let terms = Terms { missed: usize::MAX, first_page: share(points), payer: Payer::Nobody };
        let joins = (0..).zip(points);
        let joins = joins.map(|(index, ResumePoint { channel, from, .. })| {
            session.core.join_within(channel, *from, index, Some(deadline), terms)
        });
        session.protocol.joins = Joins::new(joins);
        session
    }

    /// Subscribes the channels that were joined.
    fn joined(&mut self, now: Instant) -> Result<(), PollError> {
        for join in std::mem::take(&mut self.protocol.joins) {
            let (channel, index) = (join.channel().clone(), join.index());
            let gap = self.core.subscribe(join, now)?;
            if let Some(reason) = gap {
                let gaps = &mut self.protocol.collected.answer.gaps;
                json::write_gap(&channel, reason, self.core.position(index), gaps);
                gaps.push(b',');
            }
        }
        // The next poll, which does not know this one's order, must not favour the same channel.
        self.core.shuffle_catch_ups();
        if self.core.is_behind() {
            self.core.schedule(self.protocol.deadline);
        }
        Ok(())
    }

    /// End of waiting. A client for which there is something does not receive an empty answer before the later deadlines.
    fn end_of_wait(&self) -> Instant {
        let Polling { collected, until, deadline, memory_deadline, expiry, .. } = &self.protocol;
        let end = match memory_deadline.filter(|_| collected.waits()) {
            Some(memory) => memory,
            None if self.core.is_behind() => *deadline,
            None => *until,
        };
        earlier(end, *expiry)
    }

    /// Gathers a batch for the answer. Returns whether the answer takes all of it. If it has no memory for anything, it waits
    /// for that, and holds nothing meanwhile.
    fn collect(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        loop {
            let whole = with_turn(|turn| {
                self.gather(turn);
                let taken = self.protocol.collected.collect(turn, &self.core.hub.answers);
                if self.protocol.collected.waits() {
                    let deadline = now + self.core.hub.limits.command_timeout * MEMORY_WAIT;
                    self.protocol.memory_deadline.get_or_insert(deadline);
                }
                self.wrote(turn, taken, now)
            });
            if !self.protocol.collected.waits() {
                return whole;
            }
            self.core.forget_pages();
            // The grant may be there at once: less is free than the batch needs, but enough for its first entry.
            if self.poll_memory(cx, now).is_pending() {
                return whole;
            }
        }
    }

    /// Waits for the memory of the answer, if that is short. What was rolled back meanwhile has its own time to be read.
    fn poll_memory(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<()> {
        if ready!(self.protocol.collected.poll_memory(cx)) {
            self.protocol.deadline = now + self.core.hub.limits.command_timeout;
            self.core.schedule(self.end_of_wait());
        }
        Poll::Ready(())
    }

    /// Collects what the channels have. `Ready` once the answer is complete, or cannot be given.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PollError>> {
        let now = Instant::now();
        if self.protocol.collected.waits() {
            // It is blocked by missing memory, not by its client: that is no stall.
            self.core.stuck(true, true, now);
        }
        self.poll(cx, now);
        if !self.protocol.joins.is_empty() {
            if self.protocol.collected.answer.disconnect.is_some() {
                // The broker, which may be away, has nothing to add.
                return Poll::Ready(Ok(()));
            }
            ready!(self.protocol.joins.poll(&self.core.hub.metrics, cx));
            self.joined(now)?;
            self.core.poll_catch_ups(now);
        }
        let mut whole = true;
        if self.poll_memory(cx, now).is_ready() {
            whole = self.collect(cx, now);
        }
        let behind = self.core.is_behind();
        let full = !whole || self.protocol.collected.bytes >= TURN_BYTES || !behind;
        let Collected { answer, .. } = &self.protocol.collected;
        let waits = self.protocol.collected.waits();
        let closing = self.core.closing();
        if !answer.is_empty() && full || closing.is_some() || now >= self.end_of_wait() {
            let says_why = answer.draining || answer.disconnect.is_some();
            let unknown = answer.is_empty() && !says_why && (behind || waits || closing == Some(CloseReason::Slow));
            return Poll::Ready(if unknown { Err(PollError::Late) } else { Ok(()) });
        }
        Poll::Pending
    }

    fn into_answer(mut self, resume: &Resume) -> PollAnswer {
        let mut answer = std::mem::take(&mut self.protocol.collected).into_answer(&self.core.hub.answers);
        answer.cursor = match self.protocol.joins.is_empty() {
            true => self.core.cursor(),
            // It has joined nothing: its own cursor holds.
            false => resume.id.clone().unwrap_or_default(),
        };
        answer
    }
}

/// The earlier of a deadline and another one, if there is that.
fn earlier(deadline: Instant, other: Option<Instant>) -> Instant {
    other.map_or(deadline, |other| deadline.min(other))
}

#[cfg(test)]
mod tests;
