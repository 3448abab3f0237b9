//! The client endpoints over real sockets, with a hub that the test controls.
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use fanway_broker::{AnyBroker, MemoryBroker};
use fanway_hub::authorizer::Authorizer;
use fanway_hub::session::Disconnect;
use fanway_hub::{Access, CloseReason, Hub, HubMetrics, Identity, Inbox, Limits, Namespace, Namespaces, Parts, Target};
use fanway_testkit::sse::{Client, Request, Silence};
use fanway_testkit::{PATIENCE, wait};
use prometheus::Registry;
use serde_json::{Value, json};

use super::admission::Admission;
use super::{ClientState, router};
use crate::auth::{Credentials, Origins, Settings as AuthSettings};
use crate::server::{Clients, Ending, Endpoint, ServerMetrics, Settings, bind, serve};

const PAGE: &str = "https://app.example";

struct Server {
    hub: Arc<Hub>,
    address: SocketAddr,
    ending: Ending,
}

impl Server {
    /// Serves clients whose tokens are their names.
    fn start() -> Self {
        let inbox = Inbox::new();
        let namespace = Namespace {
            history_size: 100,
            history_ttl: Duration::from_secs(300),
            meta_ttl: Duration::from_secs(3000),
            recovery: true,
            subscribe: Access::Authenticated,
            ..Namespace::closed("default")
        };
        let registry = Registry::new();
        let ending = Ending::default();
        let parts = Parts {
            broker: Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone()))),
            inbox,
            feed: tokio::runtime::Handle::current(),
            namespaces: Arc::new(Namespaces::new(namespace, [])),
            limits: Limits::default(),
            quotas: fanway_hub::QuotaSettings::unlimited(),
            verify: Box::new(|token, _| Ok(Identity { user: token.into(), ..Identity::default() })),
            authorizer: Authorizer::Token,
            allow_anonymous: false,
            max_age: None,
            metrics: HubMetrics::register(&registry).unwrap(),
            trace: None,
            version: "test",
        };
        let hub = Hub::start(parts, ending.tracker.clone(), ending.close_now.clone());
        let settings = Settings::default();
        let auth = AuthSettings { allowed_origins: vec![PAGE.to_owned()], ..AuthSettings::default() };
        let admission = Arc::new(Admission {
            origins: Origins::new(&auth).unwrap(),
            credentials: Credentials::new(&auth).unwrap(),
            secure: false,
            max_head: settings.head_bytes(),
        });
        let metrics = ServerMetrics::register(&registry).unwrap();
        let rejections = metrics.connections_rejected_total.clone();
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), &settings).unwrap();
        let address = listener.local_addr().unwrap();
        ending.tracker.spawn(serve(Endpoint {
            name: "public",
            listener,
            cors: Some(admission.cors()),
            router: router(ClientState { hub: hub.clone(), admission, rejections, traces: None }),
            express: None,
            settings: Arc::new(settings),
            clients: Some(Clients { others: &[] }),
            tls: None,
            metrics,
            ending: ending.clone(),
        }));
        Self { hub, address, ending }
    }

    fn request(&self, path: &str, http2: bool) -> Request {
        let request = Request::to(format!("http://{}{path}", self.address));
        if http2 { request.over_http2() } else { request }
    }

    /// Opens a stream of alice's, which is ready.
    async fn stream(&self, http2: bool) -> Client {
        let mut stream = self.request("/sse?channel=news", http2).bearer("alice").send().await.unwrap();
        assert_eq!(stream.next_event().await.event, "ready");
        stream
    }

    /// Polls as alice, and returns the answer.
    async fn poll(&self, query: &str, http2: bool) -> Value {
        let path = format!("/poll?channel=news{query}");
        let mut answer = self.request(&path, http2).bearer("alice").send().await.unwrap();
        assert_eq!(answer.ended_within(PATIENCE).await, Silence::Ended);
        serde_json::from_slice(answer.bytes()).unwrap()
    }

    fn disconnect(&self, reason: CloseReason) {
        assert_eq!(self.hub.disconnect(Target::User("alice".into()), reason), 1);
    }

    async fn until_connections(&self, count: usize) {
        wait::until("so many connections", || (self.hub.connections() == count).then_some(())).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.stop_accepting.cancel();
        self.ending.close_now.cancel();
    }
}

