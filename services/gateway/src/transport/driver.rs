//! A connection between its task and the fan-out, which takes its turn where it is marked.
//!
//! The connection lives behind a lock in its handle. Its task, which owns it, does everything: reading, commands,
//! deadlines, closing, and writing where the socket was full. The fan-out only ever tries the lock, and only writes;
//! where it cannot, it wakes the task.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use fanway_hub::handle::{Handle, Writer};

/// A connection that takes turns.
pub(super) trait Connection: Send + 'static {
    /// Does what can be done now. `Ready` when the connection is over.
    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes what the connection has, without waiting. False if the task must do it.
    fn write(&mut self) -> bool;
}

/// Where a connection is as long as it lives.
pub(super) struct Slot<C>(Mutex<Option<C>>);

impl<C: Connection> Writer for Slot<C> {
    fn write(&self) -> bool {
        let Ok(mut slot) = self.0.try_lock() else { return false };
        let Some(connection) = slot.as_mut() else { return true };
        // A fault in one connection must not end what serves all the others.
        catch_unwind(AssertUnwindSafe(|| connection.write())).unwrap_or_else(|_| {
            *slot = None;
            false
        })
    }
}

/// The task of a connection. The connection ends with it.
pub(super) struct Driver<C: Connection>(Arc<Handle<Slot<C>>>);

impl<C: Connection> Driver<C> {
    /// Makes the connection, which may give its handle away while it is made.
    pub(super) fn new(make: impl FnOnce(Arc<Handle>) -> C) -> Self {
        let handle = Arc::new(Handle::new(Slot(Mutex::new(None))));
        let connection = make(handle.clone());
        let driver = Self(handle);
        driver.with(|slot| *slot = Some(connection));
        driver
    }

    fn with<R>(&self, work: impl FnOnce(&mut Option<C>) -> R) -> R {
        work(&mut self.0.writer().0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<C: Connection> Future for Driver<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let done = ready!(self.with(|slot| match slot {
            Some(connection) => connection.poll_work(cx),
            None => Poll::Ready(Ok(())),
        }));
        if let Err(error) = done {
            tracing::trace!(%error, "connection ended");
        }
        Poll::Ready(())
    }
}

impl<C: Connection> Drop for Driver<C> {
    fn drop(&mut self) {
        // The connection refers to its handle, and so to itself.
        let connection = self.0.writer().0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(connection);
    }
}
