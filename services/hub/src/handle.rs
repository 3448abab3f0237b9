//! What the hub holds of a connection: enough to mark its subscriptions, and to have it written once.
//!
//! The protocol between markers and the connection, in one word:
//! * A marker sets its bit, and serves the connection only if the word was empty: otherwise somebody else is about to, or
//!   the connection is blocked on its socket and takes its marks when the socket drains.
//! * To serve is to take the connection's turn where one is ([`Writer`]), or, where that is not possible now, to wake its
//!   task. The connection is behind a lock, so it has one owner at any time.
//! * Whoever owns it takes all marks with one swap *before* looking at the rings. A mark set after the swap finds the
//!   word empty and serves again; one set before is seen. So no mark is lost.
//! * Signals (timer, mail, close) wake the task always.
//!
//! `tests/handle.rs` checks it in every interleaving.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32 as Counter;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;

use crate::close_reason::CloseReason;
use crate::sync::{AtomicU32, AtomicU64, AtomicWaker, Ordering};

/// The bit of the marks word that says "look at the signals".
const SIGNAL: u64 = 1 << 63;
/// Subscriptions share the other bits: index modulo this.
pub(crate) const MARK_BITS: usize = 63;

const TICK: u32 = 1;
const CLOSE: u32 = 2;
/// Set from the beginning: the client would not go elsewhere if the connection were closed. It is a poll, which ends by
/// itself, or a stream over an HTTP/2 connection that stays.
const STAYS: u32 = 4;
/// The mailbox has something.
const MAIL: u32 = 8;

/// How many connections were numbered.
static NUMBERED: Counter = Counter::new(0);

/// A connection's way to its socket, for whoever has marked it.
///
/// It saves the connection's task a wake-up, the scheduler a task, and with many subscribers much of the time that a
/// delivery takes besides the system call.
pub trait Writer: Send + Sync {
    /// Writes what the connection has, here and now, without waiting. False if its task must do it: it is at work, the
    /// socket is full, the connection ends, or anything else is out of the ordinary.
    fn write(&self) -> bool;
}

/// The writer of a connection that only its own task can write to.
#[derive(Debug)]
pub struct ByTask;

impl Writer for ByTask {
    fn write(&self) -> bool {
        false
    }
}

/// The hub's end of a connection.
pub struct Handle<W: ?Sized = dyn Writer> {
    waker: AtomicWaker,
    marks: AtomicU64,
    /// Low half: [`TICK`], [`CLOSE`], [`STAYS`], [`MAIL`]; high half: the discriminant of the [`CloseReason`].
    signals: AtomicU32,
    /// Consecutive number of the connection, by which the oldest are found.
    number: u32,
    writer: W,
}

impl<W: ?Sized> fmt::Debug for Handle<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("marks", &self.marks).field("signals", &self.signals).finish_non_exhaustive()
    }
}

/// What the owner found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Bit per subscription index modulo [`MARK_BITS`].
    pub marks: u64,
    /// A deadline of the connection may have come.
    pub tick: bool,
    /// There are messages in the connection's mailbox.
    pub mail: bool,
    /// The node wants the connection closed.
    pub close: Option<CloseReason>,
}

impl Handle {
    /// That of a connection which only its own task writes to, and which closing would not move elsewhere.
    pub fn by_task() -> Arc<Self> {
        Arc::new(Handle { signals: AtomicU32::new(STAYS), ..Handle::new(ByTask) })
    }
}

impl<W> Handle<W> {
    /// That of a connection with this writer.
    pub fn new(writer: W) -> Self {
        let number = NUMBERED.fetch_add(1, Relaxed).wrapping_add(1);
        Self { waker: AtomicWaker::default(), marks: AtomicU64::new(0), signals: AtomicU32::new(0), number, writer }
    }
}

impl<W: Writer + ?Sized> Handle<W> {
    /// The connection's way to its socket.
    pub fn writer(&self) -> &W {
        &self.writer
    }

    /// Marks a subscription as having something to read. True if nothing was marked: the caller must [`Handle::serve`]
    /// the connection then.
    #[must_use]
    pub(crate) fn mark(&self, index: u32) -> bool {
        let bit = 1 << (index as usize % MARK_BITS);
        self.marks.fetch_or(bit, Ordering::SeqCst) == 0
    }

    /// Has written what the connection has: here, or by its task.
    pub(crate) fn serve(&self) {
        if !self.writer.write() {
            self.waker.wake();
        }
    }

    /// Tells the connection that a deadline of its own has come.
    pub(crate) fn tick(&self) {
        self.signal(TICK);
    }

    /// Notifies the connection of messages in its mailbox, once they are there.
    pub(crate) fn has_mail(&self) {
        self.signal(MAIL);
    }

    /// Asks the connection to close. The first reason stays, unless this one outlasts it.
    pub fn close(&self, reason: CloseReason) {
        let _ = self.signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |signals| {
            let replaces = asked_to_close(signals).is_none_or(|first| reason.outlasts(first));
            let flags = signals & u32::from(u16::MAX);
            replaces.then_some(flags | CLOSE | u32::from(reason.discriminant()) << 16)
        });
        self.signal(0);
    }

    /// Consecutive number of the connection in its process.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Whether the connection's client would go elsewhere if it were closed.
    pub(crate) fn lasts(&self) -> bool {
        self.signals.load(Ordering::SeqCst) & STAYS == 0
    }

    /// How many connections have been numbered since this one; `None` if closing it would move nobody, or it was asked to
    /// close already.
    pub(crate) fn seniority(&self) -> Option<u32> {
        let movable = self.signals.load(Ordering::SeqCst) & (CLOSE | STAYS) == 0;
        movable.then(|| NUMBERED.load(Relaxed).wrapping_sub(self.number))
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
        let signals = if marks & SIGNAL == 0 { 0 } else { self.signals.fetch_and(!(TICK | MAIL), Ordering::SeqCst) };
        Taken {
            marks: marks & !SIGNAL,
            tick: signals & TICK != 0,
            mail: signals & MAIL != 0,
            close: asked_to_close(signals),
        }
    }
}

/// The reason with which a connection with these signals was asked to close.
fn asked_to_close(signals: u32) -> Option<CloseReason> {
    (signals & CLOSE != 0).then(|| CloseReason::from_discriminant((signals >> 16) as u8))
}
