//! Event streams of one HTTP/2 connection.

use fanway_testkit::{cursor, sse};

use super::*;

/// One event stream of several channels, whose ids must follow each other strictly.
struct Stream {
    client: sse::Client,
    channels: Vec<usize>,
    at: Vec<(String, u64)>,
    events: usize,
}

impl Stream {
    fn request(node: &Node, channels: &[usize], from: Option<&str>) -> sse::Request {
        let query: Vec<String> = channels.iter().map(|channel| format!("channel={}", name(*channel))).collect();
        let request = sse::Request::to(node.url("/sse").with_query(&query.join("&"))).bearer(&token(node));
        match from {
            None => request,
            Some(id) => request.last_event_id(id),
        }
    }

    /// Takes the stream's first event.
    async fn opened(mut client: sse::Client, channels: Vec<usize>, from: Option<&str>) -> Self {
        let ready = client.next_event().await;
        assert_eq!(ready.event, "ready");
        if let Some(from) = from {
            assert_eq!(ready.id, from, "it goes on where it was left");
        }
        let at = cursor::read(&ready.id);
        assert_eq!(at.len(), channels.len());
        Self { client, channels, at, events: 0 }
    }

    /// Takes the next event: exactly one channel, the event's, has moved, by one.
    async fn step(&mut self) {
        let event = self.client.next_event().await;
        assert_eq!(event.event, "message", "{event:?}");
        let data: Value = event.json();
        let channel: usize = data["channel"].as_str().unwrap()[1..].parse().unwrap();
        let item = self.channels.iter().position(|known| *known == channel).expect("a channel of this stream");
        self.at[item].1 += 1;
        assert_eq!(cursor::read(&event.id), self.at, "{}", name(channel));
        let (epoch, offset) = &self.at[item];
        assert_eq!(
            (&data["offset"], &data["epoch"], &data["data"]["n"]),
            (&json!(offset), &json!(epoch), &json!(offset))
        );
        self.events += 1;
    }

    fn stands_at(&self, published: &[u64]) -> bool {
        self.channels.iter().zip(&self.at).all(|(channel, (_, offset))| *offset == published[*channel])
    }
}

/// Streams on one HTTP/2 connection, some of them ended and resumed in the middle.
async fn streams(node: Node) {
    const STREAMS: usize = 8;
    // Few enough for the connection's window: streams that are not read must not hold up the one that is.
    const PUBLICATIONS: usize = 1000;
    let mut rng = StdRng::seed_from_u64(3);
    let mut connection = sse::Connection::open(node.url("/sse")).await;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let channels: Vec<usize> = (0..CHANNELS).filter(|_| rng.random_bool(0.4)).collect();
        let client = connection.stream(Stream::request(&node, &channels, None)).await.expect("a stream");
        open.push(Stream::opened(client, channels, None).await);
    }
    let publishing = publisher(&node, 4, PUBLICATIONS, 1000);
    // Turns of reading, uneven, so that streams wait while others are read; now and then one leaves and comes back.
    for turn in 0..200 {
        let which = rng.random_range(0..STREAMS);
        for _ in 0..rng.random_range(1..20) {
            // Not more than there are for sure.
            if open[which].events < PUBLICATIONS / 10 {
                open[which].step().await;
            }
        }
        if turn % 10 == 0 {
            let Stream { client, channels, at, events } = open.swap_remove(which);
            // Not the last id received: events of it may not have been looked at.
            let names: Vec<_> = channels.iter().map(|channel| name(*channel)).collect();
            let items = names.iter().zip(&at).map(|(name, (epoch, offset))| (&**name, &**epoch, *offset));
            let from = cursor::write(&items.collect::<Vec<_>>());
            drop(client);
            let client = connection.stream(Stream::request(&node, &channels, Some(&from))).await.expect("a stream");
            let resumed = Stream::opened(client, channels, Some(&from)).await;
            assert_eq!(resumed.at, at);
            open.push(Stream { events, ..resumed });
        }
    }
    let published = publishing.await.unwrap();
    for stream in &mut open {
        while !stream.stands_at(&published) {
            stream.step().await;
        }
        assert!(stream.events > PUBLICATIONS / 5, "{} events", stream.events);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_over_http2() {
    streams(racing().start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn event_streams_over_http2_and_tls() {
    streams(racing().tls(Certificate::generate()).start().await).await;
}
