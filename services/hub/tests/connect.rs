//! A connect that is refused: the client is told why, and nothing of what it sent along takes effect.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use fanway_broker::{AnyBroker, MemoryBroker};
use fanway_hub::authorizer::Authorizer;
use fanway_hub::handle::Handle;
use fanway_hub::session::{ClientSession, Disconnect};
use fanway_hub::turn::Turn;
use fanway_hub::{Access, AuthFailure, CloseReason, Hub, HubMetrics, Inbox, Limits, Namespace, Namespaces, Parts};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A hub that refuses each token for the same reason.
fn hub(failure: AuthFailure) -> Arc<Hub> {
    let inbox = Inbox::new();
    let open = Namespace { subscribe: Access::Anyone, publish: Access::Anyone, ..Namespace::closed("default") };
    let parts = Parts {
        broker: Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone()))),
        inbox,
        feed: tokio::runtime::Handle::current(),
        namespaces: Arc::new(Namespaces::new(open, [])),
        limits: Limits::default(),
        quotas: fanway_hub::QuotaSettings::unlimited(),
        verify: Box::new(move |_, _| Err(failure)),
        authorizer: Authorizer::Token,
        allow_anonymous: false,
        metrics: HubMetrics::register(&prometheus::Registry::new()).unwrap(),
        max_age: None,
        trace: None,
        version: "test",
    };
    Hub::start(parts, TaskTracker::new(), CancellationToken::new())
}

/// Text that a session answers to one frame, without the frame's header of two bytes, and the code that it closes with.
async fn answer(hub: &Arc<Hub>, frame: &str) -> (String, Option<u16>) {
    let mut session = ClientSession::new(hub.clone(), None, Handle::by_task(), Instant::now());
    session.on_frame(frame, Instant::now());
    for _ in 0..100 {
        std::future::poll_fn(|cx| {
            session.poll(cx, Instant::now());
            Poll::Ready(())
        })
        .await;
        tokio::task::yield_now().await;
    }
    let mut turn = Turn::default();
    session.gather(&mut turn);
    let text = match turn.bytes() {
        [] | [0x88, ..] => "",
        [0x81, length, text @ ..] if text.len() == usize::from(*length) => std::str::from_utf8(text).unwrap(),
        other => panic!("not a frame: {other:?}"),
    };
    (text.to_owned(), session.closing().map(|reason| Disconnect::from(reason).code.code()))
}

/// The drop that unwinding runs takes everything back.
#[tokio::test]
async fn a_session_that_panics_is_not_counted_any_more() {
    let hub = hub(AuthFailure::Expired);
    let kept = ClientSession::new(hub.clone(), None, Handle::by_task(), Instant::now());
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _session = ClientSession::new(hub.clone(), None, Handle::by_task(), Instant::now());
        assert_eq!(hub.connections(), 2);
        panic!("as a fault in a session would");
    }));
    assert!(failed.is_err());
    assert_eq!(hub.connections(), 1);
    drop(kept);
    assert_eq!(hub.connections(), 0);
}

/// A client that was sent away for good would otherwise be asked to reconnect.
#[tokio::test]
async fn a_signalled_reason_arrives_unchanged() {
    let hub = hub(AuthFailure::Expired);
    for reason in CloseReason::ALL {
        let mut session = ClientSession::new(hub.clone(), None, Handle::by_task(), Instant::now());
        session.handle().close(*reason);
        session.poll(&mut Context::from_waker(Waker::noop()), Instant::now());
        assert_eq!(session.closing(), Some(*reason));
    }
}

/// SDKs send connect and every subscribe in one frame, and come back with a new token only if they are told to.
#[tokio::test]
async fn what_was_sent_along_with_a_refused_connect_is_ignored() {
    let along = concat!(
        "\n",
        r#"{"id":2,"subscribe":{"channel":"news"}}"#,
        "\n",
        r#"{"id":3,"publish":{"channel":"news","data":1}}"#,
        "\n{}\n",
        r#"{"id":4,"connect":{}}"#
    );
    let expired = hub(AuthFailure::Expired);
    let (told, closed) = answer(&expired, &format!("{}{along}", r#"{"id":1,"connect":{"token":"t"}}"#)).await;
    assert_eq!((told.as_str(), closed), (r#"{"id":1,"error":{"code":109,"message":"token expired"}}"#, None));
    let (told, closed) = answer(&expired, &format!("{}{along}", r#"{"id":1,"connect":{}}"#)).await;
    assert_eq!((told.as_str(), closed), (r#"{"id":1,"error":{"code":101,"message":"unauthorized"}}"#, None));
    let invalid = hub(AuthFailure::invalid("signature", "wrong"));
    let (told, closed) = answer(&invalid, &format!("{}{along}", r#"{"id":1,"connect":{"token":"t"}}"#)).await;
    assert_eq!((told.as_str(), closed), ("", Some(3500)));
    // Before any connect nothing else is understood.
    assert_eq!(answer(&expired, along.trim_start()).await, (String::new(), Some(3501)));
}
