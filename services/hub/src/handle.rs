//! What the hub holds of a connection: enough to mark its subscriptions and wake its task once.
//!
//! The protocol between marker and owner, in one word:
//! * A marker sets its bit and wakes only if the word was empty: otherwise a wake-up is under way already, or the owner
//!   is blocked on its socket and will take the marks when the socket drains.
//! * The owner takes all marks with one swap *before* it looks at the rings. A mark set after the swap finds the word
//!   empty and wakes again; one set before is seen. So no mark is lost.
//! * Signals (timer, close) wake always.
//!
//! `tests/handle.rs` checks it in every interleaving.

use std::task::Waker;

use fanway_protocol::DisconnectCode;

use crate::sync::{AtomicU32, AtomicU64, AtomicWaker, Ordering};

/// The bit of the marks word that says "look at the signals".
const SIGNAL: u64 = 1 << 63;
/// Subscriptions share the other bits: index modulo this.
pub(crate) const MARK_BITS: usize = 63;

const TICK: u32 = 1;
const CLOSE: u32 = 2;

/// The hub's end of a connection.
#[derive(Debug, Default)]
pub struct Handle {
    waker: AtomicWaker,
    marks: AtomicU64,
    /// Low half: [`TICK`], [`CLOSE`]; high half: the close code.
    signals: AtomicU32,
}

/// What the owner found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bit per subscription index modulo [`MARK_BITS`].
    pub marks: u64,
    /// A deadline of the connection may have come.
    pub tick: bool,
    /// The node wants the connection closed.
    pub close: Option<u16>,
}

impl Handle {
    /// Marks a subscription as having something to read.
    pub(crate) fn mark(&self, index: u32) {
        let bit = 1 << (index as usize % MARK_BITS);
        if self.marks.fetch_or(bit, Ordering::SeqCst) == 0 {
            self.waker.wake();
        }
    }

    /// Tells the connection that a deadline of its own has come.
    pub(crate) fn tick(&self) {
        self.signal(TICK);
    }

    /// Asks the connection to close. The first asked code stays.
    pub fn close(&self, code: DisconnectCode) {
        let _ = self.signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |signals| {
            (signals & CLOSE == 0).then_some(signals | CLOSE | u32::from(code.code()) << 16)
        });
        self.signal(0);
    }

    fn signal(&self, bits: u32) {
        self.signals.fetch_or(bits, Ordering::SeqCst);
        self.marks.fetch_or(SIGNAL, Ordering::SeqCst);
        self.waker.wake();
    }

    /// Registers the owner's task. Must come before [`Handle::take`] in the same poll.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes marks and signals.
    pub(crate) fn take(&self) -> Taken {
        if self.marks.load(Ordering::SeqCst) == 0 {
            return Taken::default();
        }
        let marks = self.marks.swap(0, Ordering::SeqCst);
        self.taken(marks)
    }

    /// Takes the signals only; the marks stay, so that markers do not wake a connection blocked on its socket.
    pub(crate) fn take_signals(&self) -> Taken {
        if self.marks.load(Ordering::SeqCst) & SIGNAL == 0 {
            return Taken::default();
        }
        let marks = self.marks.fetch_and(!SIGNAL, Ordering::SeqCst);
        Taken { marks: 0, ..self.taken(marks) }
    }

    /// Takes the marks only, once the connection is not blocked any more; the signals stay for the wake-up that they
    /// have caused.
    pub(crate) fn take_marks(&self) -> u64 {
        self.marks.fetch_and(SIGNAL, Ordering::SeqCst) & !SIGNAL
    }

    fn taken(&self, marks: u64) -> Taken {
        let signals = if marks & SIGNAL == 0 { 0 } else { self.signals.fetch_and(!TICK, Ordering::SeqCst) };
        Taken {
            marks: marks & !SIGNAL,
            tick: signals & TICK != 0,
            close: (signals & CLOSE != 0).then_some((signals >> 16) as u16),
        }
    }
}
