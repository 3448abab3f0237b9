//! The client protocol (see `fanway_protocol::command`) in JSON over WebSocket. Each command has a file of its own.
//!
//! Commands take effect in the order sent. Subscribes begin at once and side by side, but each one's reply, and with it
//! its publications, waits for its turn; everything else begins in its turn. So a subscribe reply precedes that
//! subscription's publications, and nothing of a channel follows its unsubscribe reply.

mod authorization;
mod command;
mod connect;
mod deadlines;
mod history;
mod input;
mod owed_gaps;
mod publish;
mod queue;
mod rare;
mod refresh;
mod subscribe;
mod unsubscribe;

use std::borrow::Cow;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use fanway_protocol::codec::json;
use fanway_protocol::framing::websocket::{Decoder, Limits, Opcode, close, frame};
use fanway_protocol::reply::{Push, Reply};
use fanway_protocol::{ErrorCode, UnsubscribeCode};
use uuid::Uuid;

use self::owed_gaps::OwedGaps;
use self::queue::{Op, Queue};
use self::rare::Rare;
use super::core::{Core, Output, OwnBytes};
use super::disconnect::Disconnect;
use super::protocol::{Protocol, Session};
use super::rate::Bucket;
use super::transport::Transport;
use crate::close_reason::CloseReason;
use crate::handle::Handle;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::quota::Address;

/// Commands that may wait for their turn before the session stops reading.
const WAITING_COMMANDS: usize = 256;
/// Room for a few replies, such as those of a connect and its first subscribe.
const REPLY_BYTES: usize = 256;

/// Where the session stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing but connect is understood until the deadline.
    Unauthenticated {
        /// Ends the session (3502).
        deadline: Instant,
        /// A credential that came with the HTTP request.
        presented: Option<Box<Identity>>,
    },
    /// Connect is under way.
    Connecting,
    /// Connect was answered with an error, such as an expired token. What the client had sent along with it is ignored,
    /// and it leaves; at the deadline it is ended (3502).
    Refused {
        /// Ends the session (3502).
        deadline: Instant,
    },
    /// Everything is understood.
    Active(Box<Identity>),
}

/// Longest time from a message's first byte to its last. Time in which the node does not read does not count.
const MESSAGE_AGE: Duration = Duration::from_secs(30);

/// The client protocol, from the side of one connection.
pub struct Centrifugal {
    decoder: Decoder,
    /// Arrival of an incomplete message's first byte, or the end of the last pause in reading, whichever is later.
    incomplete_since: Option<Instant>,
    phase: Phase,
    /// Commands whose turn has not come, in order.
    ops: Queue,
    bucket: Bucket,
    /// One interval after the last ping.
    next_ping: Instant,
    /// Pings without their pongs; if there are any by [`ClientSession::pong_deadline`] the session ends (3012).
    pings_out: u8,
    /// Channels of which the client is owed a gap.
    owed_gaps: OwedGaps,
    /// The client is ahead of its rate of commands or of a quota, and not read from.
    throttled: bool,
    rare: Rare,
    /// It was so after the last ping: the pong may be among what was not read.
    pong_unread: bool,
}

/// A session of the client protocol.
pub type ClientSession = Session<Centrifugal>;

impl std::fmt::Debug for Centrifugal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Centrifugal").field("phase", &self.phase).finish_non_exhaustive()
    }
}

impl Protocol for Centrifugal {
    const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

    fn identity(&self) -> Option<&Identity> {
        match &self.phase {
            Phase::Unauthenticated { presented, .. } => presented.as_deref(),
            Phase::Connecting => self.ops.iter().find_map(Op::connecting),
            Phase::Active(identity) => Some(identity),
            Phase::Refused { .. } => None,
        }
    }

    fn wants_input(session: &ClientSession) -> bool {
        let Self { throttled, ops, .. } = &session.protocol;
        !throttled && ops.len() < WAITING_COMMANDS && session.replies_fit()
    }

    fn on_input(session: &mut ClientSession, input: &mut [u8], now: Instant) {
        session.decode(input, now);
    }

