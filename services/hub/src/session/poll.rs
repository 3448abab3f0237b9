//! Long and short polling: stateless, with a cursor that the client holds.
//!
//! Each poll joins the channels at the cursor (live feed first, then what was missed, so nothing falls between), answers
//! at once if there is anything to tell, and waits otherwise. The same cursor may be sent any number of times to any
//! node. A channel stays subscribed for a while after a poll, so the next one finds its publications in the ring.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use fanway_protocol::codec::json;

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
use crate::turn::{TURN_BYTES, Turn, with_turn};

/// Answer to a poll.
#[derive(Debug, Default)]
pub struct PollAnswer {
    /// Items of a JSON list: objects of `json::write_event` with commas between, in order within each channel.
    pub publications: Vec<u8>,
    /// Likewise objects of `json::write_gap`; each lies before all `publications` of its channel.
    pub gaps: Vec<u8>,
    /// Where to go on. Empty only for a client that had no cursor and must not poll again.
    pub cursor: String,
    /// The node is on its way out: better ask again a little later.
    pub draining: bool,
    /// The client must not poll again by itself.
    pub disconnect: Option<Disconnect>,
}

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
    answer: PollAnswer,
    published: Published,
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
        let answer = &mut session.protocol.answer;
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
        let protocol = Polling {
            identity,
            joins: Joins::default(),
            until,
            deadline,
            answer: PollAnswer::default(),
            published: Published::default(),
        };
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
                let gaps = &mut self.protocol.answer.gaps;
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

    /// End of waiting: a client that is behind is not answered that there is nothing.
    fn end_of_wait(&self) -> Instant {
        if self.core.is_behind() { self.protocol.deadline } else { self.protocol.until }
    }

    /// Collects what the channels have. `Ready` once the answer is complete, or cannot be given.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PollError>> {
        let now = Instant::now();
        self.poll(cx, now);
        if !self.protocol.joins.is_empty() {
            if self.protocol.answer.disconnect.is_some() {
                // The broker, which may be away, has nothing to add.
                return Poll::Ready(Ok(()));
            }
            ready!(self.protocol.joins.poll(&self.core.hub.metrics, cx));
            self.joined(now)?;
            self.core.poll_catch_ups(now);
        }
        let whole = with_turn(|turn| {
            self.gather(turn);
            let Polling { answer, published, .. } = &mut self.protocol;
            let taken = collect(turn, published, answer);
            self.wrote(turn, taken, now)
        });
        let behind = self.core.is_behind();
        let full = !whole || self.protocol.published.bytes >= TURN_BYTES || !behind;
        let answer = &self.protocol.answer;
        let closing = self.core.closing();
        if !answer.is_empty() && full || closing.is_some() || now >= self.end_of_wait() {
            let says_why = answer.draining || answer.disconnect.is_some();
            let unknown = answer.is_empty() && !says_why && (behind || closing == Some(CloseReason::Slow));
            let late = || PollError("what was missed could not be read in time".to_owned());
            return Poll::Ready(if unknown { Err(late()) } else { Ok(()) });
        }
        Poll::Pending
    }

    fn into_answer(mut self, resume: &Resume) -> PollAnswer {
        let mut answer = std::mem::take(&mut self.protocol.answer);
        answer.cursor = match self.protocol.joins.is_empty() {
            true => self.core.cursor(),
            // It has joined nothing: its own cursor holds.
            false => resume.id.clone().unwrap_or_default(),
        };
        // The commas after the last items.
        answer.publications.pop();
        answer.gaps.pop();
        answer
    }
}

impl PollAnswer {
    fn is_empty(&self) -> bool {
        self.publications.is_empty() && self.gaps.is_empty()
    }
}

/// Publications that an answer has.
#[derive(Default)]
struct Published {
    /// Their channels, a bit each.
    channels: u64,
    bytes: usize,
}

/// Sorts the segments of a turn into the lists of the answer. Returns the bytes taken: a gap that comes after publications
/// of its channel is left for the next poll, so that a gap in an answer always lies before the publications.
fn collect(turn: &Turn, published: &mut Published, answer: &mut PollAnswer) -> usize {
    let mut start = turn.owed;
    for piece in &turn.pieces {
        let channel = 1u64 << (piece.sub % 64);
        if piece.gap && published.channels & channel != 0 {
            return start;
        }
        let list = if piece.gap { &mut answer.gaps } else { &mut answer.publications };
        list.extend_from_slice(&turn.bytes[start..piece.end]);
        if !piece.gap {
            published.channels |= channel;
            published.bytes += piece.end - start;
        }
        start = piece.end;
    }
    turn.bytes.len()
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
