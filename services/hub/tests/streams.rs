//! Event streams and polls against a real hub: what keeps a silent stream alive, and what a node on its way out says.
#![allow(clippy::unwrap_used)]

mod support;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanway_hub::handle::Handle;
use fanway_hub::session::{EventSession, Framing, Resume, poll};
use fanway_hub::turn::Turn;
use fanway_hub::{CloseReason, Hub, Identity, Inbox, Limits};
use fanway_protocol::Channel;

use support::{fast, hub, hub_counting, publish};

struct Stream {
    session: EventSession,
    taken: Vec<u8>,
}

impl Stream {
    fn new(hub: &Arc<Hub>, channel: &str) -> Self {
        Self::of(hub, &[channel], None, Framing::Plain)
    }

    fn of(hub: &Arc<Hub>, channels: &[&str], cursor: Option<&str>, framing: Framing) -> Self {
        let channels = channels.iter().map(|channel| Channel::new(channel).unwrap()).collect();
        Self::as_whom(hub, Identity::anonymous(), Resume::new(hub.namespaces(), channels, cursor), framing)
    }

    fn as_whom(hub: &Arc<Hub>, identity: Identity, resume: Resume, framing: Framing) -> Self {
        Self {
            session: EventSession::new(
                hub.clone(),
                identity,
                resume,
                Handle::by_task(),
                Vec::new(),
                framing,
                Instant::now(),
            ),
            taken: Vec::new(),
        }
    }

    /// Writes once, to a socket that takes so many bytes. Returns how many it was offered.
    fn write(&mut self, room: usize) -> usize {
        let mut turn = Turn::default();
        self.session.gather(&mut turn);
        let offered = turn.bytes().len();
        self.taken.extend_from_slice(&turn.bytes()[..offered.min(room)]);
        self.session.wrote(&mut turn, offered.min(room), Instant::now());
        offered
    }

    /// Lets the session work once.
    async fn poll(&mut self) {
        std::future::poll_fn(|cx| {
            self.session.poll(cx, Instant::now());
            std::task::Poll::Ready(())
        })
        .await;
    }

