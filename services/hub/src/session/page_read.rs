//! The read of a page, in a task of its own.
//!
//! A session is not always polled: that of an HTTP/2 body waits for the client's window. So a page that was read and not
//! taken in time is dropped by the task that read it, and the memory granted for it is free again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fanway_broker::PageLimit;
use fanway_protocol::Channel;
use tokio::task::AbortHandle;

use crate::attach::{AttachError, Attached, Joined, Reached};
use crate::handle::Handle;
use crate::hub::Hub;
use crate::pages::PAGE_LIFE;

type CaughtUp = Result<Attached, AttachError>;

/// A read under way, or its result. Ends with its session.
pub(super) struct PageRead {
    result: Arc<Mutex<Option<CaughtUp>>>,
    task: AbortHandle,
}

impl PageRead {
    /// Begins to read the page after a position. The session is polled when it is there.
    pub(super) fn begin(
        hub: &Arc<Hub>,
        handle: &Arc<Handle>,
        channel: Channel,
        reached: Reached,
        index: u32,
        limit: PageLimit,
    ) -> Self {
        let result = Arc::new(Mutex::new(None));
        let (hub, handle, slot) = (hub.clone(), handle.clone(), result.clone());
        let tracker = hub.tracker.clone();
        let task = tracker.spawn(async move {
            let read = hub.next_page(&channel, reached, &handle, index, limit).await;
            *lock(&slot) = Some(read);
            handle.tick();
            tokio::time::sleep(PAGE_LIFE).await;
            if let Some(Ok(Attached { joined: Joined::Recovered(page), .. })) = &mut *lock(&slot) {
                page.forget();
                hub.metrics.pages_dropped_total.inc();
            }
        });
        Self { result, task: task.abort_handle() }
    }

    /// The result, once there is one.
    pub(super) fn take(&self) -> Option<CaughtUp> {
        lock(&self.result).take()
    }
}

impl Drop for PageRead {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(result: &Mutex<Option<CaughtUp>>) -> MutexGuard<'_, Option<CaughtUp>> {
    result.lock().unwrap_or_else(PoisonError::into_inner)
}
