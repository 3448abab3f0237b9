//! Subscriptions: positions, recovery, errors, publications and forced resubscriptions.

use fanway_testkit::redis::RedisServer;
use fanway_testkit::token::Claims;

use super::connected;
use crate::scene::Scene;
use crate::{fleet, node};

#[tokio::test(flavor = "multi_thread")]
async fn subscribe() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            # with history
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            > {"id":3,"subscribe":{"channel":"other","positioned":true,"recoverable":true,"flag":1}}
            <
            api publish {"channel":"news","data":{"text":"one"}}
            <
            api publish {"channel":"news","data":[1,2.50,null,"\u00e9 é"],"tags":{"b":"2","a":"1"}}
            <
            # not kept, and without a position
            api publish {"channel":"news","data":"now","skip_history":true}
            <
            # by another client
            socket b
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"publish":{"channel":"news","data":{"x": 1}}}
            <
            on a
            <
            # without history
            > {"id":5,"subscribe":{"channel":"plain:a"}}
            <
            publish plain:a 1
            <
            on b
            > {"id":3,"publish":{"channel":"plain:a","data":2}}
            <
            on a
            <
            > {"id":7,"unsubscribe":{"channel":"news"}}
            <
            publish news "unsubscribed"
            > {"id":8,"unsubscribe":{"channel":"news"}}
            <
            publish plain:a 3
            <
            "#,
        ))
        .await;
    scene.compare("client_subscribe");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribe_errors() {
    let node = node().set("client.channel_limit", 2).start().await;
    let grants = Claims::user("alice").cap(&["closed:mine"], "exact", &["sub"]);
    let mut scene = Scene::new(&node).token("grants", &grants);
    scene
        .play(
            r#"
            socket a
            > {"id":1,"connect":{"token":"<grants>"}}
            <
            > {"id":2,"subscribe":{"channel":"unknown:a"}}
            <
            > {"id":3,"subscribe":{"channel":"closed:a"}}
            <
            > {"id":4,"subscribe":{"channel":"not a name"}}
            <
            > {"id":5,"subscribe":{}}
            <
            > {"id":6,"subscribe":{"channel":"news","tf":{"key":"a"}}}
            <
            > {"id":7,"subscribe":{"channel":"news","type":1}}
            <
            > {"id":8,"subscribe":{"channel":"news","join_leave":true}}
            <
            > {"id":9,"subscribe":{"channel":"news","token":"t"}}
            <
            > {"id":10,"subscribe":{"channel":"closed:mine"}}
            <
            > {"id":11,"subscribe":{"channel":"closed:mine"}}
            <
            > {"id":12,"subscribe":{"channel":"news"}}
            <
            > {"id":13,"subscribe":{"channel":"third"}}
            <
            > {"id":14,"unsubscribe":{"channel":"unknown:a"}}
            <
            "#,
        )
        .await;
    scene.compare("client_subscribe_errors");
}

#[tokio::test(flavor = "multi_thread")]
async fn recover() {
    let node = node().set("client.recovery_limit", 3).start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            api publish {"channel":"news","data":1,"tags":{"a":"1"}}
            > {"id":2,"publish":{"channel":"news","data":2}}
            <
            publish news 3
            publish short:a 1
            publish short:a 2
            publish short:a 3
            > {"id":3,"subscribe":{"channel":"news","recover":true,"epoch":"<epoch-1>","offset":1}}
            <
            publish news 4
            <
            > {"id":4,"unsubscribe":{"channel":"news"}}
            <
            # nothing was missed
            > {"id":5,"subscribe":{"channel":"news","recover":true,"epoch":"<epoch-1>","offset":4}}
            <
            > {"id":6,"unsubscribe":{"channel":"news"}}
            <
            # more than a resume may carry
            > {"id":7,"subscribe":{"channel":"news","recover":true,"epoch":"<epoch-1>","offset":0}}
            <
            > {"id":8,"unsubscribe":{"channel":"news"}}
            <
            # the same, as an error
            > {"id":9,"subscribe":{"channel":"news","recover":true,"epoch":"<epoch-1>","offset":0,"flag":2}}
            <
            > {"id":10,"subscribe":{"channel":"news","recover":true,"epoch":"aaaaaaaaaaaaaaaaaaaa","offset":4}}
            <
            # beyond retention
            > {"id":11,"subscribe":{"channel":"short:a","recover":true,"epoch":"","offset":0}}
            <
            # without history
            > {"id":12,"subscribe":{"channel":"plain:a","recover":true,"epoch":"<epoch-1>","offset":1}}
            <
            # an empty epoch, while the log has everything
            publish whole "first"
            > {"id":13,"subscribe":{"channel":"whole","recover":true,"epoch":"","offset":0}}
            <
            "#,
        ))
        .await;
    scene.compare("client_recover");
}

/// A lost log and a change of the leader term: clients whose subscriptions are positioned subscribe anew, others receive
/// the epoch with its first publication, and a subscription by the server ends its connection.
#[tokio::test(flavor = "multi_thread")]
async fn forced_resubscription() {
    let redis = RedisServer::start().await;
    let node = fleet(&redis).namespace("kept", "recovery", false).namespace("kept", "history_size", 10);
    let node = node.namespace("kept", "history_ttl", "5m").namespace("kept", "subscribe", "authenticated");
    let node = node.start().await;
    let mut scene = Scene::new(&node).token("subscribed", &Claims::user("alice").channels(&["mine"]));
    scene
        .play(&connected(
            r#"
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            publish news 1
            <
            publish news 2
            <
            # not positioned
            > {"id":3,"subscribe":{"channel":"kept:a"}}
            <
            publish kept:a 1
            <
            socket b
            > {"id":1,"connect":{"token":"<subscribed>"}}
            <
            publish mine 1
            <
            # another leader term
            "#,
        ))
        .await;
    redis.command("DEBUG CHANGE-REPL-ID").await;
    scene
        .play(
            r#"
            on a
            publish news 3
            <
            > {"id":4,"subscribe":{"channel":"news","recover":true,"epoch":"<epoch-1>","offset":2}}
            <
            publish kept:a 2
            <
            publish kept:a 3
            <
            on b
            publish mine 2
            <
            end
            # a lost log
            "#,
        )
        .await;
    redis.command("FLUSHALL").await;
    scene
        .play(
            r#"
            on a
            publish news 4
            <
            > {"id":5,"subscribe":{"channel":"news","recover":true,"epoch":"<epoch-3>","offset":3}}
            <
            "#,
        )
        .await;
    scene.compare("client_forced_resubscription");
}
