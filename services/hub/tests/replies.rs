//! A client that asks for much and reads little: what it is owed stays bounded, and it gets all of it in the end.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use fanway_hub::Limits;

use support::{Socket, fast, hub, publish};

#[tokio::test]
async fn commands_wait_while_their_replies_would_not_be_read() {
    const CHANNELS: u64 = 20;
    let limits = Limits { reply_buffer: ByteSize::kib(64), ..fast() };
    let (hub, broker) = hub(100, limits);
    // In each channel more than the buffer for replies.
    let filler = "x".repeat(1000);
    for channel in 0..CHANNELS {
        for _ in 0..80 {
            publish(&broker, &hub, &format!("c{channel}"), format!("\"{filler}\"")).await;
        }
    }
    let mut socket = Socket::new(&hub);
    socket.settle(|socket| socket.heard().len() == 1).await;
    for channel in 0..CHANNELS {
        socket.say(&format!(
            r#"{{"id":{},"subscribe":{{"channel":"c{channel}","recover":true,"epoch":"{}"}}}}"#,
            channel + 2,
            epoch(&hub, channel).await
        ));
    }
    let mut most = 0;
    for _ in 0..200 {
        socket.poll().await;
        socket.write(|_| 0);
        most = most.max(socket.turn.bytes().len());
    }
    assert!(most > 64 * 1024 && most < 4 * 64 * 1024, "one reply beyond the bound, not twenty: {most}");
    assert!(!socket.session.wants_input());
    assert_eq!(socket.session.closing(), None);

    let deadline = Instant::now() + Duration::from_secs(20);
    while socket.heard_whole() < 1 + CHANNELS as usize {
        assert!(Instant::now() < deadline, "not all replies came");
        socket.poll().await;
        socket.write(|all| all.min(10_000));
    }
    assert!(socket.session.wants_input());
}

/// The epoch of a channel, asked as a client does.
async fn epoch(hub: &std::sync::Arc<fanway_hub::Hub>, channel: u64) -> String {
    let mut socket = Socket::new(hub);
    socket.say(&format!(r#"{{"id":2,"subscribe":{{"channel":"c{channel}"}}}}"#));
    socket.settle(|socket| socket.heard().len() == 2).await;
    socket.heard()[1]["subscribe"]["epoch"].as_str().unwrap().to_owned()
}

impl Socket {
    /// Whole replies taken so far, when nothing waits.
    fn heard_whole(&self) -> usize {
        if self.session.has_output() { 0 } else { self.heard().len() }
    }
}
