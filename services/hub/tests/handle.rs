//! The protocol between markers and the owner of a connection, in every interleaving (loom): whatever is marked is
//! taken without anything else happening, whether the owner is at work, blocked on its socket, or asleep.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub, reason = "the file under test is that of the library")]

#[path = "../src/handle.rs"]
mod handle;

/// Loom's atomics in the place of the real ones.
mod sync {
    use std::task::Waker;

    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    #[derive(Debug)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl Default for AtomicWaker {
        fn default() -> Self {
            Self(loom::future::AtomicWaker::new())
        }
    }

    impl AtomicWaker {
        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }
}

use std::sync::Arc as StdArc;
use std::sync::atomic::AtomicUsize as Count;
use std::task::{Wake, Waker};

use fanway_protocol::DisconnectCode;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use handle::{Handle, Taken};

#[derive(Default)]
struct Wakes(Count);

impl Wake for Wakes {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

/// The rings of two channels: how many entries each has.
#[derive(Default)]
struct Rings([AtomicU64; 2]);

/// A connection: what it has heard, and whether its socket is blocked.
struct Owner {
    handle: Arc<Handle>,
    rings: Arc<Rings>,
    wakes: StdArc<Wakes>,
    heard: [u64; 2],
    /// Marks taken and not looked at.
    marks: u64,
    blocked: bool,
    close: Option<u16>,
    ticks: usize,
}

impl Owner {
    /// One poll of its task, as the sessions do it: register, take, write. `open`: whether the socket takes bytes.
    fn poll(&mut self, open: bool) {
        self.handle.register(&Waker::from(self.wakes.clone()));
        let taken = if self.blocked { self.handle.take_signals() } else { self.handle.take() };
        self.marks |= taken.marks;
        self.ticks += usize::from(taken.tick);
        self.close = self.close.or(taken.close);
        while self.marks != 0 || self.blocked {
            if !open {
                self.blocked = true;
                return;
            }
            for (index, heard) in self.heard.iter_mut().enumerate() {
                if self.marks & (1 << index) != 0 {
                    *heard = self.rings.0[index].load(Ordering::SeqCst);
                }
            }
            self.marks = 0;
            if std::mem::take(&mut self.blocked) {
                self.marks |= self.handle.take_marks();
            }
        }
    }
}

/// Runs markers against an owner that polls `polls` times on its own and then only when it was woken; at the end the
/// socket drains if it was blocked.
fn check(polls: &'static [bool], markers: usize, signal: Option<fn(&Handle)>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (handle, rings) = (Arc::new(Handle::default()), Arc::new(Rings::default()));
        let others: Vec<_> = (0..markers)
            .map(|index| {
                let (handle, rings) = (handle.clone(), rings.clone());
                thread::spawn(move || {
                    rings.0[index].fetch_add(1, Ordering::SeqCst);
                    handle.mark(index as u32);
                    if index == 0 && markers == 1 {
                        rings.0[index].fetch_add(1, Ordering::SeqCst);
                        handle.mark(index as u32);
                    }
                })
            })
            .chain(signal.map(|signal| {
                let handle = handle.clone();
                thread::spawn(move || signal(&handle))
            }))
            .collect();
        let wakes = StdArc::new(Wakes::default());
        let mut owner = Owner {
            handle,
            rings: rings.clone(),
            wakes: wakes.clone(),
            heard: [0; 2],
            marks: 0,
            blocked: false,
            close: None,
            ticks: 0,
        };
        let mut seen = 0;
        for open in polls {
            seen = wakes.count();
            owner.poll(*open);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        // From here on only a wake-up makes it work, or its socket.
        if owner.blocked {
            owner.poll(true);
        }
        while wakes.count() != seen {
            seen = wakes.count();
            owner.poll(true);
        }
        let there = [0, 1].map(|index| rings.0[index].load(Ordering::SeqCst));
        assert_eq!(owner.heard, there, "asleep over something");
        if signal.is_some() {
            assert!(owner.close.is_some() || owner.ticks > 0, "asleep over a signal");
        }
    });
}

#[test]
fn nothing_marked_is_slept_over() {
    check(&[true], 1, None);
    check(&[true, true], 2, None);
}

#[test]
fn nothing_marked_while_blocked_is_slept_over() {
    check(&[false], 1, None);
    check(&[false, false], 2, None);
    check(&[false, true], 2, None);
}

#[test]
fn no_signal_is_slept_over() {
    check(&[true], 1, Some(Handle::tick));
    check(&[false], 1, Some(|handle| handle.close(DisconnectCode::Slow)));
    check(&[false, true], 1, Some(Handle::tick));
}

#[test]
fn wakes_once_until_the_marks_are_taken() {
    loom::model(|| {
        let (handle, wakes) = (Handle::default(), StdArc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        handle.register(&waker);
        handle.mark(0);
        handle.mark(64);
        assert_eq!(wakes.count(), 1);
        assert_eq!(handle.take(), Taken { marks: 0b11, tick: false, close: None });
        handle.register(&waker);
        handle.mark(5);
        assert_eq!(wakes.count(), 2);
    });
}

#[test]
fn signals_wake_a_blocked_connection_and_leave_its_marks() {
    loom::model(|| {
        let (handle, wakes) = (Handle::default(), StdArc::new(Wakes::default()));
        handle.register(&Waker::from(wakes.clone()));
        handle.mark(3);
        handle.register(&Waker::from(wakes.clone()));
        handle.tick();
        assert_eq!(wakes.count(), 2);
        assert_eq!(handle.take_signals(), Taken { marks: 0, tick: true, close: None });
        handle.close(DisconnectCode::Shutdown);
        handle.close(DisconnectCode::Slow);
        assert_eq!(handle.take_marks(), 0b1000, "the signal stays");
        assert_eq!(handle.take(), Taken { marks: 0, tick: false, close: Some(3001) });
    });
}
