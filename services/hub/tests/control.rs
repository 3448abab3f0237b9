//! Sessions ended from outside, by client id, user and token: those that are meant, and no others.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::{Arc, OnceLock};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use fanway_hub::handle::Handle;
use fanway_hub::session::{ClientSession, Disconnect, EventSession, Framing, Resume, poll};
use fanway_hub::turn::Turn;
use fanway_hub::{CloseReason, Hub, Identity, Target};
use fanway_protocol::Channel;
use serde_json::Value;
use uuid::Uuid;

use support::{Socket, hub_verifying};

/// The user and the token's id, of a token such as `alice 1`.
fn identity(token: &str) -> Identity {
    let (user, id) = token.split_once(' ').unwrap();
    Identity { user: user.into(), token_id: Some(id.into()), ..Identity::default() }
}

fn hub() -> Arc<Hub> {
    hub_verifying(Box::new(|token, _| Ok(identity(token))))
}

/// A connected session, and the id that its client was given.
async fn connected(hub: &Arc<Hub>, token: &str) -> (Socket, Uuid) {
    let mut socket = Socket::silent(hub);
    let reply = socket.ask(1, &format!(r#""connect":{{"token":"{token}"}}"#)).await;
    let id = client(&reply["connect"]);
    (socket, id)
}

fn client(result: &Value) -> Uuid {
    result["client"].as_str().unwrap().parse().unwrap()
}

/// What each session closes with, once it has worked.
async fn closing<const N: usize>(mut sockets: [&mut Socket; N]) -> [Option<CloseReason>; N] {
    for socket in &mut sockets {
        socket.poll().await;
    }
    sockets.map(|socket| socket.session.closing())
}

fn user(user: &str) -> Target {
    Target::User(user.into())
}

fn token(id: &str) -> Target {
    Target::Token(id.into())
}

const GONE: Option<CloseReason> = Some(CloseReason::Disconnected);

#[tokio::test]
async fn every_session_of_a_user_is_ended_and_nobody_elses() {
    let hub = hub();
    let (mut first, _) = connected(&hub, "alice 1").await;
    let (mut second, _) = connected(&hub, "alice 2").await;
    let (mut other, _) = connected(&hub, "bob 3").await;
    let mut silent = Socket::silent(&hub);
    assert_eq!(hub.disconnect(user("alice"), CloseReason::Disconnected), 2);
    assert_eq!(closing([&mut first, &mut second, &mut other, &mut silent]).await, [GONE, GONE, None, None]);
    assert_eq!(Disconnect::from(CloseReason::Disconnected).code.code(), 3503);
    assert_eq!(hub.disconnect(user("carol"), CloseReason::Disconnected), 0);
    drop((first, second));
    assert_eq!(hub.disconnect(user("alice"), CloseReason::Disconnected), 0, "they are gone");
}

#[tokio::test]
async fn a_session_is_ended_by_the_id_that_its_client_was_given() {
    let hub = hub();
    let (mut one, id) = connected(&hub, "alice 1").await;
    let (mut other, _) = connected(&hub, "alice 1").await;
    let refreshed = one.ask(2, r#""refresh":{"token":"alice 2"}"#).await;
    assert_eq!(client(&refreshed["refresh"]), id);
    assert_eq!(hub.disconnect(Target::Client(Uuid::from_u128(id.as_u128() ^ 1)), CloseReason::Disconnected), 0);
    assert_eq!(hub.disconnect(Target::Client(id), CloseReason::Disconnected), 1);
    assert_eq!(closing([&mut one, &mut other]).await, [GONE, None]);
    drop(one);
    assert_eq!(hub.disconnect(Target::Client(id), CloseReason::Disconnected), 0);
}

#[tokio::test]
async fn a_refreshed_session_is_found_by_its_new_token() {
    let hub = hub();
    let (mut refreshed, _) = connected(&hub, "alice 1").await;
    let (mut same, _) = connected(&hub, "alice 1").await;
    refreshed.ask(2, r#""refresh":{"token":"alice 2"}"#).await;
    assert_eq!(hub.disconnect(token("1"), CloseReason::InvalidToken), 1);
    assert_eq!(closing([&mut refreshed, &mut same]).await, [None, Some(CloseReason::InvalidToken)]);
    assert_eq!(hub.disconnect(token("2"), CloseReason::InvalidToken), 1);
    assert_eq!(closing([&mut refreshed]).await, [Some(CloseReason::InvalidToken)]);
}

/// Between the check of a credential and the reply to connect, channels of the token may be waited for.
#[tokio::test]
async fn a_session_is_found_from_the_moment_that_its_credential_is_accepted() {
    let hub = hub();
    let mut connecting = Socket::silent(&hub);
    connecting.say(r#"{"id":1,"connect":{"token":"alice 1"}}"#);
    assert_eq!(hub.disconnect(user("alice"), CloseReason::Disconnected), 1);
    assert_eq!(closing([&mut connecting]).await, [GONE]);

    // The credential came with the upgrade request, and the client has not connected yet.
    let mut presented = Socket::silent(&hub);
    presented.session = ClientSession::new(hub.clone(), Some(identity("bob 2")), Handle::by_task(), Instant::now());
    assert_eq!(hub.disconnect(token("2"), CloseReason::InvalidToken), 1);
    assert_eq!(closing([&mut presented]).await, [Some(CloseReason::InvalidToken)]);
}

#[tokio::test]
async fn anonymous_clients_are_nobodys() {
    let hub = hub();
    let mut anonymous = Socket::new(&hub);
    anonymous.settle(|socket| !socket.heard().is_empty()).await;
    assert_eq!(hub.disconnect(user(""), CloseReason::Disconnected), 0);
    assert_eq!(hub.disconnect(token(""), CloseReason::Disconnected), 0);
    assert_eq!(closing([&mut anonymous]).await, [None]);
}

#[tokio::test]
async fn streams_and_polls_are_ended_too() {
    let hub = hub();
    let resume = || Resume::new(hub.namespaces(), vec![Channel::new("news").unwrap()], None);
    let now = Instant::now();
    let handle = Handle::by_task();
    let mut stream = EventSession::new(hub.clone(), identity("alice 1"), resume(), handle, vec![], Framing::Plain, now);
    let mut waiting = resume();
    waiting.points[0].fresh = false;
    let waiting = tokio::spawn({
        let hub = hub.clone();
        async move { poll(&hub, identity("alice 2"), &waiting, Duration::from_secs(60)).await }
    });
    while hub.connections() < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(hub.disconnect(user("alice"), CloseReason::Disconnected), 2);
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap().unwrap();
    assert!(!answer.draining && answer.publications.is_empty());
    assert_eq!(answer.disconnect, Some(CloseReason::Disconnected.into()));
    stream.poll(&mut Context::from_waker(Waker::noop()), Instant::now());
    assert!(stream.ended() && stream.closing() == GONE);
    let mut turn = Turn::default();
    stream.gather(&mut turn);
    let text = String::from_utf8(turn.bytes().to_vec()).unwrap();
    assert_eq!(text.matches("retry: ").count(), 1, "the first only: {text}");
    let last = "event: disconnect\ndata: {\"code\":3503,\"reason\":\"force disconnect\"}\nid: stop\n\n";
    assert!(text.ends_with(last), "{text}");
}

/// A session that does not work for a while: the first message decides, as long as there is room for one.
#[tokio::test]
async fn a_full_mailbox_ends_the_session() {
    let hub = hub();
    let (mut socket, _) = connected(&hub, "alice 1").await;
    for _ in 0..200 {
        assert_eq!(hub.disconnect(user("alice"), CloseReason::Disconnected), 1);
    }
    assert_eq!(closing([&mut socket]).await, [GONE]);
}

/// The client of a session that was to come back must stay away if that is asked for before it is notified.
#[tokio::test]
async fn the_more_lasting_reason_wins() {
    let hub = hub();
    let (mut by_mail, _) = connected(&hub, "alice 1").await;
    let (mut by_signal, id) = connected(&hub, "bob 2").await;
    let (mut full, _) = connected(&hub, "carol 3").await;
    let (mut ended, _) = connected(&hub, "dave 4").await;
    by_mail.session.close(CloseReason::Slow);
    hub.disconnect(user("alice"), CloseReason::Disconnected);
    by_signal.session.handle().close(CloseReason::Rebalanced);
    hub.disconnect(Target::Client(id), CloseReason::Disconnected);
    for reason in CloseReason::ALL.iter().filter(|reason| reason.reconnects()).cycle().take(100) {
        hub.disconnect(user("carol"), *reason);
    }
    hub.disconnect(user("carol"), CloseReason::Disconnected);
    ended.session.close(CloseReason::Slow);
    ended.poll().await;
    hub.disconnect(user("dave"), CloseReason::Disconnected);
    assert_eq!(closing([&mut by_mail, &mut by_signal, &mut full]).await, [GONE; 3]);
    assert_eq!(closing([&mut ended]).await, [Some(CloseReason::Slow)], "its client was notified already");
}

/// A message for a token that the session has given up meanwhile must not have displaced one for its user.
#[tokio::test]
async fn a_lasting_reason_displaces_no_message_for_another_target() {
    let hub = hub();
    let (mut refreshed, _) = connected(&hub, "alice 1").await;
    for _ in 0..100 {
        hub.disconnect(user("alice"), CloseReason::Slow);
    }
    for _ in 0..100 {
        hub.disconnect(token("1"), CloseReason::InvalidToken);
    }
    refreshed.say(r#"{"id":2,"refresh":{"token":"alice 2"}}"#);
    assert_eq!(closing([&mut refreshed]).await, [Some(CloseReason::Slow)]);
}

/// A credential is checked before its session can be found by it.
#[tokio::test]
async fn a_session_is_ended_by_what_came_while_its_credential_was_checked() {
    static HUB: OnceLock<Arc<Hub>> = OnceLock::new();
    let during = |name: &str| {
        let Some(hub) = HUB.get() else { return };
        match name {
            "alice" => hub.disconnect(user("alice"), CloseReason::Disconnected),
            _ => hub.disconnect(token("9"), CloseReason::Disconnected),
        };
    };
    let hub = hub_verifying(Box::new(move |presented, _| {
        let identity = identity(presented);
        if matches!(&*identity.user, "alice") || identity.token_id.as_deref() == Some("9") {
            during(&identity.user);
        }
        Ok(identity)
    }));
    HUB.set(hub.clone()).ok();
    let (mut websocket, mut presented) = (Socket::silent(&hub), Socket::silent(&hub));
    websocket.say(r#"{"id":1,"connect":{"token":"alice 1"}}"#);
    let (mut refreshed, _) = connected(&hub, "bob 8").await;
    refreshed.say(r#"{"id":2,"refresh":{"token":"bob 9"}}"#);
    let accepted = || hub.verify("alice 2").unwrap();
    let now = Instant::now();
    presented.session = ClientSession::new(hub.clone(), Some(accepted()), Handle::by_task(), now);
    assert_eq!(closing([&mut websocket, &mut presented]).await, [GONE; 2]);
    refreshed.settle(|socket| socket.session.closing().is_some()).await;
    assert_eq!(refreshed.session.closing(), GONE);

    let resume = || Resume::new(hub.namespaces(), vec![Channel::new("news").unwrap()], None);
    let handle = Handle::by_task();
    let mut stream = EventSession::new(hub.clone(), accepted(), resume(), handle, vec![], Framing::Plain, now);
    stream.poll(&mut Context::from_waker(Waker::noop()), now);
    assert_eq!(stream.closing(), GONE);
    let mut waiting = resume();
    waiting.points[0].fresh = false;
    let waiting = poll(&hub, accepted(), &waiting, Duration::from_secs(60));
    let answer = tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap().unwrap();
    assert_eq!(answer.disconnect, Some(CloseReason::Disconnected.into()));

    // What came before a credential was presented does not concern it.
    let (mut later, _) = connected(&hub, "carol 1").await;
    assert_eq!(closing([&mut later]).await, [None]);
    hub.disconnect(user("carol"), CloseReason::Disconnected);
    let (mut back, _) = connected(&hub, "carol 1").await;
    assert_eq!(closing([&mut later, &mut back]).await, [GONE, None]);
}
