//! The gateway: everything between a socket and the hub. Only room that knows axum and hyper.
#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod console;
pub mod error_body;
pub mod health;
mod open_files;
pub mod rebalance;
pub mod server;
pub mod telemetry;
pub mod transport;
