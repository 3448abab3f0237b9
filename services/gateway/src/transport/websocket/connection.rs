//! The driver of a WebSocket connection: between the socket and a session of the client protocol.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanway_broker::log_limited;
use fanway_hub::handle::Handle;
use fanway_hub::session::{ClientSession, Disconnect};
use fanway_hub::{CloseReason, Hub, Identity};
use fanway_protocol::framing::websocket::{Decoder, Event, Limits, Opcode, close, frame};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::server::{ConnectionGuard, Io, Taken};
use crate::transport::driver;
use crate::transport::output::{poll_write, write_now};

thread_local! {
    /// Where the connection whose turn it is on this thread reads to.
    static INPUT: RefCell<Box<[u8]>> = RefCell::new(vec![0; INPUT_BYTES].into());
}

const INPUT_BYTES: usize = 16 * 1024;
/// Reads a connection does before it writes and lets others run.
const READS: usize = 4;
/// Longest time from a message's first byte to its last. Time in which the node does not read does not count.
const MESSAGE_AGE: Duration = Duration::from_secs(30);
/// How long the closing handshake may take, what is owed included.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read and thrown away while closing, so that the close frame is not lost to a reset.
const CLOSE_READ_BYTES: usize = 256 * 1024;

/// A WebSocket connection.
pub(crate) struct Connection {
    io: Io,
    session: ClientSession,
    decoder: Decoder,
    /// Arrival of an incomplete message's first byte, or the end of the last pause in reading, whichever is later.
    incomplete_since: Option<Instant>,
    closing: Option<Box<Closing>>,
    _guard: ConnectionGuard,
}

/// The end of a connection: everything owed, the close frame, then until the peer is done too.
struct Closing {
    deadline: Pin<Box<Sleep>>,
    /// The close frame is with the kernel and our half is shut.
    shut: bool,
    read: usize,
}

impl Connection {
    /// Takes a socket over, with the 101 to be written to it.
    pub(crate) fn new(taken: Taken, hub: Arc<Hub>, presented: Option<Identity>, handle: Arc<Handle>) -> Self {
        Self::open(taken, hub, presented, handle, None)
    }

    /// Takes a socket over only to close it, because the client cannot be served and must learn so by a close code.
    pub(crate) fn refused(taken: Taken, hub: Arc<Hub>, handle: Arc<Handle>, reason: CloseReason) -> Self {
        Self::open(taken, hub, None, handle, Some(reason))
    }

    fn open(
        taken: Taken,
        hub: Arc<Hub>,
        presented: Option<Identity>,
        handle: Arc<Handle>,
        refused: Option<CloseReason>,
    ) -> Self {
        let now = Instant::now();
        let limits = Limits { max_message_bytes: hub.limits().message_size.as_u64() as usize, ..Limits::default() };
        let mut connection = Self {
            io: taken.io,
            session: ClientSession::new(hub, presented, handle, now),
            decoder: Decoder::new(limits),
            incomplete_since: None,
            closing: None,
            _guard: taken.guard,
        };
        *connection.session.output() = taken.head;
        if let Some(reason) = refused {
            // Before anything is read: what such a client sends is not understood.
            connection.session.close(reason);
        }
        if !taken.early.is_empty() {
            let mut early = Vec::from(taken.early);
            connection.decode(&mut early, now);
        }
        connection
    }

