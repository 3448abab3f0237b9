//! `fanway-loadtest`: load generator and benchmark of Fanway over its public protocols.
//!
//! A [`scenario`] starts or finds its [`subject`], opens a fleet of [`clients`] that receive over a [`transport`], has the
//! [`publisher`] publish at a rate or in rounds, reads what the subject uses, [`check`]s what was received, and [`report`]s
//! it. It may do so several [`rounds`] long, in turn with the [`floor`], which is what the machine can do at that moment, and
//! with [`peers`].
//!
//! Everything is bounded: connections, publications, waits. What a run opens or starts ends with it.
#![forbid(unsafe_code)]

pub mod channels;
pub mod check;
pub mod clients;
pub mod clock;
pub mod floor;
pub mod http;
pub mod options;
pub mod peers;
pub mod publisher;
pub mod report;
pub mod rounds;
pub mod rows;
pub mod scenario;
pub mod schedule;
pub mod subject;
pub mod target;
pub mod token;
pub mod transport;
