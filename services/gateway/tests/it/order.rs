//! Order on one connection: commands racing with publications on many channels, over TCP, TLS and HTTP/2, with readers
//! that read as they come or byte by byte. Replies and publications come in the promised order, nothing stale, no
//! half-written frame overtaken, nothing after a close.

mod streams;

use std::collections::HashMap;
use std::time::Duration;

use fanway_testkit::dial::Certificate;
use fanway_testkit::node::{Builder, Node};
use fanway_testkit::wait;
use fanway_testkit::websocket::{Client, Frame, Incoming, Raw};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::{PATIENCE, node, token};

const CHANNELS: usize = 50;

/// A node that lets one connection say a lot, and that has much to say to it.
fn racing() -> Builder {
    node()
        .set("default_namespace.history_size", 10_000)
        .set("client.command_rate", 1_000_000)
        .set("limits.user.publish_rate", 0)
        .set("limits.user.publish_bytes_rate", "0B")
        .set("client.command_burst", 1_000_000)
        .set("client.recovery_limit", 10_000)
        .set("client.reply_buffer", "64 MiB")
        .set("client.write_stall", "20s")
        // So that frames are really split, and often.
        .set("server.send_buffer", "8 KiB")
}

fn name(channel: usize) -> String {
    format!("c{channel:02}")
}

/// Publishes to random channels as fast as the node takes it, and says how often to which.
fn publisher(node: &Node, seed: u64, count: usize, filler: usize) -> JoinHandle<Vec<u64>> {
    let (url, token) = (node.websocket_url(), token(node));
    tokio::spawn(async move {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut published = vec![0; CHANNELS];
        let mut client = Client::connect(url, &token).await;
        let mut last = 0;
        for at in 0..count {
            let channel = rng.random_range(0..CHANNELS);
            published[channel] += 1;
            let data = json!({"n": published[channel], "filler": "x".repeat(rng.random_range(0..=filler))});
            last = client.send_command(json!({"publish": {"channel": name(channel), "data": data}})).await;
            if at % 16 == 0 {
                client.reply_to(last).await;
            }
        }
        client.reply_to(last).await;
        published
    })
}

/// What a command will do once its reply is there.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Subscribe {
        channel: usize,
        /// Resumes after this offset.
        recover: Option<u64>,
    },
    Unsubscribe(usize),
}

/// What one connection was told, checked as it comes.
#[derive(Default)]
struct Checker {
    asked: HashMap<u64, Asked>,
    /// By channel: the last offset heard while subscribed.
    at: HashMap<usize, u64>,
    /// By channel: epoch and last offset heard, also of ended subscriptions.
    stand: HashMap<usize, (String, u64)>,
    publications: usize,
    /// Ids of the replies must come in the order of the commands.
    last_reply: u64,
}

impl Checker {
    /// Checks one frame of the server's.
    fn hear(&mut self, frame: &Frame) {
        assert!(frame.fin && frame.rsv == 0 && frame.mask.is_none(), "not a frame of the server: {frame:?}");
        assert_eq!(frame.opcode, Frame::TEXT, "{frame:?}");
        let text = std::str::from_utf8(&frame.payload).expect("a frame is whole text");
        for line in text.lines() {
            let message = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            self.message(&message);
        }
    }

    fn message(&mut self, message: &Value) {
        if let Some(push) = message.get("push") {
            let channel = push["channel"].as_str().unwrap()[1..].parse().unwrap();
            self.publication(channel, &push["pub"]);
            return;
        }
        let Some(id) = message["id"].as_u64() else { return assert_eq!(*message, json!({}), "a ping") };
        assert!(message.get("error").is_none(), "{message}");
        assert!(id > self.last_reply, "reply {id} after {}", self.last_reply);
        self.last_reply = id;
        match self.asked.remove(&id) {
            None => {}
            Some(Asked::Unsubscribe(channel)) => _ = self.at.remove(&channel),
            Some(Asked::Subscribe { channel, recover }) => {
                let reply = &message["subscribe"];
                let offset = reply["offset"].as_u64().unwrap_or(0);
                if let Some(asked) = recover {
                    assert_eq!((&reply["recovered"], offset), (&json!(true), asked), "{}: {reply}", name(channel));
                }
                self.at.insert(channel, offset);
                self.stand.insert(channel, (reply["epoch"].as_str().unwrap().to_owned(), offset));
                for publication in reply["publications"].as_array().into_iter().flatten() {
                    self.publication(channel, publication);
                }
            }
        }
    }

    fn publication(&mut self, channel: usize, publication: &Value) {
        let offset = publication["offset"].as_u64().unwrap();
        let last = self.at.get_mut(&channel);
        let last = last.unwrap_or_else(|| panic!("{}: {offset} without a subscription", name(channel)));
        assert_eq!(offset, *last + 1, "{}: order", name(channel));
        assert_eq!(publication["data"]["n"], offset, "{}: data", name(channel));
        *last = offset;
        self.stand.get_mut(&channel).unwrap().1 = offset;
        self.publications += 1;
    }
}

