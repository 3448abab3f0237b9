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
use crate::attach::Terms;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::turn::{TURN_BYTES, with_turn};

/// Longest wait for the memory of an answer, in command timeouts.
const MEMORY_WAIT: u32 = 2;

/// Why a poll could not be answered.
#[derive(Debug, thiserror::Error)]
#[error("the channels could not be joined: {0}")]
pub struct PollError(String);

/// Answers one poll of channels that the caller has authorised. With a `wait` of zero answers at once, and likewise if a
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
        let wait = identity.left(hub.limits.expiry_grace).map_or(wait, |left| wait.min(left));
        let until = if points.iter().any(|point| point.fresh) { now } else { now + wait };
        let deadline = now + hub.limits.command_timeout;
        let output = Output::new(Transport::POLL, hub.built_in.list_items);
        let protocol = Polling { identity, joins: Joins::default(), until, deadline, collected: Collected::default() };
        let mut session = Self::open(hub, Handle::by_task(), output, protocol, now, until);
        session.core.identify(&session.protocol.identity);
        let terms = Terms { missed: usize::MAX, first_page: share(points) };
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
            let gap = self.core.subscribe(join, now).map_err(|error| PollError(error.to_string()))?;
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

    /// End of waiting: a client for whom there is something is not answered that there is nothing.
    fn end_of_wait(&self) -> Instant {
        let Polling { collected, deadline, until, .. } = &self.protocol;
        if self.core.is_behind() || collected.waits() { *deadline } else { *until }
    }

    /// Gathers a batch for the answer. Returns whether the answer takes all of it. If it has no memory for anything, it waits
    /// for that, and holds nothing meanwhile.
    fn collect(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let whole = with_turn(|turn| {
            self.gather(turn);
            let taken = self.protocol.collected.collect(turn, &self.core.hub.answers);
            if self.protocol.collected.waits() {
                self.protocol.deadline = now + self.core.hub.limits.command_timeout * MEMORY_WAIT;
            }
            self.wrote(turn, taken, now)
        });
        if self.protocol.collected.waits() {
            self.core.forget_pages();
            if self.protocol.collected.poll_memory(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        whole
    }

    /// Collects what the channels have. `Ready` once the answer is complete, or cannot be given.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PollError>> {
        let now = Instant::now();
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
        if let Poll::Ready(waited) = self.protocol.collected.poll_memory(cx) {
            if waited {
                self.protocol.deadline = now + self.core.hub.limits.command_timeout;
            }
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
            let late = || PollError("there was no memory for what was missed, or it was not read in time".to_owned());
            return Poll::Ready(if unknown { Err(late()) } else { Ok(()) });
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::task::Waker;

    use fanway_protocol::Channel;

    use super::*;
    use crate::Limits;
    use crate::testing::hub;

    /// No task of the hub runs meanwhile: the channel is not joined.
    #[tokio::test]
    async fn a_client_that_must_not_come_back_does_not_wait_for_the_broker() {
        let hub = hub(Limits::default());
        let own = "2~x7wNabcdefgh0123456789ab.3";
        for cursor in [Some(own), None] {
            let resume = Resume::new(hub.namespaces(), vec![Channel::new("news").unwrap()], cursor);
            let wait = Duration::from_secs(60);
            let mut session = PollSession::new(hub.clone(), Identity::default(), &resume.points, wait);
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(session.poll_answer(cx).is_pending());
            session.close(CloseReason::Disconnected);
            assert!(matches!(session.poll_answer(cx), Poll::Ready(Ok(()))));
            let answer = session.into_answer(&resume);
            assert_eq!(answer.cursor, cursor.unwrap_or_default());
            assert_eq!(answer.disconnect, Some(CloseReason::Disconnected.into()));
        }
    }
}
