//! A refresh in the middle of other commands: what comes after it is judged by the new credential, whether it takes rights
//! away or gives some.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use fanway_broker::{AnyBroker, Broker, MemoryBroker, PageLimit};
use fanway_hub::authorizer::Authorizer;
use fanway_hub::{Access, AuthFailure, Hub, HubMetrics, Identity, Inbox, Namespace, Namespaces, Parts};
use fanway_protocol::{Channel, Grants, Right, Rule};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use support::{Socket, fast};

/// A hub whose tokens are lists of the rights that they grant, such as `sub/a,pub/a`.
fn hub() -> (Arc<Hub>, Arc<AnyBroker>) {
    let inbox = Inbox::new();
    let verify = |token: &str, _| {
        let rule = |grant: &str| {
            let (right, channel) = grant.split_once('/')?;
            Rule::exact(channel, &[Right::from_word(right)?]).ok()
        };
        let rules = token.split(',').map(rule).collect::<Option<_>>();
        let grants = Grants::new(rules.ok_or(AuthFailure::invalid("caps", "not grants"))?);
        let info = Some(format!("{token:?}").into());
        Ok(Identity { user: "u".into(), grants, info, ..Identity::default() })
    };
    let kept = Namespace {
        history_size: 10,
        history_ttl: Duration::from_secs(300),
        meta_ttl: Duration::from_secs(3000),
        ..Namespace::closed("default")
    };
    let talk = Namespace { publish: Access::Subscriber, ..Namespace::closed("talk") };
    let broker = Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone())));
    let parts = Parts {
        broker: broker.clone(),
        inbox,
        feed: tokio::runtime::Handle::current(),
        namespaces: Arc::new(Namespaces::new(kept, [talk])),
        limits: fast(),
        quotas: fanway_hub::QuotaSettings::unlimited(),
        verify: Box::new(verify),
        authorizer: Authorizer::Token,
        allow_anonymous: false,
        metrics: HubMetrics::register(&prometheus::Registry::new()).unwrap(),
        max_age: None,
        trace: None,
        version: "test",
    };
    (Hub::start(parts, TaskTracker::new(), CancellationToken::new()), broker)
}

