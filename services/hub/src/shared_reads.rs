//! Reads of logs for resumes, which the clients of a node share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanway_broker::{BrokerError, LogView, PageLimit};
use fanway_protocol::Channel;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use tokio_util::task::AbortOnDropHandle;

use crate::channel::LocalChannel;
use crate::hub::Hub;
use crate::pages::{Grant, PAGE_BYTES};

/// What a read for resuming is shared by: everybody who is at this offset of this channel while it is under way, and wants
/// as much.
type ReadKey = (Channel, u64, PageLimit);
type Read = BoxFuture<'static, Result<Arc<LogView>, BrokerError>>;

/// Channels whose newest view is kept after the read that made it.
const KEPT_VIEWS: usize = 256;
/// Bytes of publications in a view that is kept.
const KEPT_BYTES: usize = PAGE_BYTES;
/// How long a view is kept: what it shows may have expired meanwhile, and must not be given away for longer than a second.
const KEPT_FOR: Duration = Duration::from_millis(500);

/// Reads of logs for resumes: those under way, and for a moment the views that small ones made. The clients of a node
/// that has died come back within seconds, not within one read, and the log need not be read for each of them.
#[derive(Default)]
pub(crate) struct Resumes(Mutex<Reads>);

#[derive(Default)]
struct Reads {
    /// Each is kept by those who wait for it.
    under_way: HashMap<ReadKey, WeakShared<Read>>,
    kept: HashMap<Channel, Kept>,
    /// How often views were forgotten: a read that was under way then is not kept.
    forgotten: u64,
}

/// The whole log after an offset, as it was a moment ago. It serves everybody at that offset or after it.
struct Kept {
    offset: u64,
    view: Arc<LogView>,
    /// Its memory.
    _grant: Grant,
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
        // Dropped after the lock: one of them may be the last reference to its read.
        let mut waited_for = Vec::new();
        let Reads { under_way, kept, .. } = &mut *self.lock();
        // One that was given up before it began has not removed itself.
        under_way.retain(|_, read| read.upgrade().map(|read| waited_for.push(read)).is_some());
        kept.retain(|_, kept| kept.fresh());
        if kept.is_empty() {
            *kept = HashMap::new();
        }
    }

    /// Forgets the views of a channel, kept and under way, whose log was found to have lost publications: a read from
    /// before the loss was recorded does not show it. Those who wait for one took their place in the ring before.
    pub(crate) fn forget(&self, channel: &Channel) {
        let Reads { under_way, kept, forgotten } = &mut *self.lock();
        *forgotten += 1;
        kept.remove(channel);
        under_way.retain(|(of, ..), _| of != channel);
    }

    /// Keeps a view, if it is small and was not cut off, there is memory for it, and none was forgotten since `began`.
    fn keep(&self, hub: &Hub, (channel, offset, _): &ReadKey, view: &Arc<LogView>, (began, forgotten): (Instant, u64)) {
        let last = view.entries.last().map_or(*offset, |(last, _)| *last);
        let bytes = view.entries.iter().map(|(_, publication)| publication.size()).sum::<usize>();
        let small = last == view.top.offset && bytes <= KEPT_BYTES;
        let grant = if small { hub.pages.try_spare(view.entries.len(), bytes) } else { None };
        let reads = &mut *self.lock();
        let grant = grant.filter(|_| reads.kept.len() < KEPT_VIEWS && reads.forgotten == forgotten);
        let kept = &mut reads.kept;
        if let Some(grant) = grant {
            kept.insert(channel.clone(), Kept { offset: *offset, view: view.clone(), _grant: grant, began });
        } else {
            kept.remove(channel);
        }
    }
}

