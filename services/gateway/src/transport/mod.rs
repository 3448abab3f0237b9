//! How clients are connected.

pub mod websocket;
