//! A refresh in the middle of other commands: what comes after it is judged by the new credential.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use fanway_broker::{AnyBroker, MemoryBroker};
use fanway_hub::{AuthFailure, Hub, HubMetrics, Identity, Inbox, Namespace, Namespaces, Parts};

use fanway_protocol::{Grants, Right, Rule};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use support::{Socket, fast};

/// A hub whose tokens are lists of the channels that they grant.
fn hub() -> Arc<Hub> {
    let inbox = Inbox::new();
    let verify = |token: &str, _| {
        let rules = token.split(',').map(|channel| Rule::exact(channel, &[Right::Subscribe])).collect::<Result<_, _>>();
        let grants = Grants::new(rules.map_err(|_| AuthFailure::invalid("caps", "not channels"))?);
        Ok(Identity { user: "u".into(), grants, ..Identity::default() })
    };
    let parts = Parts {
        broker: Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone()))),
        inbox,
        feed: tokio::runtime::Handle::current(),
        namespaces: Arc::new(Namespaces::new(Namespace::closed("default"), [])),
        limits: fast(),
        verify: Box::new(verify),
        allow_anonymous: false,
        metrics: HubMetrics::register(&prometheus::Registry::new()).unwrap(),
        max_age: None,
        trace: None,
        version: "test",
    };
    Hub::start(parts, TaskTracker::new(), CancellationToken::new())
}

#[tokio::test]
async fn a_subscribe_sent_behind_a_narrowing_refresh_is_refused() {
    let mut socket = Socket::silent(&hub());
    socket.say(r#"{"id":1,"connect":{"token":"a,b"}}"#);
    socket.settle(|socket| socket.heard().len() == 1).await;
    socket.say(concat!(
        r#"{"id":2,"refresh":{"token":"a"}}"#,
        "\n",
        r#"{"id":3,"subscribe":{"channel":"b"}}"#,
        "\n",
        r#"{"id":4,"subscribe":{"channel":"a"}}"#
    ));
    socket.settle(|socket| socket.heard().len() == 4).await;
    let heard = socket.heard();
    assert!(heard[1].get("refresh").is_some(), "{heard:?}");
    assert_eq!(heard[2]["error"]["code"], 103, "{heard:?}");
    assert!(heard[3].get("subscribe").is_some(), "{heard:?}");
}
