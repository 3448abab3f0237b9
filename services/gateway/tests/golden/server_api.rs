//! The server API: each method's results and errors.

use fanway_testkit::node::Setting;
use fanway_testkit::redis::RedisServer;
use fanway_testkit::{http, wait};

use crate::scene::Scene;
use crate::{fleet, node};

/// Plays a request of the API per line: a path, then a body.
async fn play(scene: &mut Scene<'_>, requests: &str) {
    for line in requests.trim().lines().map(str::trim) {
        match line.split_once(' ') {
            Some((path, body)) if path.starts_with('/') => {
                scene.play(&format!("POST {path} HTTP/1.1 | X-API-Key: <key> || {body}")).await;
            }
            _ => scene.play(line).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn publish() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene.play(r#"POST /api/publish HTTP/1.1 | X-API-Key: <key> | Content-Type: application/json || {"channel":"news","data":1}"#).await;
    scene
        .play(
            r#"
            api publish {"channel":"plain:a","data":{"a":1},"tags":{"a":"1"}}
            api publish {"channel":"news","data":2,"skip_history":true}
            api publish {"channel":"news","b64data":"eyJhIjoxfQ=="}
            api publish {"channel":"news","data":3,"idempotency_key":"k"}
            # the stored result
            api publish {"channel":"news","data":3,"idempotency_key":"k"}
            # the same key with another body
            api publish {"channel":"news","data":4,"idempotency_key":"k"}
            api publish {"channel":"plain:a","data":3,"idempotency_key":"k"}
            api publish {"channel":"plain:a","data":3,"idempotency_key":"k"}
            api publish {"channel":"news","data":3,"idempotency_key":""}
            api publish {}
            api publish {"channel":"news"}
            api publish {"channel":"news","data":null}
            api publish {"channel":"news","data":1,"b64data":"MQ=="}
            api publish {"channel":"news","b64data":"%"}
            api publish {"channel":"news","b64data":"/w=="}
            api publish {"channel":"a b","data":1}
            api publish {"channel":"unknown:a","data":1}
            api publish {"channel":"news","data":1,"tags":{"":"1"}}
            api publish {"channel":"news","data":1,"tags":{"a":"1","a":"2"}}
            api publish {"channel":"news","data":1,"exclude":"0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff"}
            api publish {"channel":"news","data":1,"exclude":"me"}
            api publish {"channel":"news","data":1,"version":1}
            api publish {"channel":1,"data":1}
            api publish {"channel":"news","channel":"news","data":1}
            api publish [1]
            api publish {"channel":"news","data":1
            "#,
        )
        .await;
    scene.compare("api_publish");
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcast() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            api broadcast {"channels":["news","plain:a","unknown:a","a b","news"],"data":{"a":1},"tags":{"a":"1"}}
            api broadcast {"channels":["news"],"data":1,"skip_history":true}
            api broadcast {"channels":["news","other"],"data":1,"idempotency_key":"k"}
            api broadcast {"channels":["news","third"],"data":1,"idempotency_key":"k"}
            api broadcast {"channels":[],"data":1}
            api broadcast {"channels":["news"]}
            api broadcast {"channel":"news","data":1}
            "#,
        )
        .await;
    let channels: Vec<_> = (0..1001).map(|n| format!("\"c{n}\"")).collect();
    let too_many = format!(r#"{{"channels":[{}],"data":1}}"#, channels.join(","));
    let response = node.api("broadcast", serde_json::from_str(&too_many).unwrap()).await;
    scene.record(&format!("api broadcast to 1001 channels\n= {} {}", response.status.as_u16(), response.text()));
    scene.compare("api_broadcast");
}

#[tokio::test(flavor = "multi_thread")]
async fn history() {
    let node = node().set("api.history_limit", 2).start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            api publish {"channel":"news","data":1,"tags":{"a":"1"}}
            publish news 2
            socket a
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"publish":{"channel":"news","data":3}}
            <
            api history {"channel":"news"}
            api history {"channel":"news","limit":-1}
            api history {"channel":"news","limit":1,"reverse":true}
            api history {"channel":"news","limit":2,"since":{"offset":1,"epoch":"<epoch-1>"}}
            api history {"channel":"news","limit":2,"since":{"offset":3,"epoch":"<epoch-1>"},"reverse":true}
            api history {"channel":"news","since":{"offset":4,"epoch":"<epoch-1>"}}
            api history {"channel":"news","since":{"offset":1,"epoch":"x"}}
            api history {"channel":"unused","limit":1}
            api history {"channel":"plain:a"}
            api history {"channel":"unknown:a"}
            api history {}
            api history {"channel":"news","limit":"1"}
            "#,
        )
        .await;
    scene.compare("api_history");
}

#[tokio::test(flavor = "multi_thread")]
async fn info_and_commands() {
    let node = node().start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            socket a
            > {"id":1,"connect":{"token":"<alice>"}}
            <
            > {"id":2,"subscribe":{"channel":"news"}}
            <
            api info {}
            api info []
            "#,
        )
        .await;
    play(
        &mut scene,
        r#"
        # one command, answered as at its own path
        /api {"method":"publish","params":{"channel":"other","data":1}}
        /api {"method":"publish","params":{"channel":"unknown:a","data":1}}
        /api {"method":"unknown"}
        /api {"method":"info"}
        # several
        /api {"method":"publish","params":{"channel":"other","data":2}}⏎{"method":"publish","params":{}}⏎{"method":"unknown"}⏎{"method":"history","params":{"channel":"other","limit":1}}⏎{"method":"broadcast","params":{"channels":["other"],"data":1}}
        # malformed: nothing is done
        /api {"method":"publish","params":{"channel":"other","data":2}}⏎{
        /api {}
        /api []
        "#,
    )
    .await;
    scene.compare("api_info_and_commands");
}

/// Requests that are refused before a method is called.
#[tokio::test(flavor = "multi_thread")]
async fn refusals() {
    let keys = format!(
        r#"[{{ id = "testkit", key = "{}" }}, {{ id = "reader", key = "a-key-that-may-only-read-of-32-bytes", scopes = ["read"] }}]"#,
        fanway_testkit::node::API_KEY
    );
    let node = node().set("api.keys", Setting::toml(&keys)).set("api.publish_body_limit", "1 KiB").start().await;
    let mut scene = Scene::new(&node);
    scene
        .play(
            r#"
            POST /api/publish HTTP/1.1 || {"channel":"news","data":1}
            POST /api/publish HTTP/1.1 | X-API-Key: wrong || {"channel":"news","data":1}
            POST /api/publish HTTP/1.1 | Authorization: apikey <key> || {"channel":"news","data":1}
            POST /api/publish?api_key=<key> HTTP/1.1 || {"channel":"news","data":1}
            POST /api/publish HTTP/1.1 | X-API-Key: a-key-that-may-only-read-of-32-bytes || {"channel":"news","data":1}
            POST /api HTTP/1.1 | X-API-Key: a-key-that-may-only-read-of-32-bytes || {"method":"publish","params":{"channel":"news","data":1}}
            POST /api/history HTTP/1.1 | X-API-Key: a-key-that-may-only-read-of-32-bytes || {"channel":"news"}
            POST /api/publish HTTP/1.1 | X-API-Key: <key> | Content-Type: text/plain || {"channel":"news","data":1}
            POST /api/publish HTTP/1.1 | X-API-Key: <key> | Content-Encoding: gzip || {"channel":"news","data":1}
            POST /api/publish HTTP/1.1 | X-API-Key: <key> || {"channel":"news","data":"<x*1100>"}
            POST /api/publish HTTP/1.1 | X-API-Key: <key> | Content-Length: 0
            POST /api/publish HTTP/1.1 | X-API-Key: <key> | Idempotency-Key: k || {"channel":"news","data":1,"idempotency_key":"other"}
            # application errors as statuses
            POST /api/publish HTTP/1.1 | X-API-Key: <key> | X-Centrifugo-Error-Mode: transport || {"channel":"unknown:a","data":1}
            POST /api/publish HTTP/1.1 | X-API-Key: <key> | X-Centrifugo-Error-Mode: transport || {"channel":"news"}
            POST /api/history HTTP/1.1 | X-API-Key: <key> | X-Centrifugo-Error-Mode: transport || {"channel":"plain:a"}
            POST /api/history HTTP/1.1 | X-API-Key: <key> | X-Centrifugo-Error-Mode: transport || {"channel":"news","since":{"offset":1,"epoch":"x"}}
            GET /api/publish HTTP/1.1 | X-API-Key: <key>
            POST /api/unknown HTTP/1.1 | X-API-Key: <key> || {}
            GET /unknown HTTP/1.1
            "#,
        )
        .await;
    scene.compare("api_refusals");
}

#[tokio::test(flavor = "multi_thread")]
async fn broker_failures() {
    let mut redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let requests = r#"
        POST /api/publish HTTP/1.1 | X-API-Key: <key> || {"channel":"news","data":1}
        POST /api/broadcast HTTP/1.1 | X-API-Key: <key> || {"channels":["news","plain:a"],"data":1}
        POST /api/history HTTP/1.1 | X-API-Key: <key> || {"channel":"news","limit":1}
    "#;
    let mut scene = Scene::new(&node);
    scene.play("# too few replicas").await;
    redis.command("CONFIG SET min-replicas-to-write 1").await;
    scene.play(requests).await;
    scene.play("# Redis is gone").await;
    redis.stop().await;
    wait::until_async("the outage is noticed", || async {
        (http::get(node.url("/health/broker"), &[]).await.status == 503).then_some(())
    })
    .await;
    scene.play(requests).await;
    scene.compare("api_broker_failures");
}
