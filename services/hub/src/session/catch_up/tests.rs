#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use fanway_broker::{Broker, Publish};
use fanway_protocol::{Channel, Epoch, Payload, Position, Publication};
use futures_util::FutureExt;

use super::*;
use crate::Limits;
use crate::attach::{From, Terms};
use crate::handle::Handle;
use crate::hub::Hub;
use crate::pages::Page;
use crate::session::{Output, Transport};
use crate::testing::hub;
use crate::turn::Turn;

fn core(hub: &Arc<Hub>) -> Core {
    let output = Output::new(Transport::WEB_SOCKET, hub.built_in.json_frames);
    let now = Instant::now();
    Core::new(hub.clone(), output, Handle::by_task(), now, now + Duration::from_secs(3600))
}

/// Subscribes a session to a channel, as a client that takes every entry to be of the epoch of its subscribe reply.
async fn subscribe(core: &mut Core, channel: &str) -> u32 {
    let (channel, index) = (Channel::new(channel).unwrap(), core.subs.len() as u32);
    let terms = Terms { missed: usize::MAX, first_page: PAGE_BYTES, payer: crate::quota::Payer::Nobody };
    let attached = core.hub.attach(&channel, From::Head, &core.handle, index, None, terms).await.unwrap();
    let (mut subscription, _) = Subscription::new(attached);
    subscription.set(crate::channel::Trait::Labelled, true);
    core.insert(index, subscription);
    index
}

/// A page in memory: one publication on the timeline of `head`, then two that begin another epoch.
fn page_over_two_epochs(hub: &Hub, head: Position) -> Page {
    let other = Epoch::parse("otherone0123456789ab").unwrap();
    let positions = [head.epoch, other, other].into_iter().zip(head.offset + 1..);
    let publications: Vec<_> =
        positions.map(|(epoch, offset)| (Position { epoch, offset }, Arc::new(Publication::default()))).collect();
    Page { publications, whole: false, grant: hub.pages.try_grant(1000) }
}

/// Writes a turn to a socket that takes so many bytes. Returns how many were offered.
fn write(core: &mut Core, room: usize) -> usize {
    let mut turn = Turn::default();
    core.gather(&mut turn);
    let offered = turn.bytes().len();
    core.wrote(&mut turn, offered.min(room), Instant::now());
    offered
}

#[tokio::test]
async fn a_subscription_that_waits_for_its_resubscription_holds_no_page() {
    // Whether the socket takes the publication before the change of epoch or gives it back.
    for room in [usize::MAX, 0] {
        let hub = hub(Limits::default());
        let mut core = core(&hub);
        let (first, second) = (subscribe(&mut core, "a").await, subscribe(&mut core, "b").await);
        let now = Instant::now();
        let sub = core.subs[first as usize].as_mut().unwrap();
        let head = sub.position.unwrap();
        sub.take_page(page_over_two_epochs(&hub, head), None, now);
        core.begin_catch_up(first, now);
        core.fall_behind(second);
        assert!(hub.metrics.page_bytes.get() > 0);

        assert!(write(&mut core, room) > 0);
        let sub = core.subs[first as usize].as_ref().unwrap();
        assert!(sub.paused() && sub.missed().is_none(), "{room}");
        assert_eq!(sub.position.unwrap().offset, head.offset + u64::from(room > 0));
        assert_eq!(hub.metrics.page_bytes.get(), 0, "{room}");
        // The other subscription of the session catches up at once.
        write(&mut core, usize::MAX);
        let deadline = Instant::now() + Duration::from_secs(20);
        while core.subs[second as usize].as_ref().unwrap().is_behind() {
            assert!(Instant::now() < deadline, "{room}");
            core.poll_catch_ups(Instant::now());
            tokio::task::yield_now().await;
        }
        assert!(core.subs[first as usize].as_ref().unwrap().paused());
    }
}

/// Memory for one page at a time, and a session with a subscription that is one publication behind.
async fn behind(write_stall: Duration) -> (Arc<Hub>, Core, u32) {
    behind_by(write_stall, |_| Publication { data: Payload::Json("1".into()), ..Publication::default() }).await
}

/// The same with a publication that is made for the session.
async fn behind_by(write_stall: Duration, publication: impl Fn(&Core) -> Publication) -> (Arc<Hub>, Core, u32) {
    let hub = hub(Limits { node_page_bytes: ByteSize::kib(64), write_stall, ..Limits::default() });
    let mut core = core(&hub);
    let index = subscribe(&mut core, "a").await;
    let channel = Channel::new("a").unwrap();
    let retention = hub.namespaces().of(&channel).unwrap().retention();
    let publication = Arc::new(publication(&core));
    hub.broker.publish(Publish { channel: &channel, publication, retention, idempotency: None }).await.unwrap();
    (hub, core, index)
}

/// Polls until the subscription holds the page with what it missed. All signals before that are taken.
async fn poll_until_it_holds_a_page(core: &mut Core, index: u32) {
    let began = Instant::now();
    while !core.subs[index as usize].as_ref().unwrap().holds_page() {
        assert!(began.elapsed() < Duration::from_secs(20));
        core.take();
        core.poll_catch_ups(Instant::now());
        tokio::task::yield_now().await;
    }
}

/// It could only come back to the end of the queue that it was in.
#[tokio::test]
async fn a_session_that_gets_no_memory_for_its_page_waits_for_it() {
    let stall = Duration::from_millis(50);
    let (hub, mut core, index) = behind(stall).await;
    let all = hub.pages.try_grant(60 * 1024).unwrap();
    core.fall_behind(index);
    let began = Instant::now();
    while began.elapsed() < 4 * stall {
        core.poll_catch_ups(Instant::now());
        tokio::task::yield_now().await;
    }
    assert_eq!(core.closing, None);
    assert!(core.subs[index as usize].as_ref().unwrap().is_behind());
    drop(all);
    poll_until_it_holds_a_page(&mut core, index).await;
}

