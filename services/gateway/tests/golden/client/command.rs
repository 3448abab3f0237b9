//! The other commands, and several in one frame.

use fanway_testkit::token::Claims;

use super::connected;
use crate::node;
use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn publish_and_history() {
    let node = node().set("client.history_limit", 2).start().await;
    let subscriber = Claims::user("alice").cap(&["closed:a"], "exact", &["sub"]).set("info", "x");
    let mut scene = Scene::new(&node).token("subscriber", &subscriber);
    scene
        .play(
            r#"
            socket a
            > {"id":1,"connect":{"token":"<subscriber>"}}
            <
            > {"id":2,"publish":{"channel":"news","data":{"n":1}}}
            <
            > {"id":3,"publish":{"channel":"closed:a","data":1}}
            <
            > {"id":4,"publish":{"channel":"unknown:a","data":1}}
            <
            > {"id":5,"publish":{"channel":"news"}}
            <
            > {"id":6,"publish":{"channel":"news","data":1,"key":"k"}}
            <
            api publish {"channel":"news","data":2,"tags":{"a":"1"}}
            publish news 3
            # the position alone
            > {"id":10,"history":{"channel":"news"}}
            <
            > {"id":11,"history":{"channel":"news","limit":-1}}
            <
            > {"id":12,"history":{"channel":"news","limit":1,"reverse":true}}
            <
            > {"id":13,"history":{"channel":"news","limit":2,"since":{"offset":1,"epoch":"<epoch-1>"}}}
            <
            > {"id":14,"history":{"channel":"news","limit":2,"since":{"offset":1,"epoch":"aaaaaaaaaaaaaaaaaaaa"}}}
            <
            > {"id":15,"history":{"channel":"plain:a","limit":1}}
            <
            > {"id":16,"history":{"channel":"closed:a","limit":1}}
            <
            > {"id":17,"history":{"channel":"unknown:a","limit":1}}
            <
            > {"id":18,"history":{"channel":"unused","limit":1}}
            <
            "#,
        )
        .await;
    scene.compare("client_publish_and_history");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_commands() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            > {"id":2,"ping":{}}
            <
            > {"id":3,"presence":{"channel":"news"}}
            <
            > {"id":4,"presence_stats":{"channel":"news"}}
            <
            > {"id":5,"rpc":{"method":"m","data":1}}
            <
            > {"id":6,"sub_refresh":{"channel":"news","token":"t"}}
            <
            > {"id":7}
            <
            > {"id":8,"future":{}}
            <
            # several in one frame, answered in their order
            > {"id":9,"subscribe":{"channel":"news"}}⏎{"id":10,"ping":{}}⏎{"id":11,"unsubscribe":{"channel":"news"}}
            <
            <
            <
            > {"id":12,"ping":{}}⏎
            <
            "#,
        ))
        .await;
    scene.compare("client_other_commands");
}

/// The server's pings, their answers, and the end of a client that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn pings() {
    let node = node().set("client.ping_interval", "1s").set("client.pong_timeout", "900ms").start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(&connected(
            r#"
            <
            > {}
            <
            # without an answer
            <
            end
            "#,
        ))
        .await;
    scene.compare("client_pings");
}
