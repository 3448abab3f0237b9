//! Channels that were never used, and clients that name no epoch.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use fanway_hub::Hub;
use serde_json::{Value, json};

use support::{Socket, fast, hub, publish};

async fn history(hub: &Arc<Hub>, request: Value) -> Value {
    Socket::new(hub).ask(2, &format!(r#""history":{request}"#)).await
}

async fn resume(hub: &Arc<Hub>, channel: &str, epoch: &str, offset: u64) -> Value {
    let request = json!({"channel": channel, "recover": true, "epoch": epoch, "offset": offset});
    Socket::new(hub).ask(2, &format!(r#""subscribe":{request}"#)).await["subscribe"].clone()
}

fn offsets(reply: &Value) -> Vec<u64> {
    let publications = reply["publications"].as_array().into_iter().flatten();
    publications.map(|publication| publication["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn the_history_of_a_channel_that_was_never_used_is_a_position_to_start_from() {
    let (hub, broker) = hub(10, fast());
    let before = history(&hub, json!({"channel": "new"})).await["history"].clone();
    assert_eq!((before["offset"].as_u64(), &before["publications"]), (Some(0), &json!([])));
    let epoch = before["epoch"].as_str().unwrap();
    assert_eq!(epoch.len(), 20, "an epoch: {epoch:?}");
    for n in 1..=2 {
        publish(&broker, &hub, "new", n.to_string()).await;
    }
    let reply = resume(&hub, "new", epoch, 0).await;
    assert_eq!((&reply["recovered"], offsets(&reply)), (&json!(true), vec![1, 2]));
    assert_eq!(reply["epoch"], epoch);
}

#[tokio::test]
async fn the_beginning_without_an_epoch_is_where_sdks_read_from() {
    let (hub, broker) = hub(10, fast());
    for n in 1..=2 {
        publish(&broker, &hub, "a", n.to_string()).await;
    }
    for since in [json!({"offset": 0, "epoch": ""}), json!({"offset": 0}), json!(null)] {
        let page = history(&hub, json!({"channel": "a", "limit": -1, "since": since})).await;
        assert_eq!(offsets(&page["history"]), [1, 2], "{since}: {page}");
    }
    let page = history(&hub, json!({"channel": "a", "limit": -1, "since": {"offset": 1, "epoch": ""}})).await;
    assert_eq!(page["error"]["code"], 112);
}

/// From the log, where the node has not seen the channel before, and from the ring.
#[tokio::test]
async fn an_empty_epoch_recovers_at_offset_0_while_everything_is_there() {
    let (hub, broker) = hub(3, fast());
    for n in 1..=2 {
        publish(&broker, &hub, "a", n.to_string()).await;
    }
    for _ in ["log", "ring"] {
        let reply = resume(&hub, "a", "", 0).await;
        assert_eq!((&reply["recovered"], offsets(&reply)), (&json!(true), vec![1, 2]), "{reply}");
        assert_eq!((reply["epoch"].as_str().unwrap().len(), reply["offset"].as_u64()), (20, None), "{reply}");
        for offset in [1, 2, 3] {
            let reply = resume(&hub, "a", "", offset).await;
            assert_eq!((&reply["recovered"], offsets(&reply)), (&Value::Null, vec![]), "{offset}: {reply}");
        }
    }
    // A channel of which this node knows all.
    let mut socket = Socket::new(&hub);
    socket.ask(2, r#""subscribe":{"channel":"b"}"#).await;
    assert_eq!(resume(&hub, "b", "", 0).await["recovered"], true, "nothing was ever published");
    for n in 1..=3 {
        publish(&broker, &hub, "b", n.to_string()).await;
    }
    socket.settle(|socket| socket.heard().len() == 2 + 3).await;
    let reply = resume(&hub, "b", "", 0).await;
    assert_eq!((&reply["recovered"], offsets(&reply)), (&json!(true), vec![1, 2, 3]), "{reply}");
    // The first one is gone.
    publish(&broker, &hub, "b", "4".to_owned()).await;
    socket.settle(|socket| socket.heard().len() == 2 + 4).await;
    let reply = resume(&hub, "b", "", 0).await;
    assert_eq!((&reply["recovered"], offsets(&reply)), (&Value::Null, vec![]), "{reply}");
}
