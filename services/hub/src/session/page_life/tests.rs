//! Sessions that join a channel with missed publications, and another one whose log is not read for long.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use fanway_broker::{Broker, Publish};
use fanway_protocol::{Channel, Payload, Position, Publication};

use crate::attach::From;
use crate::channel::{Interest, LocalChannel};
use crate::handle::Handle;
use crate::hub::Hub;
use crate::pages::PAGE_LIFE;
use crate::session::{ClientSession, EventSession, Framing, Protocol, Resume, ResumePoint, Session, poll};
use crate::testing::hub;
use crate::turn::Turn;
use crate::{Identity, Limits};

const PUBLICATIONS: u64 = 5;

fn channel(name: &str) -> Channel {
    Channel::new(name).unwrap()
}

/// A hub with a channel that has publications in its log, and one that is not live until it is repaired.
struct Scene {
    hub: Arc<Hub>,
    beginning: Position,
    slow: Interest,
    _log: Interest,
}

impl Scene {
    async fn new() -> Self {
        // Longer than any test.
        let hub = hub(Limits { command_timeout: Duration::from_secs(60), ..Limits::default() });
        let log = hub.interest(&channel("log")).unwrap();
        for n in 1..=PUBLICATIONS {
            let publication = Publication { data: Payload::Json(n.to_string().into()), ..Publication::default() };
            let (channel, retention) = (channel("log"), log.0.shared.namespace.retention());
            let publish =
                Publish { channel: &channel, publication: Arc::new(publication), retention, idempotency: None };
            hub.broker.publish(publish).await.unwrap();
        }
        let top = hub.broker.read(&channel("log"), None, crate::pages::page(0)).await.unwrap().unwrap().top;
        let slow = hub.interest(&channel("slow")).unwrap();
        slow.0.state().repairing = true;
        Self { hub, beginning: Position { offset: 0, ..top }, slow, _log: log }
    }

    /// Where a client joins both, in byte order.
    fn points(&self) -> Vec<ResumePoint> {
        let point = |name, from| ResumePoint { channel: channel(name), from, fresh: false };
        let slow = Position { offset: 0, ..self.beginning };
        vec![point("log", From::Position(self.beginning)), point("slow", From::Position(slow))]
    }

    fn page_bytes(&self) -> i64 {
        self.hub.metrics.page_bytes.get()
    }

    /// Lets the log of the slow channel be read.
    fn repair(&self) {
        repair(&self.hub, &self.slow.0);
    }

    /// Polls a session whenever it is woken, until it has read a page of the log, and until it has dropped that.
    async fn until_dropped<P: Protocol>(&self, session: &mut Session<P>) {
        let began = Instant::now();
        let done = poll_fn(|cx| {
            session.poll(cx, Instant::now());
            if self.hub.metrics.pages_dropped_total.get() > 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        let in_time = tokio::time::timeout(Duration::from_secs(5), done).await;
        assert!(in_time.is_ok(), "{} bytes of pages", self.page_bytes());
        assert!(began.elapsed() > PAGE_LIFE / 2, "{:?}", began.elapsed());
        self.until_nothing_is_held().await;
    }

    /// A view that others may share is held a little longer.
    async fn until_nothing_is_held(&self) {
        let began = Instant::now();
        while self.page_bytes() > 0 {
            assert!(began.elapsed() < Duration::from_secs(20), "{} bytes of pages", self.page_bytes());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn repair(hub: &Arc<Hub>, local: &Arc<LocalChannel>) {
    local.state().repairing = false;
    hub.repair(local);
}

/// Writes everything that a session has, until the text comes.
async fn read_until<P: Protocol>(session: &mut Session<P>, text: &str) -> String {
    let mut taken = Vec::new();
    let done = poll_fn(|cx| {
        session.poll(cx, Instant::now());
        while session.has_output() {
            let mut turn = Turn::default();
            session.gather(&mut turn);
            taken.extend_from_slice(turn.bytes());
            let offered = turn.bytes().len();
            session.wrote(&mut turn, offered, Instant::now());
        }
        if String::from_utf8_lossy(&taken).contains(text) { Poll::Ready(()) } else { Poll::Pending }
    });
    let in_time = tokio::time::timeout(Duration::from_secs(20), done).await;
    let text = String::from_utf8_lossy(&taken).into_owned();
    assert!(in_time.is_ok(), "{text}");
    text
}

/// Offsets in the order of a text.
fn offsets(text: &str) -> Vec<u64> {
    let numbers = text.split("\"offset\":").skip(1);
    numbers.map(|rest| rest.split([',', '}']).next().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn a_stream_that_waits_for_a_channel_keeps_no_page_of_another() {
    let scene = Scene::new().await;
    let resume = Resume { points: scene.points(), id: None };
    let (identity, handle, now) = (Identity::anonymous(), Handle::by_task(), Instant::now());
    let mut session = EventSession::new(scene.hub.clone(), identity, resume, handle, Vec::new(), Framing::Plain, now);
    scene.until_dropped(&mut session).await;
    scene.repair();
    let text = read_until(&mut session, &format!("\"offset\":{PUBLICATIONS},")).await;
    assert!(text.contains("event: ready"), "{text}");
    // The other channel has no such epoch.
    assert_eq!(text.matches("event: gap").count(), 1, "{text}");
    let of_log: String = text.split("\n\n").filter(|event| event.contains("\"channel\":\"log\"")).collect();
    assert_eq!(offsets(&of_log), (1..=PUBLICATIONS).collect::<Vec<_>>(), "{text}");
}

#[tokio::test]
async fn a_poll_that_waits_for_a_channel_keeps_no_page_of_another() {
    let scene = Scene::new().await;
    let (hub, resume) = (scene.hub.clone(), Resume { points: scene.points(), id: None });
    let poll = tokio::spawn(async move { poll(&hub, Identity::anonymous(), &resume, Duration::ZERO).await.unwrap() });
    let began = Instant::now();
    while scene.hub.metrics.pages_dropped_total.get() == 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} bytes of pages", scene.page_bytes());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scene.until_nothing_is_held().await;
    assert!(!poll.is_finished());
    scene.repair();
    let answer = poll.await.unwrap();
    let text = String::from_utf8(answer.publications).unwrap();
    assert_eq!(offsets(&text), (1..=PUBLICATIONS).collect::<Vec<_>>(), "{text}");
}

#[tokio::test]
async fn a_subscribe_that_waits_for_another_keeps_no_page() {
    let scene = Scene::new().await;
    let now = Instant::now();
    let presented = Identity { user: "alice".into(), ..Identity::default() };
    let mut session = ClientSession::new(scene.hub.clone(), Some(presented), Handle::by_task(), now);
    session.on_frame(r#"{"id":1,"connect":{}}"#, now);
    read_until(&mut session, "\"id\":1,").await;
    session.on_frame(r#"{"id":2,"subscribe":{"channel":"slow"}}"#, now);
    let epoch = scene.beginning.epoch;
    let resume = format!(r#""channel":"log","recover":true,"epoch":"{epoch}","offset":0"#);
    session.on_frame(&format!(r#"{{"id":3,"subscribe":{{{resume}}}}}"#), now);
    scene.until_dropped(&mut session).await;
    scene.repair();
    let text = read_until(&mut session, &format!("\"offset\":{PUBLICATIONS}")).await;
    let at = text.find("\"id\":3").unwrap();
    assert!(text[at..].contains("\"recovered\":true"), "{text}");
    let pushes: String = text.split("\"push\"").skip(1).collect();
    assert_eq!(offsets(&pushes), (1..=PUBLICATIONS).collect::<Vec<_>>(), "{text}");
}
