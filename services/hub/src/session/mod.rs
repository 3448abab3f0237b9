//! One client's session: what it may do, what it is subscribed to, what it still has to be told.
//!
//! Sessions are sans-I/O. A driver (in the gateway) owns the socket and the session, and is the only writer: it feeds
//! what it reads, polls the session, lets it gather a turn into a buffer, writes, and tells how much was taken. All
//! order questions are the program order of that one task. Deadlines are data: the session asks the wheel for a tick and
//! looks at its clocks when it comes.

mod catch_up;
mod client;
mod commands;
mod core;
mod disconnect;
mod encoders;
mod events;
mod gather;
mod ops;
mod page_read;
mod poll;
mod rate;
mod resume_points;
#[cfg(test)]
mod size;
mod subscription;

pub use self::client::ClientSession;
pub use self::core::Transport;
pub use self::disconnect::Disconnect;
pub(crate) use self::encoders::BuiltIn;
pub use self::events::{EventSession, Framing};
pub use self::poll::{PollAnswer, PollError, poll};
pub use self::resume_points::{Resume, ResumePoint};
