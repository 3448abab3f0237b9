//! One suite for every engine: what a channel promises does not depend on what carries it.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "conformance/promises.rs"]
mod promises;
mod support;

use std::sync::Arc;

use fanway_broker::MemoryBroker;
use fanway_testkit::redis::RedisServer;
use support::{Ears, Node};

async fn against_memory(promise: impl AsyncFnOnce(&MemoryBroker, &Ears)) {
    let ears = Arc::new(Ears::default());
    promise(&MemoryBroker::new(ears.clone()), &ears).await;
}

async fn against_redis(promise: impl AsyncFnOnce(&fanway_broker::RedisBroker, &Ears)) {
    let server = RedisServer::start().await;
    let node = Node::on(&server).await;
    promise(&node.broker, &node.ears).await;
}

/// Each promise against each engine, as a test of its own.
macro_rules! promises {
    ($($promise:ident),+ $(,)?) => {
        mod memory {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::against_memory(super::promises::$promise).await;
                }
            )+
        }

        mod redis {
            $(
                #[tokio::test]
                async fn $promise() {
                    super::against_redis(super::promises::$promise).await;
                }
            )+
        }
    };
}

promises! {
    subscribers_hear_in_order_of_the_offsets,
    only_subscribed_channels_are_heard,
    a_publication_arrives_and_is_kept_whole,
    reading_after_an_offset,
    creating_a_log,
    tops_of_many_logs,
    history_in_both_directions,
    pages_are_bounded_in_bytes,
    retention_by_count,
    entries_go_after_the_idle_time_and_the_position_stays,
    a_log_goes_with_its_meta_unless_it_is_refreshed,
    a_key_makes_a_repetition_harmless,
    a_key_is_forgotten_after_its_time,
    keys_work_without_history,
    channels_without_history_have_no_position,
    many_subscriptions_at_once,
    the_last_wish_wins,
    concurrent_publishes_get_one_place_each,
    announcements_come_back_in_order,
}
