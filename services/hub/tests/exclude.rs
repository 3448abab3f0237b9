//! A publication that excludes one client: live, in the reply to its next subscribe, and for whoever comes back.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use uuid::Uuid;

use support::{Socket, fast, hub, publish, publish_excluding};

/// What was published, of a list of publications.
fn data(publications: &Value) -> Vec<&Value> {
    publications.as_array().into_iter().flatten().map(|publication| &publication["data"]).collect()
}

/// What was pushed to a client.
fn pushed(socket: &Socket) -> Vec<Value> {
    let pushes = socket.heard().into_iter().map(|mut value| value["push"]["pub"]["data"].take());
    pushes.filter(|data| !data.is_null()).collect()
}

async fn connected(hub: &std::sync::Arc<fanway_hub::Hub>) -> (Socket, Uuid) {
    let mut socket = Socket::silent(hub);
    let reply = socket.ask(1, r#""connect":{}"#).await;
    (socket, reply["connect"]["client"].as_str().unwrap().parse().unwrap())
}

#[tokio::test]
async fn the_excluded_client_is_not_sent_it_as_long_as_its_connection_lives() {
    let (hub, broker) = hub(10, fast());
    let (mut excluded, client) = connected(&hub).await;
    let (mut other, _) = connected(&hub).await;
    let reply = excluded.ask(2, r#""subscribe":{"channel":"news"}"#).await;
    other.ask(2, r#""subscribe":{"channel":"news"}"#).await;
    publish_excluding(Some(client), &broker, &hub, "news", "1".to_owned()).await;
    publish(&broker, &hub, "news", "2".to_owned()).await;
    publish_excluding(Some(client), &broker, &hub, "news", "3".to_owned()).await;
    other.settle(|socket| pushed(socket) == [1, 2, 3]).await;
    excluded.settle(|socket| pushed(socket) == [2]).await;

    // The same connection: it subscribes anew, at its old position.
    let epoch = reply["subscribe"]["epoch"].as_str().unwrap();
    let again = format!(r#""subscribe":{{"channel":"news","recover":true,"epoch":"{epoch}","offset":0}}"#);
    excluded.ask(3, r#""unsubscribe":{"channel":"news"}"#).await;
    let reply = excluded.ask(4, &again).await;
    assert_eq!(
        (&reply["subscribe"]["recovered"], data(&reply["subscribe"]["publications"])),
        (&json!(true), vec![&json!(2)])
    );
    // The history is whole, for the excluded client too.
    let reply = excluded.ask(5, r#""history":{"channel":"news","limit":10}"#).await;
    assert_eq!(data(&reply["history"]["publications"]), [1, 2, 3]);
    publish(&broker, &hub, "news", "4".to_owned()).await;
    excluded.settle(|socket| pushed(socket) == [2, 4]).await;

    // Another connection of the same user has another id.
    let (mut back, _) = connected(&hub).await;
    let reply = back.ask(2, &again).await;
    assert_eq!(data(&reply["subscribe"]["publications"]), [1, 2, 3, 4]);
}