/// How a client takes what comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// At once.
    Quick,
    /// In turns of single bytes and of somewhat more, through a narrow window.
    Slow,
}

/// A client that races.
struct Racer {
    raw: Raw,
    checker: Checker,
    reader: Reader,
    rng: StdRng,
}

impl Racer {
    async fn new(node: &Node, reader: Reader, seed: u64) -> Self {
        let mut raw = match reader {
            Reader::Quick => Raw::connect(node.websocket_url()).await,
            Reader::Slow => Raw::connect_narrow(node.websocket_url(), 8192).await,
        };
        let head = raw.handshake(&[]).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        let connect = json!({"id": 1, "connect": {"token": token(node)}});
        raw.write_frame(&Frame::text(&connect.to_string())).await;
        Self { raw, checker: Checker::default(), reader, rng: StdRng::seed_from_u64(seed) }
    }

    /// Takes something of what is there, without waiting for it.
    async fn take(&mut self) {
        let soon = Duration::from_millis(1);
        if self.reader == Reader::Slow {
            for _ in 0..self.rng.random_range(0..200) {
                if self.raw.sip(soon).await.is_err() {
                    break;
                }
            }
            return;
        }
        while let Incoming::Frame(frame) = self.raw.read_frame_within(Duration::ZERO).await {
            self.checker.hear(&frame);
        }
    }

    /// Reads on until the checker is content.
    async fn until(&mut self, what: &str, done: impl Fn(&Checker) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done(&self.checker) {
            assert!(tokio::time::Instant::now() < deadline, "{what}");
            if self.reader == Reader::Slow {
                self.take().await;
            }
            match self.raw.read_frame_within(Duration::from_millis(100)).await {
                Incoming::Frame(frame) => self.checker.hear(&frame),
                Incoming::TimedOut => {}
                other => panic!("{what}: {other:?}"),
            }
        }
    }

    /// Reads on until the server's close frame, after which nothing may come; returns its code.
    async fn closed(&mut self) -> u16 {
        loop {
            let incoming = self.raw.read_frame().await;
            if let Some((code, _)) = incoming.close() {
                let (rest, end) = self.raw.read_to_end(PATIENCE).await;
                assert_eq!((rest.as_slice(), end), (&[][..], Incoming::End), "after the close frame");
                return code;
            }
            match incoming {
                Incoming::Frame(Frame { opcode: Frame::PONG, .. }) => {}
                Incoming::Frame(frame) => self.checker.hear(&frame),
                other => panic!("{other:?} instead of a close frame"),
            }
        }
    }

    /// Subscribes and unsubscribes at random, so many times at least and as long as somebody publishes; returns which
    /// channels are subscribed in the end.
    async fn commands(&mut self, count: u64, publishing: &JoinHandle<Vec<u64>>) -> Vec<usize> {
        let mut subscribed = [false; CHANNELS];
        for id in 2.. {
            if id >= count + 2 && publishing.is_finished() {
                break;
            }
            let channel = self.rng.random_range(0..CHANNELS);
            subscribed[channel] = !subscribed[channel];
            let (asked, command) = if subscribed[channel] {
                let stand = self.checker.stand.get(&channel).filter(|_| self.rng.random_bool(0.5)).cloned();
                let mut subscribe = json!({"channel": name(channel)});
                if let Some((epoch, offset)) = &stand {
                    subscribe = json!({"channel": name(channel), "recover": true, "epoch": epoch, "offset": offset});
                }
                let asked = Asked::Subscribe { channel, recover: stand.map(|(_, offset)| offset) };
                (asked, json!({"id": id, "subscribe": subscribe}))
            } else {
                (Asked::Unsubscribe(channel), json!({"id": id, "unsubscribe": {"channel": name(channel)}}))
            };
            self.checker.asked.insert(id, asked);
            self.raw.write_frame(&Frame::text(&command.to_string())).await;
            if self.rng.random_bool(0.7) {
                self.take().await;
            }
        }
        (0..CHANNELS).filter(|channel| subscribed[*channel]).collect()
    }
}

