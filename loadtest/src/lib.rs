//! `fanway-loadtest`: load generator and benchmark of Fanway over its public protocols.
//!
//! A [`scenario`] opens a fleet of [`clients`] that receive over a [`transport`], has the [`publisher`] publish on a
//! [`schedule`], reads what the [`server`] uses, [`check`]s what was received, and [`report`]s it.
//!
//! Everything is bounded: connections, publications, waits. What a run opens or starts ends with it.
#![forbid(unsafe_code)]

pub mod check;
pub mod clients;
pub mod http;
pub mod options;
pub mod publisher;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod server;
pub mod target;
pub mod token;
pub mod transport;