/// Lets other tasks run until they wait.
async fn yield_often() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A read that gets its grant when its channel is not live any more.
async fn granted_too_late() -> (Arc<Hub>, Core, u32, crate::pages::Grant) {
    let (hub, mut core, index) = behind(Duration::from_secs(10)).await;
    let all = hub.pages.try_grant(60 * 1024).unwrap();
    core.fall_behind(index);
    core.poll_catch_ups(Instant::now());
    // The channel is live, so that the read waits for memory. Then it is not live any more.
    yield_often().await;
    let local = hub.find(&Channel::new("a").unwrap()).unwrap();
    let mut state = local.state();
    state.repairing = true;
    state.sequencer.as_mut().unwrap().suspect();
    drop(state);
    (hub, core, index, all)
}

fn repair(hub: &Arc<Hub>) {
    let local = hub.find(&Channel::new("a").unwrap()).unwrap();
    local.state().repairing = false;
    hub.repair(&local);
}

/// Others would wait for the memory of a page that cannot be read yet.
#[tokio::test]
async fn a_read_that_waits_for_its_channel_holds_no_memory_for_long() {
    let (hub, mut core, index, all) = granted_too_late().await;
    drop(all);
    let granted = Instant::now();
    let other = tokio::time::timeout(Duration::from_secs(20), hub.pages.grant(100)).await.unwrap();
    assert!(granted.elapsed() > PAGE_LIFE / 2, "{:?}", granted.elapsed());
    drop(other);
    assert_eq!(hub.metrics.page_bytes.get(), 0);
    core.poll_catch_ups(Instant::now());
    assert!(core.subs[index as usize].as_ref().unwrap().is_behind());
    repair(&hub);
    poll_until_it_holds_a_page(&mut core, index).await;
}

/// It would be queued again, behind all others, whenever somebody makes the channel verify its log.
#[tokio::test]
async fn a_read_that_waits_for_its_channel_is_not_queued_again() {
    let (hub, mut core, index, all) = granted_too_late().await;
    let mut other = Box::pin(hub.pages.grant(60 * 1024));
    assert!(other.as_mut().now_or_never().is_none());
    drop(all);
    yield_often().await;
    assert!(other.as_mut().now_or_never().is_none());
    repair(&hub);
    poll_until_it_holds_a_page(&mut core, index).await;
}

#[tokio::test]
async fn a_page_that_comes_when_the_socket_is_blocked_already_is_dropped_in_time() {
    let (hub, mut core, index) = behind(Duration::from_secs(10)).await;
    let all = hub.pages.try_grant(60 * 1024).unwrap();
    core.fall_behind(index);
    core.poll_catch_ups(Instant::now());
    // The read waits for memory, and meanwhile the socket takes no more.
    assert!(core.stuck(true, false, Instant::now()));
    drop(all);
    poll_until_it_holds_a_page(&mut core, index).await;
    assert!(core.take().tick, "nothing asks for the deadline of the page");
    let deadline = core.stall_deadline().unwrap();
    assert!(deadline <= Instant::now() + PAGE_LIFE);
    core.on_tick(deadline);
    assert_eq!((hub.metrics.page_bytes.get(), core.closing), (0, None));
    assert!(core.subs[index as usize].as_ref().unwrap().is_behind());
}

/// A second page would be read for a subscription that has caught up by then.
#[tokio::test]
async fn a_subscription_waits_to_catch_up_once() {
    let (_hub, mut core, index) = behind(Duration::from_secs(10)).await;
    core.fall_behind(index);
    core.fall_behind(index);
    assert_eq!(core.catch_ups.as_ref().unwrap().waiting, [index]);
}

#[tokio::test]
async fn a_page_of_which_everything_is_skipped_ends_like_one_that_was_written() {
    let (hub, mut core, index) = behind_by(Duration::from_secs(10), |core| {
        let exclude = Some(Box::new(core.client_id()));
        Publication { data: Payload::Json("1".into()), exclude, ..Publication::default() }
    })
    .await;
    let reached = core.position(index).unwrap();
    core.fall_behind(index);
    poll_until_it_holds_a_page(&mut core, index).await;
    assert!(hub.metrics.page_bytes.get() > 0);
    assert_eq!(write(&mut core, usize::MAX), 0);
    assert_eq!((core.position(index), core.is_behind()), (Some(reached.plus(1)), false));
    assert_eq!(hub.metrics.page_bytes.get(), 0);
}

/// Its task would be woken by itself, again and again.
#[tokio::test]
async fn a_blocked_session_that_waits_to_catch_up_does_not_wake_itself() {
    let (_hub, mut core, waiting) = behind(Duration::from_secs(10)).await;
    let live = subscribe(&mut core, "b").await;
    let sub = core.subs[live as usize].as_mut().unwrap();
    let next = sub.position.unwrap().plus(1);
    let publication = Arc::new(Publication { data: Payload::Json("1".into()), ..Publication::default() });
    sub.give_back(Arc::new(Entry::publication(publication, Some(next), false, Instant::now())));
    core.mark(live);
    core.fall_behind(waiting);
    for _ in 0..2 {
        core.take();
        assert!(write(&mut core, 0) > 0);
        assert!(core.blocked() && !core.take().tick);
    }
    core.take();
    write(&mut core, usize::MAX);
    assert!(!core.blocked() && core.take().tick);
}