async fn race(node: Node, reader: Reader) {
    let (commands, publications, filler) = match reader {
        Reader::Quick => (600, 3000, 2000),
        Reader::Slow => (300, 600, 6000),
    };
    let mut racer = Racer::new(&node, reader, 1).await;
    let publishing = publisher(&node, 2, publications, filler);
    let subscribed = racer.commands(commands, &publishing).await;
    racer.until("every command is answered", |checker| checker.asked.is_empty()).await;
    let published = publishing.await.unwrap();
    // Who is still subscribed hears all there is, to the end.
    racer
        .until("everything is heard", |checker| {
            subscribed.iter().all(|channel| checker.at.get(channel) == Some(&published[*channel]))
        })
        .await;
    assert_eq!(racer.checker.at.len(), subscribed.len());
    assert!(racer.checker.publications > 0, "publications raced with the commands");
    racer.raw.write_frame(&Frame::close(1000, "")).await;
    assert_eq!(racer.closed().await, 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp() {
    race(racing().start().await, Reader::Quick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tcp_byte_by_byte() {
    race(racing().start().await, Reader::Slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    race(racing().tls(Certificate::generate()).start().await, Reader::Quick).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_byte_by_byte() {
    race(racing().tls(Certificate::generate()).start().await, Reader::Slow).await;
}

/// A close in the middle of publications: whole frames, then the close frame, then nothing.
async fn closes(node: Node, reader: Reader) {
    let connect_again = json!({"id": 100, "connect": {}}).to_string();
    let rows = [
        ("by the client", vec![Frame::close(3000, "bye")], 3000),
        ("by the client, after a ping", vec![Frame::new(Frame::PING, "a"), Frame::close(1000, "")], 1000),
        ("by a fault", vec![Frame::text("{}").unmasked()], 1002),
        ("by a fault, after a ping", vec![Frame::new(Frame::PING, "a"), Frame::new(3, "")], 1002),
        ("by a wrong command", vec![Frame::text(&connect_again)], 3501),
    ];
    // More than will be, until the end.
    let publishing = publisher(&node, 2, 1_000_000, 6000);
    for (number, (name_, frames, code)) in rows.into_iter().enumerate() {
        let mut racer = Racer::new(&node, reader, number as u64).await;
        for channel in 0..CHANNELS as u64 {
            let subscribe = json!({"id": channel + 2, "subscribe": {"channel": name(channel as usize)}});
            racer.checker.asked.insert(channel + 2, Asked::Subscribe { channel: channel as usize, recover: None });
            racer.raw.write_frame(&Frame::text(&subscribe.to_string())).await;
        }
        racer.until("publications come", |checker| checker.publications > 20).await;
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        racer.raw.write(bytes).await;
        assert_eq!(racer.closed().await, code, "{name_}");
    }
    assert!(!publishing.is_finished(), "publications came all the while");
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_over_tcp() {
    let node = racing().start().await;
    closes(node, Reader::Quick).await;
    closes(racing().start().await, Reader::Slow).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_over_tls() {
    let certificate = Certificate::generate();
    closes(racing().tls(certificate.clone()).start().await, Reader::Quick).await;
    closes(racing().tls(certificate).start().await, Reader::Slow).await;
}

/// More commands at once than may wait for their turn: what is held back is read as soon as there is room.
#[tokio::test(flavor = "multi_thread")]
async fn many_commands_at_once() {
    const COMMANDS: u64 = 3000;
    let node = racing().start().await;
    let mut racer = Racer::new(&node, Reader::Quick, 0).await;
    let commands: Vec<u8> =
        (2..COMMANDS + 2).flat_map(|id| Frame::text(&json!({"id": id, "ping": {}}).to_string()).bytes()).collect();
    racer.raw.write(commands).await;
    while racer.checker.last_reply < COMMANDS + 1 {
        // Much less than until the first ping.
        match racer.raw.read_frame_within(Duration::from_secs(8)).await {
            Incoming::Frame(frame) => racer.checker.hear(&frame),
            other => panic!("{other:?} after reply {}", racer.checker.last_reply),
        }
    }
}

/// What is published while a connection is blocked comes as soon as it reads again, not with the next ping.
async fn blocked(node: Node) {
    let mut raw = Raw::connect_narrow(node.websocket_url(), 4096).await;
    raw.handshake(&[]).await;
    for command in [
        json!({"id": 1, "connect": {"token": token(&node)}}),
        json!({"id": 2, "subscribe": {"channel": "a"}}),
        json!({"id": 3, "subscribe": {"channel": "b"}}),
    ] {
        raw.write_frame(&Frame::text(&command.to_string())).await;
        assert!(matches!(raw.read_frame().await, Incoming::Frame(_)));
    }
    // Subscribed after the first, so served after it.
    let mut other = Client::connect(node.websocket_url(), &token(&node)).await;
    other.subscribe("b").await;
    let filler = "x".repeat(200_000);
    node.publish("a", json!(filler)).await;
    wait::until_async("the connection is blocked", || async {
        (node.metric("fanway_deliveries_total", &[]).await == Some(1.0)).then_some(())
    })
    .await;
    for n in 1..=3 {
        node.publish("b", json!(n)).await;
        assert_eq!(other.next_publication().await.data, json!(n));
    }
    let mut heard = Vec::new();
    while heard.len() < 4 {
        // Much less than until the first ping.
        match raw.read_frame_within(Duration::from_secs(8)).await {
            Incoming::Frame(frame) => {
                let message: Value = serde_json::from_slice(&frame.payload).unwrap();
                heard.push((message["push"]["channel"].clone(), message["push"]["pub"]["offset"].clone()));
            }
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    assert_eq!(
        heard,
        [("a", 1), ("b", 1), ("b", 2), ("b", 3)].map(|(channel, offset)| (json!(channel), json!(offset)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_blocked_comes_at_once_over_tcp() {
    blocked(racing().set("server.unsent_limit", "4 KiB").start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_while_blocked_comes_at_once_over_tls() {
    blocked(racing().set("server.unsent_limit", "4 KiB").tls(Certificate::generate()).start().await).await;
}
