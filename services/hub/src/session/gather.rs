//! What a session writes at once: gathered from its subscriptions, and given back where the socket did not take it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use fanway_protocol::framing::{chunk, sse};
use fanway_protocol::{Cursor, Position, Publication};

use super::core::{Core, OwnBytes};
use super::subscription::Resubscribe;
use crate::channel::Trait;
use crate::entry::Entry;
use crate::handle::MARK_BITS;
use crate::pace::longest_wait;
use crate::turn::{Load, Piece, Turn};

/// Bytes of an entry that is skipped.
static EMPTY: Bytes = Bytes::new();

impl Core {
    /// Gathers one turn: what is owed, then entries of all marked subscriptions, up to a bound.
    pub(crate) fn gather(&mut self, turn: &mut Turn) {
        turn.clear();
        self.gathered = 0;
        self.oldest = None;
        self.outbox.owe(turn);
        if self.closing.is_some() {
            self.marks = 0;
            return;
        }
        if self.catch_ups.is_some() && !self.with_pages().into_iter().all(|index| self.gather_missed(index, turn)) {
            return;
        }
        let mut marks = std::mem::take(&mut self.marks);
        while marks != 0 {
            let bit = marks.trailing_zeros();
            for index in (bit..self.subs.len() as u32).step_by(MARK_BITS) {
                if !self.gather_one(index, turn) {
                    self.marks |= marks;
                    return;
                }
            }
            marks &= marks - 1;
        }
    }

    /// Gathers the missed publications of a subscription. False if the turn is full before their end.
    #[cold]
    fn gather_missed(&mut self, index: u32, turn: &mut Turn) -> bool {
        while let Some(Some(sub)) = self.subs.get(index as usize)
            && !sub.paused()
            && let Some(entry) = sub.missed().cloned()
        {
            if turn.bytes.len() >= turn.limit {
                return false;
            }
            self.put(index, &entry, true, turn);
        }
        true
    }

