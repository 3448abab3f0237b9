//! Event streams and polls against a real hub: what keeps a silent stream alive, and what a node on its way out says.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_hub::handle::Handle;
use fanway_hub::session::{EventSession, poll, resume_points};
use fanway_hub::turn::Turn;
use fanway_hub::{Hub, Identity, Limits};
use fanway_protocol::Channel;

use support::{fast, hub};

struct Stream {
    session: EventSession,
    taken: Vec<u8>,
}

impl Stream {
    fn new(hub: &Arc<Hub>, channel: &str) -> Self {
        let points = resume_points(hub.namespaces(), vec![Channel::new(channel).unwrap()], None);
        Self {
            session: EventSession::new(
                hub.clone(),
                Identity::anonymous(),
                points,
                Handle::by_task(),
                Vec::new(),
                Instant::now(),
            ),
            taken: Vec::new(),
        }
    }

    async fn until(&mut self, text: &str) {
        let heard = std::future::poll_fn(|cx| {
            self.session.poll(cx, Instant::now());
            let mut turn = Turn::default();
            while self.session.has_output() {
                self.session.gather(&mut turn);
                self.taken.extend_from_slice(turn.bytes());
                let len = turn.bytes().len();
                self.session.wrote(&mut turn, len, Instant::now());
            }
            match String::from_utf8_lossy(&self.taken).contains(text) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        });
        let in_time = tokio::time::timeout(Duration::from_secs(5), heard).await;
        assert!(in_time.is_ok(), "no {text:?} in {:?}", String::from_utf8_lossy(&self.taken));
    }
}

#[tokio::test]
async fn a_silent_stream_has_a_heartbeat() {
    let (hub, _broker) = hub(10, Limits { ping_interval: Duration::from_millis(200), ..fast() });
    let mut stream = Stream::new(&hub, "a");
    stream.until("event: ready").await;
    assert!(!String::from_utf8_lossy(&stream.taken).contains("\n:\n"), "not before the stream was silent");
    stream.until("\n\n:\n:\n").await;
}

/// A poll that comes while the node drains is answered at once, and told to take its time: else it would come again at
/// once, for as long as the drain lasts.
#[tokio::test]
async fn a_poll_during_the_drain_is_told_to_come_later() {
    let (hub, _broker) = hub(10, fast());
    let points = || resume_points(hub.namespaces(), vec![Channel::new("a").unwrap()], None);
    hub.drain(Duration::ZERO).await;
    let answer = tokio::time::timeout(Duration::from_secs(5), poll(&hub, points(), false, Duration::from_secs(60)));
    assert!(answer.await.unwrap().unwrap().draining);
}