#[tokio::test]
async fn the_last_bytes_of_a_stream_say_whether_to_come_back() {
    let server = Server::start();
    for http2 in [false, true] {
        for reason in CloseReason::ALL {
            let mut stream = server.stream(http2).await;
            let ready = stream.last_event_id().to_owned();
            server.disconnect(*reason);
            assert_eq!(stream.ended_within(PATIENCE).await, Silence::Ended, "{reason:?}");
            let text = String::from_utf8(stream.bytes().to_vec()).unwrap();
            let (_, last) = text.rsplit_once(&format!("id: {ready}\n\n")).unwrap();
            let Disconnect { code, reason: words } = (*reason).into();
            if reason.reconnects() {
                let retry = last.strip_prefix("retry: ").and_then(|rest| rest.strip_suffix('\n'));
                assert!(retry.is_some_and(|retry| retry.parse::<u32>().is_ok()), "{reason:?}: {last:?}");
            } else {
                let data = json!({"code": code.code(), "reason": words});
                assert_eq!(last, format!("event: disconnect\ndata: {data}\nid: stop\n\n"), "{reason:?}");
                assert_eq!(stream.last_event_id(), "stop");
            }
            server.until_connections(0).await;
        }
    }
}

#[tokio::test]
async fn a_client_that_comes_back_with_the_last_id_is_answered_204_whoever_it_is() {
    let server = Server::start();
    for http2 in [false, true] {
        let ask = |query: &str| server.request(&format!("/sse?channel=news{query}"), http2).header("origin", PAGE);
        for request in [
            ask("").last_event_id("stop"),
            ask("").last_event_id("stop").bearer("alice"),
            ask("&cursor=2~x").last_event_id("stop"),
            ask("&lastEventId=stop"),
            ask("&last_event_id=stop&cursor=2~x"),
            ask("&cursor=stop"),
        ] {
            let answer = request.send().await.err().unwrap();
            assert_eq!((answer.status.as_u16(), answer.text()), (204, String::new()));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            // Without it the page's EventSource takes the answer for a network error, and reconnects.
            assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
        }
        // A new one is judged by its credential.
        assert_eq!(ask("").send().await.err().unwrap().status, 401);
        for request in [ask(""), ask("&cursor=stop").last_event_id("2~x"), ask("").last_event_id("stopp")] {
            assert!(request.bearer("alice").send().await.is_ok());
        }
        let foreign = server.request("/sse?channel=news", http2).header("origin", "https://other.example");
        assert_eq!(foreign.last_event_id("stop").send().await.err().unwrap().status, 403);
    }
}

#[tokio::test]
async fn the_answer_to_a_poll_says_not_to_poll_again() {
    let server = Server::start();
    for http2 in [false, true] {
        let first = server.poll("", http2).await;
        assert!(first.get("disconnect").is_none(), "{first}");
        let query = format!("&timeout=50&cursor={}", first["cursor"].as_str().unwrap());
        for reason in CloseReason::ALL.iter().filter(|reason| **reason != CloseReason::Slow) {
            server.until_connections(0).await;
            let end = async {
                server.until_connections(1).await;
                server.disconnect(*reason);
            };
            let (answer, ()) = tokio::join!(server.poll(&query, http2), end);
            assert_eq!(answer["cursor"], first["cursor"]);
            assert_eq!(answer.get("retry").is_some(), *reason == CloseReason::Shutdown, "{reason:?}: {answer}");
            let Disconnect { code, reason: words } = (*reason).into();
            let disconnect = json!({"code": code.code(), "reason": words});
            let expected = (!reason.reconnects()).then_some(&disconnect);
            assert_eq!(answer.get("disconnect"), expected, "{reason:?}");
        }
    }
}
