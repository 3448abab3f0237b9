//! The protocol between markers and the owners of a connection, in every interleaving (loom): whatever is marked is
//! taken without anything else happening, whether its task is at work, blocked on its socket, or asleep, and whether the
//! fan-out writes too.
#![allow(clippy::unwrap_used)]
#![allow(dead_code, unreachable_pub, unused_imports, reason = "the file under test is that of the library")]

#[path = "../src/close_reason.rs"]
mod close_reason;
#[path = "../src/handle.rs"]
mod handle;

#[path = "support/sync.rs"]
mod sync;

use std::sync::Arc as StdArc;
use std::sync::atomic::AtomicUsize as Count;
use std::task::{Wake, Waker};

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use close_reason::CloseReason;
use handle::{ByTask, Handle, Taken, Writer};

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
struct Connection {
    /// Its own handle; taken out at the end, for the handle owns it.
    handle: Arc<Handle<Slot>>,
    rings: Arc<Rings>,
    wakes: StdArc<Wakes>,
    heard: [u64; 2],
    /// Marks taken and not looked at.
    marks: u64,
    blocked: bool,
    /// Whether the socket takes what the fan-out writes.
    open: bool,
    close: Option<CloseReason>,
    ticks: usize,
}

impl Connection {
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
            self.hear();
            if std::mem::take(&mut self.blocked) {
                self.marks |= self.handle.take_marks();
            }
        }
    }

    /// A turn outside of the task.
    fn write(&mut self) -> bool {
        if self.blocked {
            return true;
        }
        self.marks |= self.handle.take_marks();
        if self.marks != 0 && !self.open {
            self.blocked = true;
            return false;
        }
        self.hear();
        true
    }

    fn hear(&mut self) {
        for (index, heard) in self.heard.iter_mut().enumerate() {
            if self.marks & (1 << index) != 0 {
                *heard = self.rings.0[index].load(Ordering::SeqCst);
            }
        }
        self.marks = 0;
    }
}

/// The lock between the task and the fan-out; empty where only the task writes.
#[derive(Default)]
struct Slot(Mutex<Option<Connection>>);

impl Writer for Slot {
    fn write(&self) -> bool {
        let Ok(mut slot) = self.0.try_lock() else { return false };
        slot.as_mut().is_some_and(Connection::write)
    }
}

/// Who writes what is marked.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// The task alone.
    Task,
    /// The fan-out too, and the socket takes it.
    FanOut,
    /// The fan-out too, and finds the socket full.
    FanOutBlocked,
}

/// Runs markers against a connection whose task polls `polls` times on its own and then only when it was woken; at the
/// end the socket drains if it was blocked.
fn check(by: By, polls: &'static [bool], markers: usize, signal: Option<fn(&Handle<Slot>)>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let (handle, rings) = (Arc::new(Handle::new(Slot::default())), Arc::new(Rings::default()));
        let wakes = StdArc::new(Wakes::default());
        let mut connection = Some(Connection {
            handle: handle.clone(),
            rings: rings.clone(),
            wakes: wakes.clone(),
            heard: [0; 2],
            marks: 0,
            blocked: false,
            open: by == By::FanOut,
            close: None,
            ticks: 0,
        });
        if by != By::Task {
            *handle.writer().0.lock().unwrap() = connection.take();
        }
        let mut poll = |open| match &mut connection {
            Some(connection) => {
                connection.poll(open);
                connection.blocked
            }
            None => {
                let mut slot = handle.writer().0.lock().unwrap();
                let connection = slot.as_mut().unwrap();
                connection.poll(open);
                connection.blocked
            }
        };
        let others: Vec<_> = (0..markers)
            .map(|index| {
                let (handle, rings) = (handle.clone(), rings.clone());
                thread::spawn(move || {
                    for _ in 0..if index == 0 && markers == 1 { 2 } else { 1 } {
                        rings.0[index].fetch_add(1, Ordering::SeqCst);
                        if handle.mark(index as u32) {
                            handle.serve();
                        }
                    }
                })
            })
            .chain(signal.map(|signal| {
                let handle = handle.clone();
                thread::spawn(move || signal(&handle))
            }))
            .collect();
        let mut seen = 0;
        for open in polls {
            seen = wakes.count();
            poll(*open);
        }
        others.into_iter().for_each(|other| other.join().unwrap());
        // From here on only a wake-up makes the task work, or, once it has found it full, its socket.
        let mut waits_for_socket = polls.last().is_some_and(|open| !open);
        while wakes.count() != seen || std::mem::take(&mut waits_for_socket) {
            seen = wakes.count();
            poll(true);
        }
        let connection = connection.or_else(|| handle.writer().0.lock().unwrap().take()).unwrap();
        let there = [0, 1].map(|index| rings.0[index].load(Ordering::SeqCst));
        assert_eq!(connection.heard, there, "asleep over something");
        if signal.is_some() {
            assert!(connection.close.is_some() || connection.ticks > 0, "asleep over a signal");
        }
    });
}

