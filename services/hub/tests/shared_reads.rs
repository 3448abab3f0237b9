//! Clients that come back together to a node that has not heard what they missed: the log is read for all of them, not
//! for each.
#![allow(clippy::unwrap_used)]

mod support;

use fanway_hub::Inbox;

use support::{Socket, fast, hub_counting, publish};

const CLIENTS: u64 = 40;

#[tokio::test]
async fn one_read_serves_those_who_come_after_it_too() {
    let (hub, broker, registry) = hub_counting(100, fast(), Inbox::new());
    for n in 0..10 {
        publish(&broker, &hub, "a", n.to_string()).await;
    }
    // The channel comes to this node now: nothing of the past is in its ring.
    let mut first = Socket::new(&hub);
    first.say(r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    first.settle(|socket| socket.heard().len() == 2).await;
    let epoch = first.heard()[1]["subscribe"]["epoch"].as_str().unwrap().to_owned();

    let mut here = Vec::new();
    for n in 0..CLIENTS {
        // Some are further than others; nobody is further back than the first.
        let offset = 3 + n % 5;
        let mut socket = Socket::new(&hub);
        socket.say(&format!(
            r#"{{"id":2,"subscribe":{{"channel":"a","recover":true,"epoch":"{epoch}","offset":{offset}}}}}"#
        ));
        socket.settle(|socket| socket.heard().len() == 2).await;
        let reply = &socket.heard()[1]["subscribe"];
        assert_eq!(reply["recovered"], true, "{reply}");
        let missed: Vec<u64> =
            reply["publications"].as_array().unwrap().iter().map(|missed| missed["offset"].as_u64().unwrap()).collect();
        assert_eq!(missed, (offset + 1..=10 + n / 10).collect::<Vec<_>>(), "client {n}");
        here.push(socket);
        // What is published meanwhile is joined to what was read before.
        if n % 10 == 9 {
            publish(&broker, &hub, "a", "\"new\"".to_owned()).await;
            first.settle(|socket| socket.heard().len() as u64 == 3 + n / 10).await;
        }
    }
    let families = registry.gather();
    let counter = families.iter().find(|family| family.name() == "fanway_resume_reads_total").unwrap();
    let reads = counter.get_metric()[0].get_counter().get_value();
    // One, but for the moments at which what was read is forgotten.
    assert!((1.0..CLIENTS as f64 / 2.0).contains(&reads), "{reads} reads");
}