/// A client connected with a token.
async fn connected(hub: &Arc<Hub>, token: &str) -> Socket {
    let mut socket = Socket::silent(hub);
    socket.say(&format!(r#"{{"id":1,"connect":{{"token":"{token}"}}}}"#));
    socket.settle(|socket| socket.heard().len() == 1).await;
    socket
}

/// Sends commands in one frame and returns what comes of it, up to the reply to the last.
async fn told(socket: &mut Socket, commands: &[&str]) -> Vec<Value> {
    let before = socket.heard().len();
    let last = 1 + commands.len();
    let numbered = commands.iter().zip(2..).map(|(command, id)| format!(r#"{{"id":{id},{command}}}"#));
    socket.say(&numbered.collect::<Vec<_>>().join("\n"));
    socket.settle(|socket| socket.heard()[before..].iter().any(|value| value["id"] == last)).await;
    socket.heard().split_off(before)
}

/// The error codes of replies, 0 for none.
fn codes(heard: &[Value]) -> Vec<u64> {
    let replies = heard.iter().filter(|value| value["id"].is_u64());
    replies.map(|reply| reply["error"]["code"].as_u64().unwrap_or(0)).collect()
}

async fn kept(broker: &AnyBroker, channel: &str) -> usize {
    let log = broker.read(&Channel::new(channel).unwrap(), Some(0), PageLimit::entries(100)).await.unwrap();
    log.map_or(0, |log| log.entries.len())
}

#[tokio::test]
async fn a_subscribe_sent_behind_a_narrowing_refresh_is_refused() {
    let (hub, _) = hub();
    let mut socket = connected(&hub, "sub/a,sub/b").await;
    let narrower = r#""refresh":{"token":"sub/a"}"#;
    let heard =
        told(&mut socket, &[narrower, r#""subscribe":{"channel":"b"}"#, r#""subscribe":{"channel":"a"}"#]).await;
    assert_eq!(codes(&heard), [0, 103, 0], "{heard:?}");
}

#[tokio::test]
async fn what_is_sent_behind_a_narrowing_refresh_is_not_carried_out() {
    let (hub, broker) = hub();
    let mut socket = connected(&hub, "pub/a,hst/a,sub/a").await;
    let publish = r#""publish":{"channel":"a","data":1}"#;
    let history = r#""history":{"channel":"a","limit":10}"#;
    let heard = told(&mut socket, &[publish, history, r#""refresh":{"token":"sub/b"}"#, publish, history]).await;
    assert_eq!(codes(&heard), [0, 0, 0, 103, 103], "{heard:?}");
    assert_eq!(kept(&broker, "a").await, 1);
}

#[tokio::test]
async fn what_is_sent_behind_a_widening_refresh_is_carried_out() {
    let (hub, broker) = hub();
    let mut socket = connected(&hub, "sub/b").await;
    let publish = r#""publish":{"channel":"a","data":1}"#;
    let history = r#""history":{"channel":"a","limit":10}"#;
    let subscribe = r#""subscribe":{"channel":"a"}"#;
    let wider = r#""refresh":{"token":"sub/a,pub/a,hst/a"}"#;
    let heard = told(&mut socket, &[subscribe, publish, wider, subscribe, publish, history]).await;
    assert_eq!(codes(&heard), [103, 103, 0, 0, 0, 0], "{heard:?}");
    assert_eq!(kept(&broker, "a").await, 1);
    // It is the new credential's information that others are shown.
    let log = broker.read(&Channel::new("a").unwrap(), Some(0), PageLimit::entries(1)).await.unwrap().unwrap();
    let info = log.entries[0].1.info.clone().unwrap();
    assert_eq!(info.conn_info.as_deref(), Some(&br#""sub/a,pub/a,hst/a""#[..]));
}

/// A refused subscribe gives none of the rights of a subscriber to what was sent along with it.
#[tokio::test]
async fn a_refused_subscribe_makes_no_subscriber() {
    let (hub, _) = hub();
    let mut socket = connected(&hub, "sub/talk:a").await;
    let subscribe = r#""subscribe":{"channel":"talk:a"}"#;
    let publish = r#""publish":{"channel":"talk:a","data":1}"#;
    let heard = told(&mut socket, &[r#""refresh":{"token":"sub/b"}"#, subscribe, publish]).await;
    assert_eq!(codes(&heard), [0, 103, 103], "{heard:?}");
    let wider = r#""refresh":{"token":"sub/talk:a"}"#;
    let heard = told(&mut socket, &[wider, subscribe, publish, r#""ping":{}"#]).await;
    assert_eq!(codes(&heard), [0, 0, 0, 0], "{heard:?}");
}

/// The refresh ended the subscription, so a subscribe behind it is none for a channel that is subscribed already.
#[tokio::test]
async fn what_a_refresh_ended_can_be_asked_for_anew() {
    let (hub, _) = hub();
    let mut socket = connected(&hub, "sub/a").await;
    let subscribe = r#""subscribe":{"channel":"a"}"#;
    let heard = told(&mut socket, &[subscribe, subscribe]).await;
    assert_eq!(codes(&heard), [0, 105], "{heard:?}");
    let commands = [r#""refresh":{"token":"sub/b"}"#, subscribe, r#""refresh":{"token":"sub/a"}"#, subscribe];
    let heard = told(&mut socket, &commands).await;
    assert_eq!(codes(&heard), [0, 103, 0, 0], "{heard:?}");
    let ended = heard.iter().filter(|value| value["push"]["unsubscribe"].is_object()).count();
    assert_eq!(ended, 1, "{heard:?}");
}