    async fn until(&mut self, text: &str) {
        let heard = std::future::poll_fn(|cx| {
            self.session.poll(cx, Instant::now());
            while self.session.has_output() {
                self.write(usize::MAX);
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

/// The contents of chunks, and whether the last one came; panics on anything else.
fn chunks(mut coded: &[u8]) -> (Vec<String>, bool) {
    let mut contents = Vec::new();
    while !coded.is_empty() {
        let line = coded.windows(2).position(|pair| pair == b"\r\n").expect("a size line");
        let size = std::str::from_utf8(&coded[..line]).unwrap();
        let length = usize::from_str_radix(size, 16).unwrap();
        assert_eq!(size, format!("{length:x}"));
        let (content, rest) = coded[line + 2..].split_at(length);
        coded = rest.strip_prefix(b"\r\n").expect("the end of a chunk");
        if length == 0 {
            assert!(coded.is_empty(), "nothing follows the last chunk");
            return (contents, true);
        }
        contents.push(String::from_utf8(content.to_vec()).unwrap());
    }
    (contents, false)
}

/// Each event is a chunk, wherever the socket cuts: in a header, in what is shared, in the stream's own id, at a boundary.
#[tokio::test]
async fn a_socket_that_takes_a_part_gets_whole_chunks_in_the_end() {
    let (hub, broker) = hub(10, fast());
    let join = async || {
        let mut stream = Stream::of(&hub, &["a", "b"], None, Framing::Chunked);
        stream.until("event: ready").await;
        stream.taken.clear();
        stream
    };
    let (mut whole, mut cut) = (join().await, Vec::new());
    // Three events of some 150 bytes each. A cut behind them is none.
    for _ in 0..500 {
        cut.push(join().await);
    }
    publish(&broker, &hub, "a", r#"{"n":1}"#.to_owned()).await;
    publish(&broker, &hub, "a", r#"{"n":2}"#.to_owned()).await;
    publish(&broker, &hub, "b", r#"{"n":3}"#.to_owned()).await;
    whole.until(r#""n":3"#).await;
    let (events, _) = chunks(&whole.taken);
    assert_eq!(events.len(), 3, "one event per chunk: {events:?}");
    assert!(events.iter().all(|event| event.starts_with("data: {") && event.ends_with("\n\n")), "{events:?}");
    let length = whole.taken.len();
    assert!(length < cut.len(), "{length}");
    for (room, stream) in cut.iter_mut().enumerate() {
        stream.poll().await;
        assert_eq!(stream.write(room), length);
        assert_eq!(stream.session.blocked(), room < length, "{room}");
    }
    // While they are blocked there is more; and each takes a little, then all.
    publish(&broker, &hub, "a", r#"{"n":4}"#.to_owned()).await;
    whole.until(r#""n":4"#).await;
    for (room, stream) in cut.iter_mut().enumerate() {
        stream.poll().await;
        stream.write(room % 7);
        stream.until(r#""n":4"#).await;
        let (events, last) = chunks(&stream.taken);
        assert!(!last);
        assert_eq!(events.len(), 4, "cut at {room}: {events:?}");
        for n in 1..=4 {
            let of_channel = |n| if n == 3 { "\"b\"" } else { "\"a\"" };
            let at = events.iter().position(|event| event.contains(&format!("\"n\":{n}"))).expect("each came");
            assert!(events[at].contains(of_channel(n)), "{events:?}");
        }
        let of_a: Vec<_> = events.iter().filter(|event| event.contains("\"a\"")).collect();
        assert!(of_a.is_sorted_by_key(|event| event.split("\"n\":").nth(1).unwrap().as_bytes()[0]), "{events:?}");
    }
}

/// A stream that ends in order ends with the last chunk, also one that is not joined yet.
#[tokio::test]
async fn a_stream_that_ends_in_order_writes_the_last_chunk() {
    let (hub, _broker) = hub(10, fast());
    let (mut joined, mut joining) =
        (Stream::of(&hub, &["a"], None, Framing::Chunked), Stream::of(&hub, &["a"], None, Framing::Chunked));
    joined.until("event: ready").await;
    hub.drain(Duration::ZERO).await;
    for stream in [&mut joined, &mut joining] {
        stream.until("\r\n0\r\n\r\n").await;
        assert!(stream.session.ended());
        let (lines, last) = chunks(&stream.taken);
        assert!(last);
        assert!(lines.last().unwrap().starts_with("retry: "), "{lines:?}");
    }
    let mut plain = Stream::new(&hub, "a");
    plain.until("retry: ").await;
    assert!(plain.session.ended());
    assert!(!String::from_utf8_lossy(&plain.taken).contains('\r'));
}

/// A tick after the end adds no heartbeat behind the last chunk.
#[tokio::test]
async fn a_tick_after_the_end_writes_nothing() {
    let (hub, _broker) = hub(10, fast());
    let mut stream = Stream::of(&hub, &["a"], None, Framing::Chunked);
    stream.until("event: ready").await;
    hub.drain(Duration::ZERO).await;
    stream.until("\r\n0\r\n\r\n").await;
    assert!(stream.session.ended());
    // A stall that begins is a tick; by then a heartbeat is due.
    stream.session.stuck(true, false, Instant::now() + Duration::from_secs(60));
    assert!(!stream.session.has_output());
}

/// An attach that completes after the end adds no event behind the last chunk, whether the bytes before it were taken or
/// wait in the middle of a chunk.
#[tokio::test]
async fn an_attach_after_the_end_writes_nothing() {
    let (hub, _broker) = hub(10, fast());
    for room in [5, usize::MAX] {
        // A channel of its own, so that the attach has to wait.
        let channel = format!("a{room}");
        let mut stream = Stream::of(&hub, &[&channel], None, Framing::Chunked);
        stream.write(room);
        let mut other = Stream::of(&hub, &[&channel], None, Framing::Chunked);
        stream.poll().await;
        assert!(!stream.session.ended(), "it joins");
        stream.session.handle().close(CloseReason::Shutdown);
        stream.poll().await;
        assert!(stream.session.ended());
        other.until("event: ready").await;
        stream.poll().await;
        while stream.session.has_output() {
            stream.write(usize::MAX);
        }
        let (lines, last) = chunks(&stream.taken);
        assert!(last && lines.len() == 2 && lines[1].starts_with("retry: "), "{lines:?}");
    }
}

/// The last line asks the client to come back only where it should.
#[tokio::test]
async fn only_a_client_that_should_come_back_is_advised_when() {
    let (hub, _broker) = hub(10, fast());
    for reason in CloseReason::ALL {
        let mut stream = Stream::of(&hub, &["a"], None, Framing::Chunked);
        stream.until("event: ready").await;
        stream.taken.clear();
        stream.session.handle().close(*reason);
        stream.until("0\r\n\r\n").await;
        let (lines, last) = chunks(&stream.taken);
        let advised = lines.iter().any(|lines| lines.starts_with("retry: "));
        assert_eq!((stream.session.closing(), advised, last), (Some(*reason), reason.reconnects(), true));
    }
}

/// A stalled stream is counted once, however often it ticks before and after its end.
#[tokio::test]
async fn a_stalled_stream_is_counted_once() {
    const STALL: Duration = Duration::from_millis(20);
    let (hub, broker, registry) = hub_counting(10, Limits { write_stall: STALL, ..fast() }, Inbox::new());
    let mut stream = Stream::of(&hub, &["a"], None, Framing::Chunked);
    stream.until("event: ready").await;
    stream.taken.clear();
    publish(&broker, &hub, "a", "1".to_owned()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !stream.session.has_output() {
        assert!(Instant::now() < deadline);
        stream.poll().await;
        tokio::task::yield_now().await;
    }
    stream.write(1);
    assert!(stream.session.blocked());
    let begun = Instant::now();
    while begun.elapsed() < STALL {
        std::thread::yield_now();
    }
    // A write that is not taken whole is a tick.
    stream.write(0);
    assert_eq!(stream.session.closing(), Some(CloseReason::Slow));
    stream.write(0);
    stream.poll().await;
    assert!(stream.session.ended());
    stream.write(0);
    let families = registry.gather();
    let slow = families.iter().find(|family| family.name() == "fanway_slow_consumers_total").unwrap();
    let counted: f64 = slow.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
    assert!((counted - 1.0).abs() < f64::EPSILON, "{counted}");
    stream.write(usize::MAX);
    let (lines, last) = chunks(&stream.taken);
    assert!(last && lines.len() == 2, "the begun event and the last line: {lines:?}");
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
    let resume = Resume::new(hub.namespaces(), vec![Channel::new("a").unwrap()], Some("2~DCnI-"));
    hub.drain(Duration::ZERO).await;
    let asked = poll(&hub, Identity::anonymous(), &resume, Duration::from_secs(60));
    let answer = tokio::time::timeout(Duration::from_secs(5), asked);
    assert!(answer.await.unwrap().unwrap().draining);
}

/// An identity that expires after so many seconds.
fn brief(seconds: u64) -> Identity {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Identity { expires_at: NonZeroU64::new(now + seconds), ..Identity::anonymous() }
}

/// The id that `EventSource` has after an event.
fn id_of<'a>(text: &'a str, event: &str) -> Option<&'a str> {
    let block = text.split("\n\n").find(|block| block.contains(event)).unwrap_or_else(|| panic!("{event} in {text}"));
    block.lines().find_map(|line| line.strip_prefix("id: "))
}

/// A client that leaves before the last of its gaps comes back with its own old cursor, and is told again.
#[tokio::test]
async fn what_comes_before_the_last_gap_has_the_old_cursor() {
    let (hub, _broker) = hub(10, fast());
    let old = "2~DCnIaaaaaaaaaaaaaaaaaaaa.7~DC0Caaaaaaaaaaaaaaaaaaaa.9";
    let channels = || ["a", "b", "c"].map(|channel| Channel::new(channel).unwrap()).to_vec();
    let resume = || Resume::new(hub.namespaces(), channels(), Some(old));
    let mut stream = Stream::as_whom(&hub, brief(10), resume(), Framing::Plain);
    // The expiry is announced at once, before anything is joined.
    stream.until("event: gap\ndata: {\"channel\":\"b\"").await;
    let text = String::from_utf8_lossy(&stream.taken).into_owned();
    assert_eq!(id_of(&text, "event: auth_expiring"), Some(old), "{text}");
    assert_eq!(id_of(&text, "event: ready"), Some(old), "{text}");
    assert!(text.contains(&format!("event: ready\ndata: {{\"cursor\":\"{old}\"}}\n")), "the data too: {text}");
    assert_eq!(id_of(&text, "\"channel\":\"a\""), None, "the old one still holds: {text}");
    let new = id_of(&text, "\"channel\":\"b\"").unwrap();
    assert_ne!(new, old);
    assert_eq!(text.matches(new).count(), 1, "not before the last gap: {text}");
    assert_eq!(text.matches("event: gap").count(), 2, "c is new: {text}");
}

/// Later the announcement has the cursor of what came before it.
#[tokio::test]
async fn an_announced_expiry_has_the_current_cursor() {
    let (hub, broker) = hub(10, Limits { expiry_grace: Duration::from_millis(500), ..fast() });
    let resume = Resume::new(hub.namespaces(), vec![Channel::new("a").unwrap()], None);
    let mut stream = Stream::as_whom(&hub, brief(3), resume, Framing::Plain);
    stream.until("event: ready").await;
    publish(&broker, &hub, "a", "1".to_owned()).await;
    stream.until("\"offset\":1").await;
    stream.until("event: auth_expiring").await;
    let text = String::from_utf8_lossy(&stream.taken).into_owned();
    assert_eq!(id_of(&text, "event: auth_expiring"), id_of(&text, "\"offset\":1"), "{text}");
    stream.until("\n\nretry: ").await;
    assert!(stream.session.ended(), "the grace is over");
}

/// A poll that would wait for longer than its token lives is answered, and gets nothing that comes later.
#[tokio::test]
async fn a_poll_waits_for_no_longer_than_its_token_and_the_grace() {
    let (hub, _broker) = hub(10, Limits { expiry_grace: Duration::from_millis(500), ..fast() });
    let resume = Resume::new(hub.namespaces(), vec![Channel::new("a").unwrap()], None);
    let first = poll(&hub, brief(60), &resume, Duration::from_secs(60)).await.unwrap();
    let resume = Resume::new(hub.namespaces(), vec![Channel::new("a").unwrap()], Some(&first.cursor));
    let identity = brief(2);
    let asked = poll(&hub, identity.clone(), &resume, Duration::from_secs(60));
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("answered early").unwrap();
    assert_eq!((answer.cursor, answer.publications.len()), (first.cursor, 0));
    let end = UNIX_EPOCH + Duration::from_secs(identity.expires_at.unwrap().get()) + Duration::from_millis(500);
    assert!(SystemTime::now() >= end, "not before the grace is over");
}
