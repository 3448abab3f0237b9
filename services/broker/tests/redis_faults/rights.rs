//! Rights that are taken away between two publishes and given back: a refused publish changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use fanway_broker::{Broker, BrokerError, Outcome, PageLimit, Publish, Published, Retention};
use fanway_protocol::{Channel, Position};
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::until_async;

use crate::access::{RULE, as_fanway};
use crate::support::{KEEP, Node, channel, publish_all, request, with_key};

/// Three entries, so that a fourth displaces the first.
const THREE: Retention = Retention { count: 3, ..KEEP };
const RESULT_LIFE: Duration = Duration::from_secs(60);
/// Commands of the publish script that an ACL can refuse, `PUBLISH` apart, whose refusal undoes nothing.
const COMMANDS: [&str; 8] = ["get", "set", "del", "hset", "hdel", "hexists", "hlen", "pexpire"];

/// A log as Redis has it.
#[derive(Debug, PartialEq)]
struct Stored {
    meta: Option<String>,
    entries: BTreeMap<u64, Vec<u8>>,
}

async fn stored(server: &RedisServer, channel: &Channel) -> Stored {
    let (meta, entries) = redis::pipe()
        .cmd("GET")
        .arg(format!("fw:fanway:m:{{{channel}}}"))
        .cmd("HGETALL")
        .arg(format!("fw:fanway:h:{{{channel}}}"))
        .query_async(&mut server.admin().await)
        .await
        .unwrap();
    Stored { meta, entries }
}

/// State of a log before the refused publish.
#[derive(Clone, Copy, Debug)]
enum Log {
    /// Never used.
    None,
    /// Room for more entries.
    Short,
    /// As many entries as are kept.
    Full,
    /// Its entries expired.
    Expired,
}

const LOGS: [(Log, u64); 4] = [(Log::None, 0), (Log::Short, 2), (Log::Full, 5), (Log::Expired, 2)];

async fn prepare(server: &RedisServer, node: &Node, channel: &Channel, log: Log, top: u64) {
    for number in 1..=top {
        node.publish(request(channel, usize::try_from(number).unwrap(), THREE)).await.unwrap();
    }
    if matches!(log, Log::Expired) {
        server.command(&format!("DEL fw:fanway:h:{{{channel}}}")).await;
    }
}

/// Publishes as soon as the connection's rights were found to be complete again.
async fn publish_when_possible<'a>(node: &Node, publish: impl Fn() -> Publish<'a>) -> Published {
    until_async("a publish that is done", || async {
        match node.publish(publish()).await {
            Ok(published) => Some(published),
            Err(BrokerError::Unavailable(_)) => None,
            Err(error) => panic!("{error:?}"),
        }
    })
    .await
}

#[tokio::test]
async fn a_refused_publish_leaves_the_log_as_it_was() {
    let server = RedisOptions::default().user(RULE).start().await;
    let node = Node::start(as_fanway(&server)).await;
    let mut refusals = 0;
    for command in COMMANDS {
        for (log, top) in LOGS {
            for keyed in [false, true] {
                let case = format!("{command}-{log:?}-{keyed}");
                let news = channel(&case);
                prepare(&server, &node, &news, log, top).await;
                let before = stored(&server, &news).await;
                let epoch = before.meta.as_ref().map(|meta| meta.split(':').nth(1).unwrap().to_owned());
                let publish =
                    || if keyed { with_key(&news, &case, 9, THREE, RESULT_LIFE) } else { request(&news, 9, THREE) };

                server.command(&format!("ACL SETUSER fanway -{command}")).await;
                let outcome = node.publish(publish()).await;
                let after = stored(&server, &news).await;
                server.command(&format!("ACL SETUSER fanway +{command}")).await;
                let Err(error) = outcome else { continue };
                refusals += 1;
                assert_eq!(error.outcome(), Outcome::NotDone, "{case}: {error:?}");
                let displaced = top.saturating_sub(2);
                let kept = |log: &Stored| {
                    log.entries.range(displaced + 1..).map(|(at, body)| (*at, body.clone())).collect::<Vec<_>>()
                };
                assert_eq!((kept(&after), &after.meta), (kept(&before), &before.meta), "{case}: nothing was done");

                // Done now, and once, as if it had not been tried before.
                let done = publish_when_possible(&node, publish).await;
                let position = done.position.unwrap();
                assert!(!done.duplicate && position.offset == top + 1, "{case}: {done:?}");
                assert!(epoch.is_none_or(|epoch| position.epoch.to_string() == epoch), "{case}: {done:?}");
                let view = node.read(&news, Some(displaced), PageLimit::entries(10)).await.unwrap().unwrap();
                assert_eq!(view.top, position, "{case}");
                if !matches!(log, Log::Expired) {
                    assert!(view.kept(displaced), "{case}: {view:?}");
                }
                let life: i64 = redis::cmd("PTTL")
                    .arg(format!("fw:fanway:h:{{{news}}}"))
                    .query_async(&mut server.admin().await)
                    .await
                    .unwrap();
                assert!(life > 0, "{case}: entries without a lifetime");
            }
        }
    }
    assert!(refusals > 30, "{refusals} refusals");
}

