//! One client over any transport, as the tests see it: what it heard, and where it stands.

use std::time::{Duration, Instant};

use fanway_testkit::node::Node;
use fanway_testkit::{cursor, poll, sse, websocket};
use serde_json::Value;

use super::{PATIENCE, token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket,
    Sse,
    Poll,
}

pub(crate) const TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Sse, Transport::Poll];

/// Where a client stands on its one channel, in a form that every transport takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
}

impl Stand {
    pub(crate) fn cursor(&self, channel: &str) -> String {
        cursor::write(&[(channel, &self.epoch, self.offset)])
    }

    pub(super) fn of_cursor(cursor: &str) -> Self {
        let (epoch, offset) = cursor::read(cursor).remove(0);
        Self { epoch, offset }
    }
}

/// What a client can hear on its channel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    Publication(Value),
    Gap(String),
}

enum Inner {
    WebSocket(Box<websocket::Client>),
    Sse(Box<sse::Client>),
    Poll,
}

/// A client of one channel.
pub(crate) struct Client {
    inner: Inner,
    channel: String,
    /// URL, for polling.
    poll_url: fanway_testkit::dial::Target,
    pub(crate) stand: Stand,
    waiting: std::collections::VecDeque<Heard>,
}

impl Client {
    /// Connects and joins at the head, or resumes.
    pub(crate) async fn join(node: &Node, transport: Transport, channel: &str, from: Option<&Stand>) -> Self {
        let token = token(node);
        let mut client = Self {
            inner: Inner::Poll,
            channel: channel.to_owned(),
            poll_url: node.url("/poll"),
            stand: Stand { epoch: String::new(), offset: 0 },
            waiting: Default::default(),
        };
        match transport {
            Transport::WebSocket => {
                let mut socket = websocket::Client::connect(node.websocket_url(), &token).await;
                let subscribed = match from {
                    None => socket.subscribe(channel).await,
                    Some(stand) => socket.subscribe_recover(channel, &stand.epoch, stand.offset).await,
                };
                client.took_reply(&subscribed, from.is_some());
                client.inner = Inner::WebSocket(Box::new(socket));
            }
            Transport::Sse => {
                let target = node.url("/sse").with_query(&format!("channel={channel}"));
                let mut request = sse::Request::to(target).bearer(&token);
                if let Some(stand) = from {
                    request = request.last_event_id(&stand.cursor(channel));
                }
                let mut stream = request.send().await.expect("the stream opens");
                let ready = stream.next_event().await;
                assert_eq!(ready.event, "ready");
                client.stand = Stand::of_cursor(ready.json::<Value>()["cursor"].as_str().unwrap());
                client.inner = Inner::Sse(Box::new(stream));
            }
            Transport::Poll => {
                let cursor = from.map(|stand| stand.cursor(channel));
                client.poll(cursor.as_deref(), Duration::ZERO, &token).await;
            }
        }
        client
    }

    fn took_reply(&mut self, subscribed: &websocket::Subscribed, resumed: bool) {
        self.stand = Stand { epoch: subscribed.epoch.clone(), offset: subscribed.offset };
        if resumed && !subscribed.recovered {
            self.waiting.push_back(Heard::Gap("not recovered".to_owned()));
        }
        for publication in &subscribed.publications {
            self.stand.offset += 1;
            assert_eq!(publication.offset, self.stand.offset, "recovered in order");
            self.waiting.push_back(Heard::Publication(publication.data.clone()));
        }
    }

    async fn poll(&mut self, cursor: Option<&str>, timeout: Duration, token: &str) {
        let mut query = format!("channel={}&timeout={}", poll::escape(&self.channel), timeout.as_secs());
        if let Some(cursor) = cursor {
            query += &format!("&cursor={cursor}");
        }
        let target = self.poll_url.clone().with_query(&query);
        let bearer = format!("Bearer {token}");
        let response = fanway_testkit::http::get(target, &[("authorization", &bearer)]).await;
        assert_eq!(response.status, 200, "{}", response.text());
        let answer: poll::Answer = serde_json::from_value(response.json()).unwrap();
        self.stand = Stand::of_cursor(&answer.cursor);
        self.waiting.extend(answer.gaps.iter().map(|gap| Heard::Gap(gap.reason.clone())));
        self.waiting.extend(answer.data().into_iter().map(Heard::Publication));
    }

    /// The next thing heard. A WebSocket client that is made to subscribe anew does so, as the SDKs do.
    pub(crate) async fn next(&mut self, node: &Node) -> Heard {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(heard) = self.waiting.pop_front() {
                return heard;
            }
            assert!(Instant::now() < deadline, "{} heard nothing more at {:?}", self.channel, self.stand);
            let stand = self.stand.clone();
            match &mut self.inner {
                Inner::WebSocket(socket) => match socket.next_push().await {
                    websocket::Push::Publication(publication) => {
                        assert_eq!(publication.offset, self.stand.offset + 1, "in order");
                        self.stand.offset = publication.offset;
                        self.waiting.push_back(Heard::Publication(publication.data));
                    }
                    websocket::Push::Unsubscribe { code: 2500, .. } => {
                        let channel = self.channel.clone();
                        let subscribed = socket.subscribe_recover(&channel, &stand.epoch, stand.offset).await;
                        self.took_reply(&subscribed, true);
                    }
                    other => panic!("{other:?}"),
                },
                Inner::Sse(stream) => {
                    let event = stream.next_event().await;
                    let heard: Value = event.json();
                    self.stand = Stand::of_cursor(&event.id);
                    self.waiting.push_back(match event.event.as_str() {
                        "gap" => Heard::Gap(heard["reason"].as_str().unwrap().to_owned()),
                        _ => {
                            assert_eq!(heard["offset"], self.stand.offset, "the id is the position");
                            Heard::Publication(heard["data"].clone())
                        }
                    });
                }
                Inner::Poll => {
                    let cursor = stand.cursor(&self.channel);
                    self.poll(Some(&cursor), Duration::from_secs(5), &token(node)).await;
                }
            }
        }
    }

    /// The next so many publications; anything else fails.
    pub(crate) async fn publications(&mut self, node: &Node, count: usize) -> Vec<Value> {
        let mut publications = Vec::with_capacity(count);
        while publications.len() < count {
            match self.next(node).await {
                Heard::Publication(data) => publications.push(data),
                Heard::Gap(reason) => panic!("a gap ({reason}) after {publications:?}"),
            }
        }
        publications
    }
}
