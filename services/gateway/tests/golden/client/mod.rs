//! The client protocol over WebSocket.

mod close;
mod command;
mod connect;
mod frame;
mod subscribe;

/// Steps that open a connection `a` and connect it as alice.
const CONNECTED: &str = r#"
    socket a
    > {"id":1,"connect":{"token":"<alice>"}}
    <
"#;

/// A script behind [`CONNECTED`].
fn connected(script: &str) -> String {
    format!("{}\n{}", CONNECTED.trim(), script.trim())
}