/// Positions of a log that a write was broken off in, two rights being away at once: those before it go on.
#[tokio::test]
async fn an_entry_beyond_the_top_is_replaced() {
    let server = RedisOptions::default().user(RULE).start().await;
    let node = Node::start(as_fanway(&server)).await;
    for top in [2, 3, 6] {
        let news = channel(&format!("news-{top}"));
        prepare(&server, &node, &news, Log::Short, top).await;
        let oldest = top.saturating_sub(3);
        let old = node.read(&news, Some(top), PageLimit::entries(10)).await.unwrap().unwrap().top;
        server.command(&format!("HSET fw:fanway:h:{{{news}}} {} stray", top + 1)).await;
        let view = node.read(&news, Some(oldest), PageLimit::entries(10)).await.unwrap().unwrap();
        let offsets: Vec<_> = view.entries.iter().map(|(offset, _)| *offset).collect();
        assert_eq!(offsets, (oldest + 1..=top).collect::<Vec<_>>(), "read beside the stray entry");
        assert!(view.kept(oldest) && (oldest == 0 || !view.kept(oldest - 1)), "{view:?}");

        let new = node.publish(request(&news, 7, THREE)).await.unwrap().position.unwrap();
        assert!(new.offset == top + 1 && new.epoch != old.epoch, "{new:?}");
        let view = node.read(&news, Some(top), PageLimit::entries(10)).await.unwrap().unwrap();
        assert!(view.on_the_line(old) && view.kept(top) && view.entries.len() == 1, "{view:?}");
        // Whoever saw the stray entry as a publication learns that it is gone.
        assert!(!view.on_the_line(Position { epoch: old.epoch, offset: top + 1 }));
        publish_all(&node.broker, &news, 8..=9).await;
    }
}

/// More than one entry beyond the top is of another time than the meta.
#[tokio::test]
async fn entries_beyond_the_top_begin_a_new_log() {
    let server = RedisOptions::default().user(RULE).start().await;
    let (node, news) = (Node::start(as_fanway(&server)).await, channel("news"));
    publish_all(&node.broker, &news, 1..=2).await;
    let old = node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top;
    server.command("HSET fw:fanway:h:{news} 3 stray 4 stray").await;
    let new = node.publish(request(&news, 3, KEEP)).await.unwrap().position.unwrap();
    assert!(new.offset == 1 && new.epoch != old.epoch, "{new:?}");
}

/// A publication of a channel without history that was refused is not taken for one that was done.
#[tokio::test]
async fn a_refused_announcement_is_forgotten() {
    let server = RedisOptions::default().user(RULE).start().await;
    let (node, news) = (Node::start(as_fanway(&server)).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    server.command("ACL SETUSER fanway -publish -del").await;
    let publish = || with_key(&news, "once", 1, Retention::NONE, RESULT_LIFE);
    let refused = node.publish(publish()).await.unwrap_err();
    assert_eq!(refused.outcome(), Outcome::NotDone, "{refused:?}");
    server.command("ACL SETUSER fanway +publish +del").await;
    assert!(!publish_when_possible(&node, publish).await.duplicate);
    node.ears.hear(&news, 1).await;
}
