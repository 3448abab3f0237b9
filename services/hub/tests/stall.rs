//! A socket that takes nothing ends the session; a slow one does not.
#![allow(clippy::unwrap_used)]

mod support;

use std::task::Poll;
use std::time::{Duration, Instant};

use fanway_hub::{CloseReason, Limits};

use support::{Socket, fast, hub};

/// TLS takes what is written into a buffer of its own. As long as some of that reaches the peer there is no stall, even if
/// the buffer never empties.
#[tokio::test]
async fn bytes_held_below_are_a_stall_only_if_none_of_them_moves() {
    const STALL: Duration = Duration::from_millis(200);
    let (hub, _broker) = hub(0, Limits { write_stall: STALL, ..fast() });
    let mut socket = Socket::new(&hub);
    socket.settle(|socket| socket.heard().len() == 1).await;

    let begun = Instant::now();
    while begun.elapsed() < 5 * STALL {
        look(&mut socket, true).await;
        assert_eq!(socket.session.closing(), None);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while socket.session.closing() != Some(CloseReason::Slow) {
        assert!(Instant::now() < deadline, "never a stall");
        look(&mut socket, false).await;
    }
}

/// The driver finds that TLS still holds bytes, and lets the session work in the same moment.
async fn look(socket: &mut Socket, moving: bool) {
    let now = Instant::now();
    socket.session.stuck(true, moving, now);
    std::future::poll_fn(|cx| {
        socket.session.poll(cx, now);
        Poll::Ready(())
    })
    .await;
    // The hub's clock runs on this thread too.
    tokio::time::sleep(Duration::from_millis(10)).await;
}
