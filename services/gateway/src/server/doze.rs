//! Waiting for what seldom happens, without asking for it each time that something else does.
//!
//! A connection's task is woken for every request, and again for every answer of Redis. Asking then whether the server
//! stops takes locks that all connections share. A [`Doze`] asks a future again only when that future itself has woken
//! the task. A connection that is soon over or taken over is not worth the memory of it, and asks as usual.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// So often a future is simply asked.
const AWAKE: u8 = 8;

/// Polls one future, always the same, when it is worth while.
#[derive(Debug, Default)]
pub(super) struct Doze {
    /// How often it was simply asked.
    asked: u8,
    /// There once that was often.
    bell: Option<(Arc<Bell>, Waker)>,
}

/// Passes a wake-up on, and remembers it.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Before the task is woken, so that it finds this set.
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

impl Doze {
    /// Polls the future if it may have something to say.
    pub(super) fn poll<F: Future>(&mut self, future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.asked < AWAKE {
            self.asked += 1;
            return future.poll(cx);
        }
        let (bell, task) = self.bell.get_or_insert_with(|| {
            let (rung, task) = (AtomicBool::new(true), cx.waker().clone());
            (Arc::new(Bell { rung, task: Mutex::new(task.clone()) }), task)
        });
        if !task.will_wake(cx.waker()) {
            task.clone_from(cx.waker());
            bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(task);
            // A wake-up before this went to the other task.
            bell.rung.store(true, Ordering::Relaxed);
        }
        // Looked at before it is written to: nearly always it is not set.
        if !bell.rung.load(Ordering::Relaxed) || !bell.rung.swap(false, Ordering::Acquire) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(bell));
        future.poll(&mut Context::from_waker(&waker))
    }

    /// The future was changed from outside, and is to be polled again.
    pub(super) fn ring(&mut self) {
        if let Some((bell, _)) = &self.bell {
            bell.rung.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::oneshot;

    use super::*;

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Counts how often it is polled.
    struct Counted(oneshot::Receiver<()>, usize);

    impl Future for Counted {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.1 += 1;
            Pin::new(&mut self.0).poll(cx).map(drop)
        }
    }

    fn task() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        (Arc::clone(&task), Waker::from(task))
    }

    #[test]
    fn asked_again_only_when_it_has_something_to_say() {
        let (sender, receiver) = oneshot::channel();
        let (mut future, mut doze) = (Counted(receiver, 0), Doze::default());
        let (task, waker) = task();
        let mut cx = Context::from_waker(&waker);
        for _ in 0..100 {
            assert!(doze.poll(Pin::new(&mut future), &mut cx).is_pending());
        }
        assert_eq!(future.1, usize::from(AWAKE) + 1);
        doze.ring();
        assert!(doze.poll(Pin::new(&mut future), &mut cx).is_pending());
        assert_eq!(future.1, usize::from(AWAKE) + 2);
        sender.send(()).unwrap();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
        assert!(doze.poll(Pin::new(&mut future), &mut cx).is_ready());
    }

    #[test]
    fn the_task_that_polled_last_is_woken() {
        let (sender, receiver) = oneshot::channel();
        let (mut future, mut doze) = (Counted(receiver, 0), Doze::default());
        let (first, second) = (task(), task());
        for _ in 0..20 {
            assert!(doze.poll(Pin::new(&mut future), &mut Context::from_waker(&first.1)).is_pending());
        }
        assert!(doze.poll(Pin::new(&mut future), &mut Context::from_waker(&second.1)).is_pending());
        sender.send(()).unwrap();
        assert_eq!((first.0.0.load(Ordering::SeqCst), second.0.0.load(Ordering::SeqCst)), (0, 1));
        assert!(doze.poll(Pin::new(&mut future), &mut Context::from_waker(&second.1)).is_ready());
    }
}
