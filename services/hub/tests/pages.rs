//! What a client missed comes in pages: all of it, in order and once, or a gap before anything newer; and clients that do
//! not read hold no memory for long.
#![allow(clippy::unwrap_used)]

mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use fanway_broker::AnyBroker;
use fanway_hub::driver::Pulled;
use fanway_hub::handle::Handle;
use fanway_hub::session::{EventSession, Framing, PollAnswer, Resume, poll};
use fanway_hub::turn::Turn;
use fanway_hub::{Hub, Identity, Inbox, Limits};
use fanway_protocol::{Channel, ChannelHash, Cursor, Epoch, Position};
use serde_json::Value;

use support::{Socket, fast, hub_counting, publish};

/// Bytes of a publication: eight make a page.
const SIZE: usize = 4096;

struct Node {
    hub: Arc<Hub>,
    broker: Arc<AnyBroker>,
    registry: prometheus::Registry,
}

impl Node {
    fn new(history: u32, limits: Limits) -> Self {
        let (hub, broker, registry) = hub_counting(history, limits, Inbox::new());
        Self { hub, broker, registry }
    }

    async fn publish(&self, channel: &str, count: usize) {
        for _ in 0..count {
            publish(&self.broker, &self.hub, channel, format!("\"{}\"", "x".repeat(SIZE - 2))).await;
        }
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let metric = &families.iter().find(|family| family.name() == name).unwrap().get_metric()[0];
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    }

