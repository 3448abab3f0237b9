//! Long and short polling: stateless, with a cursor that the client holds.
//!
//! Each poll joins the channels at the cursor (live feed first, then what was missed, so nothing falls between), answers
//! at once if there is anything to tell, and waits otherwise. The same cursor may be sent any number of times to any
//! node. A channel stays subscribed for a while after a poll, so the next one finds its publications in the ring.

use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fanway_protocol::codec::json;
use futures_util::future::join_all;

use super::core::{Core, Output, OwnBytes, Transport};
use super::resume_points::{ResumePoint, share};
use super::subscription::Subscription;
use crate::attach::{AttachError, From, Joined, Terms};
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
    /// Where to go on.
    pub cursor: String,
    /// The node is on its way out: better ask again a little later.
    pub draining: bool,
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
    identity: &Identity,
    points: &[ResumePoint],
    wait: Duration,
) -> Result<PollAnswer, PollError> {
    let now = Instant::now();
    let wait = identity.left(hub.limits.expiry_grace).map_or(wait, |left| wait.min(left));
    let until = if points.iter().any(|point| point.fresh) { now } else { now + wait };
    let output = Output {
        transport: Transport::Poll,
        encoding: hub.built_in.list_items,
        own_bytes: OwnBytes::None,
        announces_gaps: true,
    };
    let mut core = Core::new(hub.clone(), output, Handle::by_task(), now, until);
    core.identify(identity);
    let deadline = now + hub.limits.command_timeout;
    let terms = Terms { missed: usize::MAX, first_page: share(points) };
    let joins = points.iter().enumerate().map(|(index, point)| {
        let handle = core.handle.clone();
        async move { hub.attach(&point.channel, point.from, &handle, index as u32, Some(deadline), terms).await }
    });
    let attached = join_all(joins).await;
    let mut answer = PollAnswer::default();
    for (index, (point, attached)) in points.iter().zip(attached).enumerate() {
        let attached = attached.map_err(|error: AttachError| PollError(error.to_string()))?;
        let (mut sub, joined) = Subscription::new(attached);
        match (joined, point.from) {
            (Joined::Recovered(page), From::Position(cursor)) => {
                sub.position = Some(cursor);
                sub.take_page(page, None, now);
            }
            (Joined::Gap(reason), _) => {
                json::write_gap(&point.channel, reason, sub.position, &mut answer.gaps);
                answer.gaps.push(b',');
            }
            _ => {}
        }
        core.insert(index as u32, sub);
    }
    // Any of them may be the first: the next poll, which knows nothing of this one, must not favour the same.
    core.begin_catch_ups(rand::random_range(0..points.len().max(1)), now);
    if core.is_behind() {
        core.schedule(deadline);
    }
    let mut published = Published::default();
    std::future::poll_fn(|cx| {
        let now = Instant::now();
        core.handle.register(cx.waker());
        let taken = core.take();
        if taken.mail {
            core.read_mail(Some(identity));
        }
        core.poll_catch_ups(now);
        let whole = with_turn(|turn| {
            core.gather(turn);
            let taken_bytes = collect(turn, &mut published, &mut answer);
            core.wrote(turn, taken_bytes, now)
        });
        let closing = core.closing.or(taken.close);
        answer.draining |= closing == Some(CloseReason::Shutdown);
        let told = !answer.publications.is_empty() || !answer.gaps.is_empty();
        let full = !whole || published.bytes >= TURN_BYTES || !core.is_behind();
        // Who is behind is not told that there is nothing.
        let end = if core.is_behind() { deadline } else { until };
        if told && full || closing.is_some() || now >= end {
            return Poll::Ready(());
        }
        if taken.tick {
            core.schedule(end);
        }
        Poll::Pending
    })
    .await;
    let told = !answer.publications.is_empty() || !answer.gaps.is_empty();
    if !told && !answer.draining && (core.is_behind() || core.closing == Some(CloseReason::Slow)) {
        return Err(PollError("what was missed could not be read in time".to_owned()));
    }
    answer.cursor = core.cursor();
    // The commas after the last items.
    answer.publications.pop();
    answer.gaps.pop();
    Ok(answer)
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
