//! Client endpoints: they admit a request, and hand its socket and a session to [`fanway_hub::driver`], or answer.

pub mod admission;
mod door;
pub mod poll;
pub mod refusal;
mod socket;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod websocket;

pub use door::{ClientState, router};