    fn poll(session: &mut ClientSession, cx: &mut Context<'_>, now: Instant) {
        session.end_throttling(now);
        session.share_debt(now);
        if !session.wants_input() {
            // The rest of the message may wait in the socket's buffer, unread because of the command rate or of replies.
            session.protocol.incomplete_since = session.protocol.incomplete_since.map(|_| now);
        }
        session.poll_ops(cx, now);
        let overdue = |since| now.saturating_duration_since(since) >= MESSAGE_AGE;
        if session.core.closing.is_none() && session.protocol.incomplete_since.is_some_and(overdue) {
            session.fail(Some(close::POLICY_VIOLATION), "message took too long", CloseReason::BadRequest);
        }
    }

    fn on_tick(session: &mut ClientSession, now: Instant) {
        session.end_throttling(now);
        session.check_deadlines(now);
        session.resubscribe_due(now);
        session.reschedule();
    }

    fn on_stall(session: &mut ClientSession, _now: Instant) {
        session.reschedule();
    }

    fn waits_for_room(session: &ClientSession) -> bool {
        !session.replies_fit()
    }

    fn on_relief(session: &mut ClientSession, now: Instant) {
        if session.protocol.pings_out > 0 {
            // Only now has the client had a chance to receive the ping.
            session.protocol.next_ping = now + session.core.hub.limits.ping_interval;
            session.reschedule();
        }
    }

    fn on_close(session: &mut ClientSession, reason: CloseReason) {
        session.protocol.ops.clear();
        // What it holds of a message is of no use any more, and the client may take its time to go.
        session.protocol.decoder = Decoder::new(Limits::default());
        let Disconnect { code, reason } = reason.into();
        frame::write_close(session.core.outbox.buffer(), Some(code.code()), reason);
    }
}

impl ClientSession {
    /// A session that waits for its connect command. `presented`: the credential of the HTTP request, verified, if any.
    pub fn new(hub: Arc<Hub>, presented: Option<Identity>, handle: Arc<Handle>, now: Instant) -> Self {
        let deadline = now + hub.limits.connect_timeout;
        let limits = Limits { max_message_bytes: hub.limits.message_size.as_u64() as usize, ..Limits::default() };
        let output = Output {
            transport: Transport::WEB_SOCKET,
            encoding: hub.built_in.json_frames,
            own_bytes: OwnBytes::None,
            announces_gaps: false,
        };
        let core = Core::new(hub, output, handle, now, deadline);
        // Found by its credential from the moment that this is accepted: the client may take its time to connect.
        presented.iter().for_each(|identity| core.identify(identity));
        let protocol = Centrifugal {
            decoder: Decoder::new(limits),
            incomplete_since: None,
            phase: Phase::Unauthenticated { deadline, presented: presented.map(Box::new) },
            ops: Queue::default(),
            bucket: Bucket::new(now),
            next_ping: deadline,
            pings_out: 0,
            throttled: false,
            rare: Rare::default(),
            owed_gaps: OwedGaps::default(),
            pong_unread: false,
        };
        Self { core, protocol }
    }

    /// The same session of a client with this address.
    #[must_use]
    pub fn at_address(mut self, address: Option<Address>) -> Self {
        if address.is_some() {
            self.protocol.rare.make().address = address;
        }
        self
    }

    /// The connection's id, which its client is given, and others with its publications. Derived, so that an idle session
    /// need not keep it.
    fn id(&self) -> Uuid {
        self.core.client_id()
    }

    /// The outbox: where the answer to the upgrade goes before anything else.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.core.outbox.buffer()
    }

    /// Identity of a client that is connected.
    fn identity(&self) -> Option<&Identity> {
        match &self.protocol.phase {
            Phase::Active(identity) => Some(identity),
            _ => None,
        }
    }

    /// Ends a subscription from the server's side.
    fn unsubscribe_push(&mut self, index: u32, code: UnsubscribeCode, reason: Cow<'static, str>) {
        let Some(Some(sub)) = self.core.subs.get(index as usize) else { return };
        let push = Push::Unsubscribe { channel: sub.channel().as_str(), code: code.code(), reason };
        frame::write_with(self.core.outbox.buffer(), Opcode::Text, |out| json::write_push(&push, out));
        self.core.remove(index);
    }

    fn reply(&mut self, reply: &Reply<'_>) {
        let buffer = self.core.outbox.buffer();
        if buffer.capacity() == 0 {
            // Most replies fit, so that the buffer does not grow by doubling from nothing.
            buffer.reserve(REPLY_BYTES);
        }
        frame::write_with(buffer, Opcode::Text, |out| json::write_reply(reply, out));
    }

    fn error(&mut self, id: u32, code: ErrorCode) {
        self.reply(&Reply::error(id, code));
    }
}