    /// Reads until the socket has no more, or enough for now. `Ready` when the peer is gone.
    fn poll_read(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        INPUT.with_borrow_mut(|input| {
            for _ in 0..READS {
                // Commands that wait for their turn are answered first; their end wakes the task.
                if self.closing.is_none() && !self.session.wants_input() {
                    return Poll::Pending;
                }
                let mut buffer = ReadBuf::new(input);
                ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer))?;
                let len = buffer.filled().len();
                if len == 0 {
                    return Poll::Ready(Ok(()));
                }
                match &mut self.closing {
                    None => self.decode(&mut input[..len], now),
                    Some(closing) => {
                        closing.read += len;
                        if closing.read > CLOSE_READ_BYTES {
                            return Poll::Ready(Ok(()));
                        }
                    }
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn decode(&mut self, input: &mut [u8], now: Instant) {
        let mut input = input;
        // One pong for all pings of a read: RFC 6455 section 5.5.3 asks for the newest only.
        let mut pong = None;
        while self.closing.is_none() && self.session.closing().is_none() {
            match self.decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Event::Text(text))) => {
                    // What is incomplete after this is a newer message.
                    self.incomplete_since = None;
                    self.session.on_frame(text, now);
                }
                Ok(Some(Event::Ping(payload))) => {
                    self.session.on_control(now);
                    pong = Some(Bytes::copy_from_slice(payload));
                }
                Ok(Some(Event::Pong(_) | Event::Binary(_))) => self.session.on_control(now),
                Ok(Some(Event::Close { code, .. })) => {
                    self.pong(pong.take());
                    self.session.close(CloseReason::ConnectionClosed);
                    self.begin_closing(code, "");
                }
                Err(fault) => {
                    self.pong(pong.take());
                    log_limited!(DEBUG, fault = fault.metric_label(), "websocket fault");
                    self.session.close(CloseReason::BadRequest);
                    self.begin_closing(Some(fault.close_code()), fault.reason());
                }
            }
        }
        self.pong(pong);
        match self.decoder.in_progress() {
            true => _ = self.incomplete_since.get_or_insert(now),
            false => self.incomplete_since = None,
        }
    }

    /// Answers a ping, before anything that ends the connection: after a close frame nothing may follow.
    fn pong(&mut self, payload: Option<Bytes>) {
        if let Some(payload) = payload {
            frame::write(self.session.output(), Opcode::Pong, &payload);
        }
    }

    fn disconnect(&mut self, reason: CloseReason) {
        let Disconnect { code, reason } = reason.into();
        self.begin_closing(Some(code.code()), reason);
    }

    fn begin_closing(&mut self, code: Option<u16>, reason: &str) {
        if self.closing.is_some() {
            return;
        }
        frame::write_close(self.session.output(), code, reason);
        let deadline = Box::pin(tokio::time::sleep(CLOSE_TIMEOUT));
        self.closing = Some(Box::new(Closing { deadline, shut: false, read: 0 }));
    }

    /// Whether a message has been incomplete for too long.
    fn overdue(&self, now: Instant) -> bool {
        self.incomplete_since.is_some_and(|since| now.saturating_duration_since(since) >= MESSAGE_AGE)
    }
}

impl driver::Connection for Connection {
    fn write(&mut self) -> bool {
        self.closing.is_none() && write_now(&mut self.io, &mut self.session)
    }

    fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let now = Instant::now();
        if !self.session.wants_input() {
            // The rest of the message may wait in the socket's buffer, unread because of the command rate or of replies.
            self.incomplete_since = self.incomplete_since.map(|_| now);
        }
        self.session.poll(cx, now);
        if self.overdue(now) {
            self.session.close(CloseReason::BadRequest);
            self.begin_closing(Some(close::POLICY_VIOLATION), "message took too long");
        }
        if self.poll_read(cx, now)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let held_back = !self.session.wants_input();
        // What was read may be answered at once.
        self.session.poll(cx, now);
        if held_back && self.session.wants_input() {
            // Nobody waits for the socket: there was no room for what it has.
            cx.waker().wake_by_ref();
        }
        if let Some(reason) = self.session.closing().filter(|_| self.closing.is_none()) {
            self.disconnect(reason);
            // From now on input is read again, to see the client go.
            cx.waker().wake_by_ref();
        }
        let written = poll_write(&mut self.io, &mut self.session, cx)?;
        // Writing may have found that the session must end.
        if let Some(reason) = self.session.closing().filter(|_| self.closing.is_none()) {
            self.disconnect(reason);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(closing) = &mut self.closing else { return Poll::Pending };
        if closing.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if written.is_ready() && !closing.shut {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            closing.shut = true;
        }
        Poll::Pending
    }
}