#[test]
fn nothing_marked_is_slept_over() {
    check(By::Task, &[true], 1, None);
    check(By::Task, &[true, true], 2, None);
}

#[test]
fn nothing_marked_is_slept_over_if_the_fan_out_writes() {
    check(By::FanOut, &[true], 1, None);
    check(By::FanOut, &[true], 2, None);
    check(By::FanOut, &[true, true], 2, None);
}

#[test]
fn nothing_marked_is_slept_over_if_the_fan_out_finds_the_socket_full() {
    check(By::FanOutBlocked, &[true], 1, None);
    check(By::FanOutBlocked, &[true], 2, None);
    check(By::FanOutBlocked, &[false], 2, None);
}

#[test]
fn nothing_marked_while_blocked_is_slept_over() {
    check(By::Task, &[false], 1, None);
    check(By::Task, &[false, false], 2, None);
    check(By::Task, &[false, true], 2, None);
}

#[test]
fn no_signal_is_slept_over() {
    check(By::Task, &[true], 1, Some(Handle::tick));
    check(By::Task, &[false], 1, Some(|handle| handle.close(CloseReason::Slow)));
    check(By::Task, &[false, true], 1, Some(Handle::tick));
    check(By::FanOut, &[true], 1, Some(Handle::tick));
    check(By::FanOutBlocked, &[true], 1, Some(Handle::tick));
}

#[test]
fn wakes_once_until_the_marks_are_taken() {
    loom::model(|| {
        let (handle, wakes) = (Handle::new(ByTask), StdArc::new(Wakes::default()));
        let waker = Waker::from(wakes.clone());
        handle.register(&waker);
        assert!(handle.mark(0), "the first is to serve");
        handle.serve();
        assert!(!handle.mark(64));
        assert_eq!(wakes.count(), 1);
        assert_eq!(handle.take(), Taken { marks: 0b11, ..Taken::default() });
        handle.register(&waker);
        assert!(handle.mark(5));
        handle.serve();
        assert_eq!(wakes.count(), 2);
    });
}

#[test]
fn signals_wake_a_blocked_connection_and_leave_its_marks() {
    loom::model(|| {
        let (handle, wakes) = (Handle::new(ByTask), StdArc::new(Wakes::default()));
        handle.register(&Waker::from(wakes.clone()));
        assert!(handle.mark(3));
        handle.serve();
        handle.register(&Waker::from(wakes.clone()));
        handle.tick();
        assert_eq!(wakes.count(), 2);
        assert_eq!(handle.take_signals(), Taken { tick: true, ..Taken::default() });
        handle.close(CloseReason::Shutdown);
        handle.close(CloseReason::Slow);
        assert_eq!(handle.take_marks(), 0b1000, "the signal stays");
        assert_eq!(handle.take(), Taken { close: Some(CloseReason::Shutdown), ..Taken::default() });
        // One after which the client stays away replaces one after which it comes back.
        handle.close(CloseReason::Disconnected);
        handle.close(CloseReason::Shutdown);
        handle.close(CloseReason::InvalidToken);
        assert_eq!(handle.take(), Taken { close: Some(CloseReason::Disconnected), ..Taken::default() });
    });
}
