//! Polls that receive live publications while memory for answers is short.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU64;
use std::task::Waker;
use std::time::SystemTime;

use fanway_broker::{Broker, Publish};
use fanway_protocol::{Channel, Payload, Publication};

use super::*;
use crate::Limits;
use crate::pages::Grant;
use crate::session::answer::ANSWER_BYTES;
use crate::testing::hub;

const WAIT: Duration = Duration::from_secs(60);

/// A poll that has joined `news` at its head, and waits.
async fn waiting(hub: &Arc<Hub>, identity: Identity) -> PollSession {
    let channel = Channel::new("news").unwrap();
    let point = ResumePoint { channel, from: crate::attach::From::Head, fresh: false };
    let mut session = PollSession::new(hub.clone(), identity, &[point], WAIT);
    let began = Instant::now();
    while !session.protocol.joins.is_empty() || session.core.subs.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(20));
        assert!(poll_once(&mut session).is_pending());
        tokio::task::yield_now().await;
    }
    session
}

fn poll_once(session: &mut PollSession) -> Poll<Result<(), PollError>> {
    session.poll_answer(&mut Context::from_waker(Waker::noop()))
}

/// Publishes payloads of such sizes, and waits until they are in the ring.
async fn publish(session: &PollSession, sizes: &[usize]) {
    let (hub, channel) = (&session.core.hub, Channel::new("news").unwrap());
    let retention = hub.namespaces().of(&channel).unwrap().retention();
    let local = session.core.subs[0].as_ref().unwrap().attachment.channel.clone();
    let end = local.head() + sizes.len() as u64;
    for size in sizes {
        let data = Payload::Json(format!("\"{}\"", "x".repeat(*size)).into());
        let publication = Arc::new(Publication { data, ..Publication::default() });
        hub.broker.publish(Publish { channel: &channel, publication, retention, idempotency: None }).await.unwrap();
    }
    let began = Instant::now();
    while local.head() < end {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}

/// All memory for answers but so much.
fn all_but(hub: &Hub, bytes: usize) -> Grant {
    hub.answers.try_cost(ANSWER_BYTES as usize - bytes).unwrap()
}

/// Offsets of the answer so far, and the offset that its cursor names.
fn received(session: PollSession) -> (Vec<u64>, u64) {
    let reached = session.core.position(0).unwrap().offset;
    let answer = session.into_answer(&Resume::default());
    let list = format!("[{}]", std::str::from_utf8(&answer.publications).unwrap());
    let list: Vec<serde_json::Value> = serde_json::from_str(&list).unwrap();
    (list.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect(), reached)
}

#[tokio::test]
async fn a_run_is_cut_at_the_last_entry_that_fits() {
    let hub = hub(Limits::default());
    let mut session = waiting(&hub, Identity::anonymous()).await;
    publish(&session, &[1024; 20]).await;
    let _all = all_but(&hub, 0);
    assert!(matches!(poll_once(&mut session), Poll::Ready(Ok(()))));
    let (offsets, reached) = received(session);
    assert!((10..16).contains(&reached), "{reached}");
    assert_eq!(offsets, (1..=reached).collect::<Vec<_>>());
}

/// A short poll, which would be answered that there is nothing.
#[tokio::test]
async fn memory_for_the_first_entry_of_a_run_is_taken_at_once() {
    let hub = hub(Limits::default());
    let mut session = waiting(&hub, Identity::anonymous()).await;
    publish(&session, &[25 * 1024; 2]).await;
    let _others = all_but(&hub, 30 * 1024);
    session.protocol.until = Instant::now();
    assert!(matches!(poll_once(&mut session), Poll::Ready(Ok(()))));
    assert_eq!(received(session), (vec![1], 1));
}

/// Each new wait had a deadline of its own.
#[tokio::test]
async fn waits_for_memory_have_one_deadline() {
    let hub = hub(Limits { command_timeout: Duration::from_secs(30), ..Limits::default() });
    let mut session = waiting(&hub, Identity::anonymous()).await;
    publish(&session, &[25 * 1024; 2]).await;
    let all = all_but(&hub, 0);
    assert!(poll_once(&mut session).is_pending());
    let deadline = session.end_of_wait();
    // Granted, but too little: the first entry is a larger one now.
    session.protocol.collected.wait_for(1, &hub.answers);
    drop(all);
    let _others = all_but(&hub, 1);
    assert!(poll_once(&mut session).is_pending() && session.protocol.collected.waits());
    assert_eq!(session.end_of_wait(), deadline);
}

#[tokio::test]
async fn a_wait_for_memory_is_no_stall() {
    let stall = Duration::from_millis(20);
    let hub = hub(Limits { write_stall: stall, command_timeout: Duration::from_secs(30), ..Limits::default() });
    let mut session = waiting(&hub, Identity::anonymous()).await;
    publish(&session, &[25 * 1024; 2]).await;
    let all = all_but(&hub, 0);
    let began = Instant::now();
    while began.elapsed() < 5 * stall {
        session.core.handle.tick();
        assert!(poll_once(&mut session).is_pending());
        tokio::time::sleep(stall).await;
    }
    drop(all);
    assert!(matches!(poll_once(&mut session), Poll::Ready(Ok(()))));
    assert_eq!((received(session), hub.metrics.poll_answer_bytes.get()), ((vec![1, 2], 2), 0));
}

#[tokio::test]
async fn no_deadline_is_later_than_the_credential() {
    // Twice that, for which a poll waits for memory, is later than the end of the credential.
    let command_timeout = Duration::from_secs(8);
    let hub = hub(Limits { command_timeout, expiry_grace: Duration::ZERO, ..Limits::default() });
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let identity = Identity { expires_at: NonZeroU64::new(now.as_secs() + 10), ..Identity::default() };
    let end = Instant::now() + Duration::from_secs(11);
    let mut session = waiting(&hub, identity).await;
    assert!(session.protocol.deadline < end && session.end_of_wait() < end);
    publish(&session, &[25 * 1024]).await;
    let _all = all_but(&hub, 0);
    assert!(poll_once(&mut session).is_pending() && session.protocol.collected.waits());
    assert!(session.end_of_wait() < end);
}

/// No task of the hub runs meanwhile: the channel is not joined.
#[tokio::test]
async fn a_client_that_must_not_come_back_does_not_wait_for_the_broker() {
    let hub = hub(Limits::default());
    let own = "2~x7wNabcdefgh0123456789ab.3";
    for cursor in [Some(own), None] {
        let resume = Resume::new(hub.namespaces(), vec![Channel::new("news").unwrap()], cursor);
        let wait = Duration::from_secs(60);
        let mut session = PollSession::new(hub.clone(), Identity::default(), &resume.points, wait);
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(session.poll_answer(cx).is_pending());
        session.close(CloseReason::Disconnected);
        assert!(matches!(session.poll_answer(cx), Poll::Ready(Ok(()))));
        let answer = session.into_answer(&resume);
        assert_eq!(answer.cursor, cursor.unwrap_or_default());
        assert_eq!(answer.disconnect, Some(CloseReason::Disconnected.into()));
    }
}
