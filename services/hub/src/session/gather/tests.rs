//! Entries that one session skips.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use fanway_broker::{Broker, Publish};
use fanway_protocol::{Channel, ChannelHash, Payload, Publication};
use uuid::Uuid;

use super::*;
use crate::Limits;
use crate::attach::{From, Terms};
use crate::handle::Handle;
use crate::hub::Hub;
use crate::pages::PAGE_BYTES;
use crate::session::subscription::Subscription;
use crate::session::{Output, Transport};
use crate::testing::hub;

/// A session that is subscribed to `news`.
async fn session(hub: &Arc<Hub>, output: Output) -> Core {
    let channel = Channel::new("news").unwrap();
    let now = Instant::now();
    let mut core = Core::new(hub.clone(), output, Handle::by_task(), now, now + Duration::from_secs(3600));
    let terms = Terms { missed: usize::MAX, first_page: PAGE_BYTES, payer: crate::quota::Payer::Nobody };
    let attached = hub.attach(&channel, From::Head, &core.handle, 0, None, terms).await.unwrap();
    core.insert(0, Subscription::new(attached).0);
    core
}

fn frames(hub: &Hub) -> Output {
    Output::new(Transport::WEB_SOCKET, hub.built_in.json_frames)
}

fn events(hub: &Hub) -> Output {
    let ids = Some(Box::from([ChannelHash::of(&Channel::new("news").unwrap())]));
    let own_bytes = OwnBytes::Event { ids, chunked: true };
    Output { own_bytes, ..Output::new(Transport::SSE, hub.built_in.event_lines) }
}

/// Publishes numbers, from 1 on, each without the client that is given for it, and waits until they are in the ring.
async fn publish(core: &Core, excluded: &[Option<Uuid>]) {
    let (hub, channel) = (&core.hub, Channel::new("news").unwrap());
    let retention = hub.namespaces().of(&channel).unwrap().retention();
    let local = core.subs[0].as_ref().unwrap().attachment.channel.clone();
    let end = local.head() + excluded.len() as u64;
    for (number, exclude) in (1..).zip(excluded) {
        let data = Payload::Json(format!("\"<{number}>\"").into());
        let publication = Publication { data, exclude: exclude.map(Box::new), ..Publication::default() };
        let publication = Arc::new(publication);
        hub.broker.publish(Publish { channel: &channel, publication, retention, idempotency: None }).await.unwrap();
    }
    let began = Instant::now();
    while local.head() < end {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
}

/// Writes a turn to a socket that takes so many bytes, and returns these.
fn write(core: &mut Core, room: usize, turn: &mut Turn) -> Vec<u8> {
    core.gather(turn);
    let taken = turn.bytes()[..turn.bytes().len().min(room)].to_vec();
    core.wrote(turn, taken.len(), Instant::now());
    taken
}

/// Numbers of the publications in bytes.
fn numbers(bytes: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(bytes);
    text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap().parse().unwrap()).collect()
}

/// In the middle of a turn, two at once, and at its end.
fn some_of(client: Uuid) -> [Option<Uuid>; 6] {
    [None, Some(client), Some(client), None, Some(Uuid::from_u128(1)), Some(client)]
}

#[tokio::test]
async fn wherever_the_socket_stops_the_others_are_written_once_and_in_order() {
    let hub = hub(Limits::default());
    for output in [frames(&hub), events(&hub)] {
        let mut core = session(&hub, output).await;
        let start = (core.subs[0].as_ref().unwrap().next, core.position(0));
        publish(&core, &some_of(core.client_id())).await;
        let mut turn = Turn::default();
        let all = write(&mut core, usize::MAX, &mut turn);
        assert_eq!(numbers(&all), [1, 4, 5]);
        let end = core.position(0);
        assert_eq!(end.unwrap().offset, start.1.unwrap().offset + 6, "beyond the last one, which is skipped");
        for room in 0..=all.len() {
            let sub = core.subs[0].as_mut().unwrap();
            (sub.next, sub.position) = start;
            core.mark(0);
            let mut taken = write(&mut core, room, &mut turn);
            while core.has_output() {
                taken.extend(write(&mut core, usize::MAX, &mut turn));
            }
            assert_eq!(String::from_utf8_lossy(&taken), String::from_utf8_lossy(&all), "stopped after {room} bytes");
            assert_eq!(core.position(0), end);
        }
    }
}

#[tokio::test]
async fn a_session_that_skips_leaves_the_shared_run_to_the_others() {
    let hub = hub(Limits::default());
    let (mut skips, mut other) = (session(&hub, frames(&hub)).await, session(&hub, frames(&hub)).await);
    publish(&skips, &some_of(skips.client_id())).await;
    let mut turn = Turn::default();
    turn.begin_slice();
    for _ in 0..2 {
        for (core, written) in [(&mut other, &[1, 2, 3, 4, 5, 6][..]), (&mut skips, &[1, 4, 5])] {
            let start = (core.subs[0].as_ref().unwrap().next, core.position(0));
            core.mark(0);
            assert_eq!(numbers(&write(core, usize::MAX, &mut turn)), written);
            // The run is one segment, and what is gathered alone is one for each entry.
            assert_eq!(turn.pieces.len(), if written.len() == 6 { 1 } else { 3 });
            let sub = core.subs[0].as_mut().unwrap();
            (sub.next, sub.position) = start;
        }
    }
    turn.end_slice(&hub);
}