    /// The epoch of a channel.
    async fn epoch(&self, channel: &str) -> String {
        let mut socket = Socket::new(&self.hub);
        let reply = socket.ask(2, &format!(r#""subscribe":{{"channel":"{channel}"}}"#)).await;
        reply["subscribe"]["epoch"].as_str().unwrap().to_owned()
    }

    fn stream(&self, channels: &[&str], cursor: &str) -> Stream {
        let channels = channels.iter().map(|channel| Channel::new(channel).unwrap()).collect();
        let resume = Resume::new(self.hub.namespaces(), channels, Some(cursor));
        let (identity, handle) = (Identity::anonymous(), Handle::by_task());
        let now = Instant::now();
        let session = EventSession::new(self.hub.clone(), identity, resume, handle, Vec::new(), Framing::Plain, now);
        Stream { session, taken: String::new() }
    }

    async fn poll(&self, channels: &[&str], cursor: &str) -> PollAnswer {
        let channels = channels.iter().map(|channel| Channel::new(channel).unwrap()).collect();
        let resume = Resume::new(self.hub.namespaces(), channels, Some(cursor));
        poll(&self.hub, Identity::anonymous(), &resume, Duration::ZERO).await.unwrap()
    }
}

fn resume(id: u64, channel: &str, epoch: &str, offset: u64) -> String {
    format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}","recover":true,"epoch":"{epoch}","offset":{offset}}}}}"#)
}

fn cursor(items: &[(&str, &str, u64)]) -> String {
    let item = |(channel, epoch, offset): &(&str, &str, u64)| {
        let position = Position { epoch: Epoch::parse(epoch).unwrap(), offset: *offset };
        (ChannelHash::of(&Channel::new(channel).unwrap()), Some(position))
    };
    Cursor::text(items.iter().map(item))
}

/// An event stream on a socket of the test's own.
struct Stream {
    session: EventSession,
    taken: String,
}

impl Stream {
    async fn work(&mut self) {
        std::future::poll_fn(|cx| {
            self.session.poll(cx, Instant::now());
            std::task::Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
    }

    fn write(&mut self, room: usize) {
        let mut turn = Turn::default();
        self.session.gather(&mut turn);
        let taken = turn.bytes().len().min(room);
        self.taken += std::str::from_utf8(&turn.bytes()[..taken]).unwrap();
        self.session.wrote(&mut turn, taken, Instant::now());
    }

    async fn until(&mut self, mut done: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let events = self.events();
            if done(&events) {
                return events;
            }
            assert!(Instant::now() < deadline, "{} events", events.len());
            self.work().await;
            self.write(usize::MAX);
        }
    }

    fn events(&self) -> Vec<Value> {
        Self::events_of(&self.taken)
    }

    fn events_of(text: &str) -> Vec<Value> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
        lines.map(|data| serde_json::from_str(data).unwrap()).collect()
    }
}

fn offsets(values: &[Value]) -> Vec<u64> {
    values.iter().filter_map(|value| value["offset"].as_u64()).collect()
}

/// Offsets in a subscribe reply and in the pushes after it.
fn offsets_of(socket: &Socket) -> Vec<u64> {
    let mut offsets = Vec::new();
    for value in socket.heard() {
        let reply = value["subscribe"]["publications"].as_array().into_iter().flatten();
        offsets.extend(reply.filter_map(|publication| publication["offset"].as_u64()));
        offsets.extend(value["push"]["pub"]["offset"].as_u64());
    }
    offsets
}

#[tokio::test]
async fn a_resume_gets_everything_page_by_page() {
    let node = Node::new(400, fast());
    node.publish("a", 300).await;
    let epoch = node.epoch("a").await;
    let mut socket = Socket::new(&node.hub);
    socket.say(&resume(2, "a", &epoch, 0));
    let replied = |socket: &Socket| socket.heard().into_iter().find(|value| value["id"] == 2);
    socket.settle(|socket| replied(socket).is_some()).await;
    let reply = &replied(&socket).unwrap()["subscribe"];
    assert_eq!((&reply["recovered"], reply["offset"].as_u64().unwrap_or(0)), (&Value::from(true), 0));
    let first = reply["publications"].as_array().unwrap().len();
    assert!((1..=8).contains(&first), "{first} publications in the reply");
    // What is published meanwhile comes after what was missed.
    node.publish("a", 3).await;
    socket.settle(|socket| offsets_of(socket).len() == 303).await;
    assert_eq!(offsets_of(&socket), (1..=303).collect::<Vec<_>>());
    node.publish("a", 1).await;
    socket.settle(|socket| offsets_of(socket).len() == 304).await;
    assert_eq!(offsets_of(&socket).last(), Some(&304));
    assert_eq!(node.metric("fanway_page_bytes"), 0.0);
}

/// The limit is the client protocol's: SDKs expect it.
#[tokio::test]
async fn streams_and_polls_have_no_limit_but_the_log() {
    let node = Node::new(1000, fast());
    for n in 0..700 {
        publish(&node.broker, &node.hub, "a", n.to_string()).await;
    }
    let epoch = node.epoch("a").await;
    let mut socket = Socket::new(&node.hub);
    let command = format!(r#""subscribe":{{"channel":"a","recover":true,"epoch":"{epoch}","offset":0}}"#);
    let reply = socket.ask(2, &command).await;
    assert_ne!(reply["subscribe"]["recovered"], true, "more than client.recovery_limit");

    let mut at = cursor(&[("a", &epoch, 0)]);
    let mut stream = node.stream(&["a"], &at);
    let events = stream.until(|events| offsets(events).len() == 700).await;
    assert_eq!(offsets(&events), (1..=700).collect::<Vec<_>>());

    let mut polled = Vec::new();
    while polled.len() < 700 {
        let answer = node.poll(&["a"], &at).await;
        let list = format!("[{}]", String::from_utf8(answer.publications).unwrap());
        let publications: Vec<Value> = serde_json::from_str(&list).unwrap();
        assert!(!publications.is_empty() && answer.gaps.is_empty());
        polled.extend(offsets(&publications));
        at = answer.cursor;
    }
    assert_eq!(polled, (1..=700).collect::<Vec<_>>());
}

/// A log that was trimmed between two pages is a gap before anything newer.
#[tokio::test]
async fn a_log_that_is_trimmed_between_two_pages_is_a_gap() {
    let node = Node::new(50, fast());
    node.publish("a", 50).await;
    let epoch = node.epoch("a").await;
    let mut stream = node.stream(&["a"], &cursor(&[("a", &epoch, 0)]));
    let mut socket = Socket::new(&node.hub);
    socket.say(&resume(2, "a", &epoch, 0));
    // Both have their first page, and take nothing more.
    while offsets(&stream.events()).is_empty() {
        stream.work().await;
        stream.write(usize::MAX);
    }
    socket.settle(|socket| !offsets_of(socket).is_empty()).await;
    node.publish("a", 60).await;

    let events = stream.until(|events| events.last().is_some_and(|event| event["offset"] == 110)).await;
    let gap = events.iter().position(|event| event["reason"] == "retention").expect("a gap");
    let (before, after) = (offsets(&events[..gap]), offsets(&events[gap + 1..]));
    assert_eq!(before, (1..=before.len() as u64).collect::<Vec<_>>());
    let at = events[gap]["offset"].as_u64().unwrap();
    assert_eq!(after, (at + 1..=110).collect::<Vec<_>>());

    let unsubscribed = |value: &Value| !value["push"]["unsubscribe"].is_null();
    socket.settle(|socket| socket.heard().iter().any(unsubscribed)).await;
    let heard = socket.heard();
    let offsets = offsets_of(&socket);
    assert_eq!(offsets, (1..=offsets.len() as u64).collect::<Vec<_>>(), "nothing newer before the gap");
    assert!(offsets.len() < 50);
    let push = heard.iter().find(|value| unsubscribed(value)).unwrap();
    assert_eq!(push["push"]["unsubscribe"]["code"], 2500, "{push}");
}

/// A page that the socket does not take is dropped after a second, and read again when it does.
#[tokio::test]
async fn a_blocked_socket_loses_its_page_for_a_while() {
    let node = Node::new(400, fast());
    node.publish("a", 100).await;
    let epoch = node.epoch("a").await;
    let mut stream = node.stream(&["a"], &cursor(&[("a", &epoch, 0)]));
    let deadline = Instant::now() + Duration::from_secs(20);
    while !stream.session.blocked() {
        assert!(Instant::now() < deadline);
        stream.work().await;
        stream.write(100);
    }
    let blocked = Instant::now();
    assert!(node.metric("fanway_page_bytes") > 0.0);
    while node.metric("fanway_pages_dropped_total") == 0.0 {
        assert!(blocked.elapsed() < Duration::from_secs(20));
        stream.work().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(blocked.elapsed() > Duration::from_millis(800), "{:?}", blocked.elapsed());
    let views = Instant::now() + Duration::from_secs(20);
    while node.metric("fanway_page_bytes") > 0.0 {
        assert!(Instant::now() < views);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let events = stream.until(|events| offsets(events).len() == 100).await;
    assert_eq!(offsets(&events), (1..=100).collect::<Vec<_>>());
}

/// A page that is read for a session which is not polled any more does not stay.
#[tokio::test]
async fn a_session_that_is_not_polled_holds_no_page() {
    let node = Node::new(400, fast());
    node.publish("a", 100).await;
    let epoch = node.epoch("a").await;
    let mut stream = node.stream(&["a"], &cursor(&[("a", &epoch, 0)]));
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline);
        stream.work().await;
        // The first page comes with the subscription; this is the next one.
        if node.metric("fanway_page_bytes") > 0.0 && !offsets(&stream.events()).is_empty() {
            break;
        }
        stream.write(usize::MAX);
    }
    let stopped = Instant::now();
    while node.metric("fanway_page_bytes") > 0.0 {
        assert!(stopped.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let events = stream.until(|events| offsets(events).len() == 100).await;
    assert_eq!(offsets(&events), (1..=100).collect::<Vec<_>>());
}

/// A stream over HTTP/2 whose client grants no window: it is given little, and holds no page for the rest.
#[tokio::test]
async fn a_session_whose_output_is_not_taken_holds_no_page() {
    let node = Node::new(400, fast());
    node.publish("a", 100).await;
    let epoch = node.epoch("a").await;
    let Stream { session, mut taken } = node.stream(&["a"], &cursor(&[("a", &epoch, 0)]));
    let session = Pulled::new(session);
    let mut take = async || {
        let bytes = poll_fn(|cx| Poll::Ready(session.poll_bytes(cx))).await;
        tokio::task::yield_now().await;
        let Poll::Ready(bytes) = bytes else { return taken.clone() };
        let bytes = bytes.expect("the stream goes on");
        assert!(bytes.len() <= 16 * 1024, "{} bytes at once", bytes.len());
        taken += std::str::from_utf8(&bytes).unwrap();
        taken.clone()
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while !take().await.contains("\"offset\":2,") {
        assert!(Instant::now() < deadline);
    }
    assert!(node.metric("fanway_page_bytes") > 0.0, "of a page a part was taken");
    while node.metric("fanway_page_bytes") > 0.0 {
        assert!(Instant::now() < deadline, "the page stays");
        assert!(poll_fn(|cx| Poll::Ready(session.poll_blocked(cx))).await.is_pending());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while !take().await.contains("\"offset\":100,") {
        assert!(Instant::now() < deadline);
    }
    let events = Stream::events_of(&take().await);
    assert_eq!(offsets(&events), (1..=100).collect::<Vec<_>>());
}

/// Memory for four pages, and a thousand clients that read nothing at all: another one gets everything meanwhile.
#[tokio::test]
async fn clients_that_read_nothing_do_not_stop_others() {
    let node = Node::new(400, Limits { node_page_bytes: ByteSize::kib(256), ..fast() });
    let channels = ["a", "b", "c"];
    let mut epochs = Vec::new();
    for channel in channels {
        node.publish(channel, 100).await;
        epochs.push(node.epoch(channel).await);
    }
    let items: Vec<_> = channels.iter().zip(&epochs).map(|(channel, epoch)| (*channel, &**epoch, 0)).collect();
    let at = cursor(&items);
    let mut slow: Vec<_> = (0..1000).map(|_| node.stream(&channels, &at)).collect();
    let mut good = node.stream(&channels, &at);
    let deadline = Instant::now() + Duration::from_secs(60);
    while offsets(&good.events()).len() < 300 {
        assert!(Instant::now() < deadline, "{} of 300 publications", offsets(&good.events()).len());
        for stream in &mut slow {
            stream.work().await;
            if !stream.session.blocked() {
                stream.write(100);
            }
        }
        good.work().await;
        good.write(usize::MAX);
        assert!(node.metric("fanway_page_bytes") <= 256.0 * 1024.0);
    }
    for channel in channels {
        let of = |event: &&Value| event["channel"] == channel;
        let events: Vec<Value> = good.events().iter().filter(of).cloned().collect();
        assert_eq!(offsets(&events), (1..=100).collect::<Vec<_>>(), "{channel}");
    }
}