impl Hub {
    /// A view of the log after an offset (or an earlier one), and whether its read was begun by somebody else. Everybody who
    /// asks for the same while it is read and shortly after shares one read, unless they insist on their own.
    pub(crate) async fn resume_view(
        self: &Arc<Self>,
        local: &Arc<LocalChannel>,
        offset: u64,
        limit: PageLimit,
        alone: bool,
    ) -> Result<(Arc<LogView>, bool), BrokerError> {
        let key = (local.name.clone(), offset, limit);
        let (read, shared) = {
            let mut reads = self.resumes.lock();
            let serves = |kept: &&Kept| kept.offset <= offset && kept.fresh() && !alone;
            if let Some(kept) = reads.kept.get(&key.0).filter(serves) {
                return Ok((kept.view.clone(), true));
            }
            match reads.under_way.get(&key).filter(|_| !alone).and_then(WeakShared::upgrade) {
                Some(read) => (read, true),
                None => {
                    let read = self.begin_read(local.clone(), key.clone());
                    reads.under_way.extend(read.downgrade().map(|read| (key, read)));
                    (read, false)
                }
            }
        };
        read.await.map(|view| (view, shared))
    }

    /// Begins a read in a task of its own, which ends when all who wait for it have gone: while a log answers slowly,
    /// clients that ask and leave would queue up reads for nobody.
    fn begin_read(self: &Arc<Self>, local: Arc<LocalChannel>, key: ReadKey) -> Shared<Read> {
        let hub = self.clone();
        let read = self.tracker.spawn(async move {
            let (_, offset, limit) = key;
            let under_way = UnderWay { hub, key };
            let retention = local.shared.namespace.retention();
            under_way.hub.metrics.resume_reads_total.inc();
            let began = (Instant::now(), under_way.hub.resumes.lock().forgotten);
            let view = Arc::new(under_way.hub.view(&local.name, retention, Some(offset), limit).await?);
            under_way.hub.resumes.keep(&under_way.hub, &under_way.key, &view, began);
            Ok(view)
        });
        let read = AbortOnDropHandle::new(read);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Limits;
    use crate::hub::READS;
    use crate::pages::page;
    use crate::testing::hub;

    #[tokio::test]
    async fn a_read_ends_when_nobody_waits_for_it() {
        let hub = hub(Limits::default());
        let interest = hub.interest(&Channel::new("a").unwrap()).unwrap();
        let tasks = hub.tracker.len();
        let all = hub.reads.acquire_many(READS as u32).await.unwrap();
        let mut waiting = None;
        for offset in 0..100 {
            let mut read = Box::pin(hub.resume_view(&interest.0, offset, page(1000), false));
            assert!(read.as_mut().now_or_never().is_none());
            // Some have begun to wait when they are given up.
            if offset % 2 == 0 {
                tokio::task::yield_now().await;
            }
            waiting = Some(read);
        }
        let under_way = || hub.resumes.lock().under_way.values().filter(|read| read.upgrade().is_some()).count();
        let began = Instant::now();
        while hub.tracker.len() > tasks + 1 {
            assert!(began.elapsed() < Duration::from_secs(5), "{} tasks", hub.tracker.len());
            tokio::task::yield_now().await;
        }
        assert_eq!(under_way(), 1);
        hub.resumes.sweep();
        assert_eq!(hub.resumes.lock().under_way.len(), 1);
        drop(all);
        waiting.unwrap().await.unwrap();
        assert_eq!(under_way(), 0);
    }

    /// A view from before a loss was recorded does not show it, however late its read ends.
    #[tokio::test]
    async fn a_view_that_was_forgotten_serves_nobody_who_comes_later() {
        let hub = hub(Limits::default());
        let interest = hub.interest(&Channel::new("a").unwrap()).unwrap();
        let read = async |alone| hub.resume_view(&interest.0, 0, page(1000), alone).await.unwrap();
        let (first, _) = read(false).await;
        let (again, shared) = read(false).await;
        assert!(shared && Arc::ptr_eq(&first, &again), "kept for a moment");
        hub.resumes.forget(&interest.0.name);
        let all = hub.reads.acquire_many(READS as u32).await.unwrap();
        let mut under_way = Box::pin(read(false));
        assert!(under_way.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
        hub.resumes.forget(&interest.0.name);
        let mut later = Box::pin(read(false));
        assert!(later.as_mut().now_or_never().is_none());
        drop(all);
        let (under_way, _) = under_way.await;
        let (later, shared) = later.await;
        assert!(!shared && !Arc::ptr_eq(&under_way, &later), "a read of its own");
        let (kept, _) = read(false).await;
        assert!(!Arc::ptr_eq(&under_way, &kept));
    }
}
