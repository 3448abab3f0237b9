//! Answer of a poll while it is collected, and its memory.
//!
//! An answer above [`SMALL_ANSWER`] holds a grant of the node's memory for answers ([`ANSWER_BYTES`]), from when it is
//! collected until the transport has let go of its body. Where that memory is short, polls wait instead of holding their
//! answers:
//! * An answer takes the first entries that fit into what is free, and is complete then. The rest is for the next poll.
//! * If not even the first fits, the poll waits until there is memory for that. Whoever waits longest is served first.
//!   What was gathered is rolled back, pages are dropped and read again later.
//! * A small answer needs no grant, and never waits: it holds about as much as its request and its subscriptions do.
//!
//! A poll that waits for the memory of an answer has none of it, and no page for longer than
//! [`crate::pages::PAGE_LIFE`]. A poll that has the memory of its answer may wait for a page. Nobody with a page waits for
//! one of those, so that the two budgets never wait for each other.

use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::disconnect::Disconnect;
use crate::pages::{Grant, PageBudget};
use crate::turn::{Piece, Turn};

/// Bytes of answers to polls that a node holds. Servers cut clients that do not take large answers the sooner, the more
/// of as many bytes a listener holds.
pub(crate) const ANSWER_BYTES: u64 = 16 * 1024 * 1024;
/// Largest answer that holds no grant.
const SMALL_ANSWER: usize = 16 * 1024;

/// Memory of an answer, given back on drop.
pub type AnswerMemory = Grant;

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
    /// Memory of both lists. To be kept until the client has taken the answer, or cannot any more.
    pub memory: Option<AnswerMemory>,
}

impl PollAnswer {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        self.publications.len() + self.gaps.len()
    }
}

/// Answer that is collected.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) answer: PollAnswer,
    /// Channels of its publications, a bit each.
    channels: u64,
    /// Bytes of its publications.
    pub(super) bytes: usize,
    /// Pending grant for the first entry.
    waiting: Option<BoxFuture<'static, Option<Grant>>>,
}

impl Collected {
    /// Whether nothing can be collected before there is memory.
    pub(super) fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// Waits for memory, if that is short. Ready with true if it was and is not any more.
    pub(super) fn poll_memory(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(waiting) = &mut self.waiting else { return Poll::Ready(false) };
        waiting.poll_unpin(cx).map(|grant| {
            self.answer.memory = grant;
            self.waiting = None;
            true
        })
    }

    /// Sorts the segments of a batch into the lists of the answer. Returns the bytes taken, up to the end of an entry: what
    /// does not fit into memory is left, and a gap that comes after publications of its channel is left for the next poll, so
    /// that a gap in an answer always lies before the publications.
    pub(super) fn collect(&mut self, turn: &Turn, budget: &PageBudget) -> usize {
        let mut start = turn.owed;
        self.reserve(self.answer.len() + turn.bytes.len() - start, budget);
        for piece in &turn.pieces {
            let channel = 1u64 << (piece.sub % 64);
            if piece.gap && self.channels & channel != 0 {
                return start;
            }
            let end = self.fitting(turn, piece, start, budget);
            if end > start {
                let list = if piece.gap { &mut self.answer.gaps } else { &mut self.answer.publications };
                if list.capacity() - list.len() < end - start {
                    list.reserve_exact(turn.bytes.len() - start);
                }
                list.extend_from_slice(&turn.bytes[start..end]);
                if !piece.gap {
                    self.channels |= channel;
                    self.bytes += end - start;
                }
            }
            if end < piece.end {
                if self.answer.is_empty() {
                    let first = turn.entry_ends(piece, start).next().unwrap_or(piece.end);
                    self.wait_for(first - start, budget);
                }
                return end;
            }
            start = end;
        }
        turn.bytes.len()
    }

    /// End of the last entry of a segment that fits into memory; where the segment begins if none does.
    fn fitting(&self, turn: &Turn, piece: &Piece, start: usize, budget: &PageBudget) -> usize {
        let fits = |end: usize| self.fits(self.answer.len() + end - start, budget);
        if fits(piece.end) {
            return piece.end;
        }
        turn.entry_ends(piece, start).take_while(|end| fits(*end)).last().unwrap_or(start)
    }

    /// Lets go of the memory and waits for so much.
    pub(super) fn wait_for(&mut self, bytes: usize, budget: &PageBudget) {
        self.answer.memory = None;
        self.waiting = Some(budget.wait_for(bytes).boxed());
    }

    /// Has memory for an answer of so many bytes, if there is some.
    fn reserve(&mut self, bytes: usize, budget: &PageBudget) {
        if bytes <= SMALL_ANSWER {
            return;
        }
        match &mut self.answer.memory {
            Some(grant) => drop(budget.resize(grant, bytes)),
            memory => *memory = budget.try_cost(bytes),
        }
    }

    fn fits(&self, bytes: usize, budget: &PageBudget) -> bool {
        bytes <= SMALL_ANSWER || self.answer.memory.as_ref().is_some_and(|grant| budget.covers(grant, bytes))
    }

    /// The answer, with no more memory than it needs.
    pub(super) fn into_answer(self, budget: &PageBudget) -> PollAnswer {
        let mut answer = self.answer;
        let bytes = answer.len();
        if bytes <= SMALL_ANSWER {
            answer.memory = None;
        }
        if let Some(grant) = &mut answer.memory {
            budget.resize(grant, bytes);
        }
        // The commas after the last items.
        answer.publications.pop();
        answer.gaps.pop();
        answer
    }
}

#[cfg(test)]
mod tests;
