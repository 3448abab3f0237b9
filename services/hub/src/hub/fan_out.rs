//! Fan-out: the broker's events are put in order, and the connections that they mark are written to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fanway_broker::Event;
use tokio::task::unconstrained;

use super::Hub;
use crate::channel::{LocalChannel, Marked};
use crate::dispatch::{Inbox, size};
use crate::handle::Handle;
use crate::turn::{Turn, with_turn};

/// Events that are put in order before the connections that they mark are served: what a connection gets from them it
/// gets in one write.
const EVENTS_PER_TURN: u64 = 256;
/// Connections that are served before the next events are looked at.
const SERVED_AT_ONCE: usize = 32;
/// The most connections that are served one after another before other work has its turn, and sockets are looked at:
/// what comes in meanwhile goes out together with what the rest have.
const SLICE: usize = 64;

/// Ends the process if what puts events in order panics: nothing would be delivered any more, while the node seemed well.
/// Its clients resume on another one.
struct FailFast;

impl Drop for FailFast {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("what puts publications in order has failed; ending");
            std::process::abort();
        }
    }
}

impl Hub {
    /// Brings the inbox's part of the gauge up to date; channels keep what they hold in the same one.
    fn show_inbox(&self, inbox: &Inbox, shown: &mut usize) {
        let bytes = inbox.bytes();
        self.metrics.inbox_bytes.add(bytes as i64 - *shown as i64);
        *shown = bytes;
    }

    /// Takes the broker's events, in order.
    pub(super) async fn sequence(self: Arc<Self>, inbox: Arc<Inbox>) {
        let mut marked = Marked::default();
        let _end = FailFast;
        // Over all that waited: whoever fills the inbox from another thread may never let it be empty.
        let mut turn = 0_u64;
        let mut shown = 0;
        loop {
            let waiting = inbox.take().await;
            self.show_inbox(&inbox, &mut shown);
            self.metrics.inbox_dropped_total.inc_by(waiting.dropped);
            let (mut restored, mut handled) = (Vec::new(), 0);
            for event in waiting.events {
                handled += size(&event);
                match &event {
                    Event::Publication(delivery) => {
                        if let Some(local) = self.find(&delivery.channel) {
                            self.hear(&local, event, &mut marked);
                        }
                    }
                    Event::Unreadable(channel) => {
                        if let Some(local) = self.find(channel) {
                            self.hear(&local, event, &mut marked);
                        }
                    }
                    // After a break there are many of them.
                    Event::Restored(channel) => {
                        let local = self.find(channel);
                        restored.extend(local.filter(|local| local.hear(event, Instant::now(), &mut marked)));
                    }
                    Event::Interrupted => {
                        self.all().iter().for_each(|local| self.hear(local, Event::Interrupted, &mut marked));
                    }
                }
                turn += 1;
                if turn.is_multiple_of(EVENTS_PER_TURN) {
                    inbox.handled(std::mem::take(&mut handled));
                    self.serve(&mut marked);
                    tokio::task::yield_now().await;
                }
            }
            inbox.handled(handled);
            self.show_inbox(&inbox, &mut shown);
            self.make_whole(restored);
            for channel in waiting.lost {
                if let Some(local) = self.find(&channel).filter(|local| local.lost(Instant::now(), &mut marked)) {
                    self.repair(&local);
                }
            }
            self.serve(&mut marked);
        }
    }

    fn hear(self: &Arc<Self>, local: &Arc<LocalChannel>, event: Event, marked: &mut Marked) {
        if local.hear(event, Instant::now(), marked) {
            self.repair(local);
        }
    }

    /// Has the marked connections written: a few at once, more in slices, which other work comes between and which other
    /// threads take over.
    pub(crate) fn serve(self: &Arc<Self>, marked: &mut Marked) {
        if marked.handles.len() <= SERVED_AT_ONCE {
            self.serve_slice(&marked.handles);
            marked.handles.clear();
            marked.sampled.clear();
            return;
        }
        let threads = self.runtime.metrics().num_workers();
        let size = marked.handles.len().div_ceil(threads).min(SLICE);
        let queue = Arc::new((std::mem::take(marked), AtomicUsize::new(0)));
        for _ in 0..threads.min(queue.0.handles.len().div_ceil(size)) {
            let (hub, queue) = (self.clone(), queue.clone());
            // Without tokio's budget: a slice is bounded by itself, and a socket that seems full because of the budget
            // would have to be tried again by its task.
            let serve = async move {
                let (marked, next) = &*queue;
                while let Some(slice) = marked.handles.chunks(size).nth(next.fetch_add(1, Ordering::Relaxed)) {
                    hub.serve_slice(slice);
                    tokio::task::yield_now().await;
                }
            };
            self.tracker.spawn_on(unconstrained(serve), &self.runtime);
        }
    }

    fn serve_slice(&self, slice: &[Arc<Handle>]) {
        if slice.is_empty() {
            return;
        }
        with_turn(Turn::begin_slice);
        slice.iter().for_each(|handle| handle.serve());
        with_turn(|turn| turn.end_slice(self));
    }
}
