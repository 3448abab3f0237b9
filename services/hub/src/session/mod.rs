//! Sessions of clients: their subscriptions, their outboxes, and the protocols that they speak.
//!
//! A [`Session`] is a `Core`, which every session has, and a [`Protocol`]. It does no I/O: [`crate::driver`] feeds it what
//! a socket reads, polls it, gathers a batch of output into a buffer of the thread, writes it, and commits what the socket
//! took. Session and socket are behind one lock, and whoever holds it (the connection's task, or the fan-out, which only
//! writes) is the only writer: bytes leave in program order. Deadlines are data: the session asks the timer wheel for a
//! tick and compares its deadlines with the time when the tick comes.

mod answer;
mod catch_up;
mod centrifugal;
mod core;
mod disconnect;
mod encoders;
mod events;
mod gather;
mod join;
mod page_life;
mod page_read;
mod poll;
mod protocol;
mod rate;
mod resume_points;
#[cfg(test)]
mod size;
mod subscription;
mod transport;

pub(crate) use self::answer::ANSWER_BYTES;
pub use self::answer::{AnswerMemory, PollAnswer};
pub use self::centrifugal::{Centrifugal, ClientSession};
pub use self::core::{Core, Output};
pub use self::disconnect::Disconnect;
pub(crate) use self::encoders::BuiltIn;
pub use self::events::{EventSession, EventStream, Framing};
pub use self::join::Join;
pub use self::poll::{PollError, poll};
pub use self::protocol::{Protocol, Session};
pub use self::resume_points::{Resume, ResumePoint};
pub use self::transport::Transport;