    /// Gathers one subscription. False if the turn is full before its end.
    ///
    /// Called in one place, so that a delivery has no further call in it.
    #[inline]
    fn gather_one(&mut self, index: u32, turn: &mut Turn) -> bool {
        loop {
            let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return true };
            if sub.paused() {
                return true;
            }
            if turn.bytes.len() >= turn.limit {
                return false;
            }
            if sub.missed().is_some() {
                if !self.gather_missed(index, turn) {
                    return false;
                }
                continue;
            }
            if sub.is_behind() {
                return true;
            }
            match turn.batches.load(&sub.attachment.channel, sub.next) {
                Load::Nothing => return true,
                Load::Overrun(_) if turn.pieces.last().is_some_and(|piece| piece.sub == index) => {
                    // What this turn gathered may yet be given back, so where it stands is known only in the next one.
                    self.mark(index);
                    return true;
                }
                Load::Overrun(tail) => self.overrun(index, tail),
                Load::Entries(slot) if self.put_run(index, slot, turn) => {}
                Load::Entries(slot) => {
                    let entries = turn.batches.take(slot);
                    let mut fits = entries.iter().map(|entry| self.put(index, entry, false, turn));
                    let all = fits.all(|fits| fits);
                    turn.batches.put_back(slot, entries);
                    if !all {
                        let paused = self.subs[index as usize].as_ref().is_none_or(|sub| sub.paused());
                        return paused;
                    }
                }
            }
        }
    }

    /// Puts all entries of a slot into the turn, as one piece of bytes. False if they must be put one by one.
    fn put_run(&mut self, index: u32, slot: usize, turn: &mut Turn) -> bool {
        if !matches!(self.output.own_bytes, OwnBytes::None) {
            return false;
        }
        let Some((run, bytes, ends, entries)) = turn.batches.run(slot, self.output.encoding) else { return false };
        if run.selective && entries.iter().any(|entry| self.skips(entry)) {
            return false;
        }
        let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return false };
        if turn.bytes.len() + bytes.len() > turn.limit || sub.misplaces(run.position) {
            return false;
        }
        let (count, first_end) = (ends.len() as u32, turn.ends.len() as u32);
        let shared_start = turn.bytes.len();
        turn.bytes.extend_from_slice(bytes);
        let end = turn.bytes.len();
        if count > 1 {
            turn.ends.extend_from_slice(ends);
        }
        let last = run.position.filter(|_| sub.is(Trait::Positioned)).map(|first| first.plus(u64::from(count) - 1));
        let piece = Piece {
            count,
            ends: first_end,
            placed: last.is_some(),
            ..Piece::of_one(index, sub.next, sub.position, shared_start..end, end)
        };
        sub.position = last.or(sub.position);
        sub.next += u64::from(count);
        let received = run.received;
        self.push(turn, piece, received);
        true
    }

    /// Puts one entry into the turn. False if the turn is full, or the subscription can have nothing more for now.
    fn put(&mut self, index: u32, entry: &Arc<Entry>, from_backlog: bool, turn: &mut Turn) -> bool {
        let skips = self.skips(entry);
        if turn.bytes.len() >= turn.limit {
            return false;
        }
        if !entry.is_publication() && !self.put_break(index, entry, from_backlog) {
            // Nothing for this subscription.
            return true;
        }
        let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return false };
        if sub.misreads(entry) {
            self.force_resubscription(index, entry);
            return false;
        }
        let (seq, position) = (sub.next, sub.position);
        let encoded = || sub.attachment.channel.encoded(entry, (!from_backlog).then_some(seq), self.output.encoding);
        let bytes = if skips { &EMPTY } else { encoded() };
        let placed = sub.is(Trait::Positioned) && entry.position.is_some();
        if placed {
            sub.position = entry.position;
        }
        if from_backlog {
            sub.advance_backlog();
        } else {
            sub.next += 1;
        }
        // The subscription advances without a segment: what is rolled back after it begins behind it.
        if bytes.is_empty() {
            return true;
        }
        turn.own.clear();
        self.write_own_bytes(bytes.len(), turn);
        let shared_start = turn.bytes.len();
        turn.bytes.extend_from_slice(bytes);
        let shared_end = turn.bytes.len();
        turn.bytes.extend_from_slice(&turn.own);
        let piece = Piece {
            placed,
            gap: !entry.is_publication(),
            backlog: from_backlog.then(|| entry.clone()),
            ..Piece::of_one(index, seq, position, shared_start..shared_end, turn.bytes.len())
        };
        self.push(turn, piece, entry.received);
        true
    }

    /// A break in continuity is about to be put. False if it is none for this subscription, which then has advanced past
    /// it.
    #[cold]
    fn put_break(&mut self, index: u32, entry: &Entry, from_backlog: bool) -> bool {
        let Some(Some(sub)) = self.subs.get_mut(index as usize) else { return false };
        let position = entry.position.map_or(0, |position| position.offset);
        match entry.loss_before() {
            Some(before) if sub.start >= before => {
                sub.next += 1;
                return false;
            }
            Some(before) => {
                let notice = if sub.is(Trait::HadGap) { "second" } else { "first" };
                if !sub.is(Trait::ServerSide) {
                    self.hub.metrics.loss_notices_total.with_label_values(&[notice]).inc();
                }
                sub.start = before.max(position);
            }
            // A page's own gap was accounted for when it was read.
            None if from_backlog => {}
            None => sub.start = position,
        }
        sub.set(Trait::HadGap, true);
        true
    }

    /// True if the session is not sent an entry, but advances past it.
    fn skips(&self, entry: &Entry) -> bool {
        entry.selective().is_some_and(|publication| self.is_excluded(publication))
    }

    /// True if a publication excludes the session's client.
    #[cold]
    pub(super) fn is_excluded(&self, publication: &Publication) -> bool {
        publication.exclude.as_deref().is_some_and(|client| *client == self.client_id())
    }

    /// Adds a segment whose bytes are in the batch already. `received`: of its first entry.
    #[inline]
    fn push(&mut self, turn: &mut Turn, piece: Piece, received: Instant) {
        self.oldest = Some(self.oldest.map_or(received, |oldest| oldest.min(received)));
        self.gathered += u64::from(piece.count);
        turn.pieces.push(piece);
    }

    /// Schedules the forced resubscription of a subscription, at the node's rate.
    #[cold]
    fn force_resubscription(&mut self, index: u32, entry: &Entry) {
        let now = Instant::now();
        let Some(Some(sub)) = self.subs.get(index as usize) else { return };
        let longest = longest_wait(sub.attachment.channel.shared.namespace.history_ttl);
        // The first due server-side subscription closes the connection, so all of them share one permit.
        let mut others =
            self.subs.iter().flatten().filter(|other| sub.is(Trait::ServerSide) && other.is(Trait::ServerSide));
        let at = match others.find_map(|other| other.to_resubscribe()) {
            Some(first) => first.at.min(now + longest),
            None => self.hub.resubscribes.permit(now, longest),
        };
        if let Some(Some(sub)) = self.subs.get_mut(index as usize) {
            let (gap, passed_over) = (entry.gap_reason(), entry.loss_before().is_some());
            sub.resubscribe(Resubscribe { at, gap, passed_over });
        }
        // Others of the session catch up meanwhile.
        self.end_catch_up(index);
        self.handle.tick();
    }

    /// Bytes around `shared` bytes of an entry: writes those before them, and prepares those after them.
    fn write_own_bytes(&self, shared: usize, turn: &mut Turn) {
        let OwnBytes::Event { ids, chunked } = &self.output.own_bytes else { return };
        if let Some(hashes) = ids {
            let cursor = |out: &mut Vec<u8>| Cursor::write(hashes.iter().copied().zip(self.positions()), out);
            sse::write_id(cursor, &mut turn.own);
        }
        turn.own.extend_from_slice(sse::END);
        if *chunked {
            chunk::write_header(shared + turn.own.len(), &mut turn.bytes);
            turn.own.extend_from_slice(chunk::END);
        }
    }

    /// Tells how much of the turn the socket took; the rest is given back. Returns whether it took all.
    pub(crate) fn wrote(&mut self, turn: &mut Turn, written: usize, now: Instant) -> bool {
        self.outbox.settle(turn, written);
        let whole = written == turn.bytes.len();
        let delivered = if whole { self.gathered } else { self.gathered - self.roll_back(turn, written) };
        if delivered > 0 {
            let latency = self.oldest.map(|oldest| now.saturating_duration_since(oldest));
            turn.count(self.output.transport, delivered, latency);
        }
        turn.over(&self.hub);
        let waiting = self.outbox.len();
        if waiting != self.accounted {
            self.hub.metrics.outbox_bytes.add(waiting as i64 - self.accounted as i64);
            self.accounted = waiting;
        }
        if whole {
            self.unblock();
        } else if written > 0 || self.stalled_since.is_none() {
            self.stalled_since = Some(now);
        }
        if self.catch_ups.is_some() {
            self.pages_written();
        }
        whole
    }

    /// Gives back what the socket did not take after `written` bytes of the turn. The entry that has begun is kept as owed,
    /// and counts as delivered. Returns the number of the others.
    ///
    /// Apart from [`Self::wrote`], so that a delivery does without its stack and registers.
    #[cold]
    fn roll_back(&mut self, turn: &Turn, written: usize) -> u64 {
        let mut given_back = 0;
        for at in (0..turn.pieces.len()).rev() {
            let piece = &turn.pieces[at];
            let start = if at == 0 { turn.owed } else { turn.pieces[at - 1].end };
            if written >= piece.end {
                break;
            }
            let (mut taken, shared_start, shared_end) = turn.whole(piece, start, written);
            // Each entry of a run begins with its shared bytes, and ends with them.
            let (start, end) = if piece.count == 1 { (start, piece.end) } else { (shared_start, shared_end) };
            if written > start {
                let shared = match written < shared_end {
                    true => self
                        .shared_bytes(piece, taken, &turn.bytes[shared_start..shared_end])
                        .slice(written.saturating_sub(shared_start)..),
                    false => Bytes::new(),
                };
                let header = &turn.bytes[written.min(shared_start)..shared_start];
                self.outbox.keep(header, shared, &turn.bytes[written.max(shared_end)..end]);
                taken += 1;
            }
            given_back += u64::from(piece.count - taken);
            self.give_back(piece, taken);
            if taken > 0 {
                break;
            }
        }
        given_back
    }

    /// The shared bytes of a piece's begun entry: by reference if the ring still has the entry, else a copy.
    fn shared_bytes(&self, piece: &Piece, nth: u32, copy: &[u8]) -> Bytes {
        let encoding = self.output.encoding;
        let shared = self.subs[piece.sub as usize].as_ref().and_then(|sub| {
            let channel = &sub.attachment.channel;
            match &piece.backlog {
                Some(entry) => Some(channel.encoded(entry, None, encoding).clone()),
                None => {
                    let seq = piece.seq + u64::from(nth);
                    let entry = channel.ring().get(seq).cloned()?;
                    Some(channel.encoded(&entry, Some(seq), encoding).clone())
                }
            }
        });
        shared.unwrap_or_else(|| Bytes::copy_from_slice(copy))
    }

    /// Gives back the entries of a piece but for the first `taken`. All later pieces are given back already.
    fn give_back(&mut self, piece: &Piece, taken: u32) {
        let Some(sub) = self.subs[piece.sub as usize].as_mut().filter(|_| taken < piece.count) else { return };
        if taken == 0 {
            sub.position = piece.position;
            if piece.gap && piece.backlog.is_none() {
                // What it was before is not known any more: it is told in any case.
                sub.start = 0;
            }
        } else if piece.placed {
            let back = u64::from(piece.count - taken);
            sub.position = sub.position.map(|last| Position { offset: last.offset - back, ..last });
        }
        match &piece.backlog {
            Some(_) if sub.paused() => {}
            Some(entry) => sub.give_back(entry.clone()),
            None => sub.next = piece.seq + u64::from(taken),
        }
        self.marks |= 1 << (piece.sub as usize % MARK_BITS);
    }
}

#[cfg(test)]
mod tests;
