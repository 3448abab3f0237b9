//! The server API as server libraries use it, against the real binary.

use fanway_testkit::http::{Response, request};
use fanway_testkit::node::{API_KEY, Node};
use fanway_testkit::redis::RedisServer;
use http::Method;
use serde_json::{Value, json};

use super::{PATIENCE, fleet, node};

const COMMAND: &str = r#"{"method":"publish","params":{"channel":"news","data":{"n":1}}}"#;
const INFO: &str = r#"{"method":"info","params":{}}"#;

async fn post(node: &Node, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    request(Method::POST, &node.url(target), headers, body.to_owned().into(), PATIENCE).await.unwrap()
}

/// What gocent v3.3.0 sends: one command to a line, and its key in `Authorization`.
#[tokio::test(flavor = "multi_thread")]
async fn commands_in_one_request_are_answered_line_by_line() {
    let node = node().start().await;
    let key = format!("apikey {API_KEY}");
    let headers = [("authorization", key.as_str()), ("content-type", "application/json")];
    let answer = post(&node, "/api", &headers, &format!("{COMMAND}\n{INFO}\n")).await;
    let text = answer.text();
    assert_eq!(answer.status, 200, "{text}");
    let replies: Vec<Value> = text.split('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((replies.len(), &replies[0]["result"]["offset"]), (2, &json!(1)));
    assert_eq!(replies[1]["result"]["nodes"].as_array().map(Vec::len), Some(1));
    let single = post(&node, "/api", &headers, &format!("{COMMAND}\n")).await;
    assert_eq!((single.status.as_u16(), &single.json()["result"]["offset"]), (200, &json!(2)));
    assert_eq!(
        node.metric("fanway_api_requests_total", &[("endpoint", "publish"), ("outcome", "ok")]).await,
        Some(2.0)
    );
}

/// Several commands are one failure only if the broker failed all of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_fails_the_request_or_single_commands() {
    let mut redis = RedisServer::start().await;
    let node = fleet(&redis).start().await;
    let headers = [("x-api-key", API_KEY)];
    redis.kill().await;
    for body in [COMMAND.to_owned(), format!("{COMMAND}\n{COMMAND}")] {
        let answer = post(&node, "/api", &headers, &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (503, &json!(100)), "{}", answer.text());
        assert!(answer.json()["outcome"].is_string());
        assert!(answer.header("retry-after").is_some());
    }
    let mixed = post(&node, "/api", &headers, &format!("{COMMAND}\n{INFO}")).await;
    let text = mixed.text();
    let (failed, done) = text.split_once('\n').unwrap();
    assert_eq!(mixed.status, 200);
    assert!(failed.contains(r#""code":100"#) && failed.contains("outcome") && done.contains("nodes"), "{text}");
}
