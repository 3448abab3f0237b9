//! Commands whose rights a back end decides: they wait, in the order of commands, and no other connection does.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanway_broker::{AnyBroker, MemoryBroker};
use fanway_hub::authorizer::{Authorizer, Decision, Question};
use fanway_hub::{Hub, HubMetrics, Identity, Inbox, Limits, Namespace, Namespaces, Parts};
use fanway_protocol::{Grants, Right, Rule};
use futures_util::FutureExt;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use support::{Socket, fast, publish};

/// The test's end of a back end: questions, and where their answers go.
type Questions = mpsc::Receiver<(Question, oneshot::Sender<Decision>)>;

/// A hub whose tokens are users that may subscribe to the channel `own`. Everything else is asked of a back end.
fn hub(limits: Limits) -> (Arc<Hub>, Arc<AnyBroker>, Questions) {
    let inbox = Inbox::new();
    let broker = Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone())));
    let (asked, questions) = mpsc::channel(16);
    let ask = move |question| {
        let (answer, answered) = oneshot::channel();
        asked.try_send((question, answer)).unwrap();
        async move { answered.await.unwrap_or(Decision::Unavailable) }.boxed()
    };
    let kept = Namespace {
        history_size: 10,
        history_ttl: Duration::from_secs(300),
        meta_ttl: Duration::from_secs(3000),
        ..Namespace::closed("default")
    };
    let parts = Parts {
        broker: broker.clone(),
        inbox,
        feed: tokio::runtime::Handle::current(),
        namespaces: Arc::new(Namespaces::new(kept, [])),
        limits,
        quotas: fanway_hub::QuotaSettings::unlimited(),
        verify: Box::new(|token, _| {
            let grants = Grants::new(vec![Rule::exact("own", &[Right::Subscribe]).unwrap()]);
            Ok(Identity { user: token.into(), grants, ..Identity::default() })
        }),
        authorizer: Authorizer::BackEnd(Box::new(ask)),
        allow_anonymous: false,
        max_age: None,
        metrics: HubMetrics::register(&prometheus::Registry::new()).unwrap(),
        trace: None,
        version: "test",
    };
    (Hub::start(parts, TaskTracker::new(), CancellationToken::new()), broker, questions)
}

async fn connected(hub: &Arc<Hub>, user: &str) -> Socket {
    let mut socket = Socket::silent(hub);
    socket.ask(1, &format!(r#""connect":{{"token":"{user}"}}"#)).await;
    socket
}

/// Lets a session work until it has asked the back end.
async fn question(socket: &mut Socket, questions: &mut Questions) -> (Question, oneshot::Sender<Decision>) {
    let mut asked = None;
    socket
        .settle(|_| {
            asked = asked.take().or_else(|| questions.try_recv().ok());
            asked.is_some()
        })
        .await;
    asked.unwrap()
}

fn ids(socket: &Socket) -> Vec<u64> {
    socket.heard().iter().filter_map(|value| value["id"].as_u64()).collect()
}

#[tokio::test]
async fn a_command_that_waits_keeps_the_order_and_holds_up_nobody_else() {
    let (hub, _, mut questions) = hub(fast());
    let (mut waiting, mut other) = (connected(&hub, "alice").await, connected(&hub, "bob").await);
    let commands = [
        r#"{"id":2,"subscribe":{"channel":"a"}}"#,
        r#"{"id":3,"ping":{}}"#,
        r#"{"id":4,"subscribe":{"channel":"own"}}"#,
    ];
    waiting.say(&commands.join("\n"));
    let (asked, answer) = question(&mut waiting, &mut questions).await;
    assert_eq!((asked.right, asked.channel.as_str(), &*asked.identity.user), (Right::Subscribe, "a", "alice"));
    assert_eq!(other.ask(2, r#""subscribe":{"channel":"own"}"#).await["error"], Value::Null);
    assert_eq!(other.ask(3, r#""ping":{}"#).await["error"], Value::Null);
    waiting.poll().await;
    waiting.write(|all| all);
    assert_eq!(ids(&waiting), [1], "what comes after it waits too");
    answer.send(Decision::Granted).unwrap();
    waiting.settle(|socket| ids(socket).len() == 4).await;
    assert_eq!(ids(&waiting), [1, 2, 3, 4]);
    assert!(waiting.heard().iter().all(|value| value["error"].is_null()), "{:?}", waiting.heard());
    assert!(questions.try_recv().is_err(), "what the token decides is not asked");
}

#[tokio::test]
async fn each_decision_has_its_reply() {
    let (hub, _, mut questions) = hub(fast());
    let mut socket = connected(&hub, "alice").await;
    let mut id = 1;
    for (command, right) in [
        (r#""subscribe":{"channel":"a"}"#, Right::Subscribe),
        (r#""publish":{"channel":"a","data":1}"#, Right::Publish),
        (r#""history":{"channel":"a","limit":1}"#, Right::History),
    ] {
        for (decision, code) in [
            (Some(Decision::Denied), 103),
            (Some(Decision::Unavailable), 100),
            (None, 100),
            (Some(Decision::Granted), 0),
        ] {
            id += 1;
            socket.say(&format!(r#"{{"id":{id},{command}}}"#));
            let (asked, answer) = question(&mut socket, &mut questions).await;
            assert_eq!(asked.right, right);
            match decision {
                Some(decision) => answer.send(decision).unwrap(),
                None => drop(answer),
            }
            socket.settle(|socket| ids(socket).contains(&id)).await;
            let reply = socket.heard().into_iter().find(|value| value["id"] == id).unwrap();
            assert_eq!(reply["error"]["code"].as_u64().unwrap_or(0), code, "{command} {decision:?}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_back_end_that_is_silent_is_waited_for_no_longer_than_a_command_may_take() {
    let (hub, _, mut questions) = hub(Limits { command_timeout: Duration::from_millis(200), ..fast() });
    let mut socket = connected(&hub, "alice").await;
    let begun = Instant::now();
    socket.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    let (_, _kept) = question(&mut socket, &mut questions).await;
    socket.settle(|socket| ids(socket).contains(&2)).await;
    assert_eq!(socket.heard()[1]["error"]["code"], 100);
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

/// The back end's grants are its own: the token never had them.
#[tokio::test]
async fn a_refresh_does_not_end_what_a_back_end_has_granted() {
    let (hub, broker, mut questions) = hub(fast());
    let mut socket = connected(&hub, "alice").await;
    socket.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    question(&mut socket, &mut questions).await.1.send(Decision::Granted).unwrap();
    socket.settle(|socket| ids(socket).contains(&2)).await;
    socket.ask(3, r#""refresh":{"token":"alice"}"#).await;
    publish(&broker, &hub, "a", "7".to_owned()).await;
    socket.settle(|socket| socket.heard().iter().any(|value| value["push"]["pub"]["data"] == 7)).await;
    assert!(socket.heard().iter().all(|value| value["push"]["unsubscribe"].is_null()), "{:?}", socket.heard());
}
