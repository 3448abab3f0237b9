//! The bare `/api`: methods called by name, with the bytes of gocent v3.3.0 (`json.Encoder`: one command to a line).

use super::*;

const PUBLISH: &str = r#"{"method":"publish","params":{"channel":"news","data":{"n":1}}}"#;
const BROADCAST: &str = r#"{"method":"broadcast","params":{"channels":["a","b"],"data":1,"skip_history":true}}"#;
const HISTORY: &str = r#"{"method":"history","params":{"channel":"news","limit":-1}}"#;
const INFO: &str = r#"{"method":"info","params":{}}"#;

fn gocent(commands: &[&str]) -> Ask {
    let body: String = commands.iter().map(|command| format!("{command}\n")).collect();
    request("/api", body).without("x-api-key").header("authorization", "apikey key")
}

async fn replies(app: &App, commands: &[&str]) -> Vec<Value> {
    let (status, text) = app.send_text(gocent(commands)).await;
    assert_eq!(status, 200, "{text}");
    text.split('\n').map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line:?}"))).collect()
}

#[tokio::test]
async fn every_method_is_called_by_name() {
    let app = App::new();
    let [published] = replies(&app, &[PUBLISH]).await.try_into().unwrap();
    assert_eq!(published["result"]["offset"], 1);
    let [sent] = replies(&app, &[BROADCAST]).await.try_into().unwrap();
    assert_eq!(sent, serde_json::json!({"result": {"responses": [{"result": {}}, {"result": {}}]}}));
    let [history] = replies(&app, &[HISTORY]).await.try_into().unwrap();
    assert_eq!(history["result"]["publications"][0]["data"], serde_json::json!({"n": 1}));
    assert_eq!(history["result"]["epoch"], published["result"]["epoch"]);
    let [info] = replies(&app, &[INFO]).await.try_into().unwrap();
    assert_eq!(info["result"]["nodes"][0]["name"], "n");
    for method in ["publish", "broadcast", "history", "info"] {
        assert_eq!(app.requests(method, "ok"), 1, "{method}");
    }
    assert_eq!(app.requests("api", "ok"), 0, "a call counts once");

    // Every path below /api that calls a method is a method here too.
    let document: Value = serde_json::from_str(openapi_document()).unwrap();
    for path in document["paths"].as_object().unwrap().keys().filter_map(|path| path.strip_prefix("/api/")) {
        let command = format!(r#"{{"method":"{path}","params":{{}}}}"#);
        let (_, text) = app.send_text(gocent(&[&command])).await;
        assert!(!text.contains("unknown_method"), "{path}: {text}");
    }
}

#[tokio::test]
async fn several_commands_have_one_reply_to_a_line_in_their_order() {
    let app = App::new();
    app.subscribe("news").await;
    let commands = [
        PUBLISH,
        r#"{"method":"presence","params":{"channel":"news"}}"#,
        r#"{"method":"publish","params":{"channel":"nope:x","data":1}}"#,
        r#"{"method":"publish","params":{"channel":7,"data":1}}"#,
        &PUBLISH.replace('1', "2"),
        HISTORY,
    ];
    let replies = replies(&app, &commands).await;
    assert_eq!(replies.len(), commands.len());
    assert_eq!(replies[0]["result"]["offset"], 1);
    assert_eq!((&replies[1]["error"]["code"], &replies[1]["error"]["reason"]), (&104.into(), &"unknown_method".into()));
    assert_eq!(
        (&replies[2]["error"]["code"], &replies[2]["error"]["reason"]),
        (&102.into(), &"unknown_channel".into())
    );
    assert_eq!((&replies[3]["error"]["code"], &replies[3]["error"]["reason"]), (&107.into(), &"bad_json".into()));
    assert_eq!(replies[4]["result"]["offset"], 2);
    assert_eq!(replies[5]["result"]["publications"].as_array().unwrap().len(), 2);
    assert_eq!((app.requests("publish", "ok"), app.requests("publish", "unknown_channel")), (2, 1));
    assert_eq!(app.requests("api", "unknown_method"), 1);
    let heard: Vec<_> =
        app.heard.0.lock().unwrap().iter().map(|heard| heard.publication.data.bytes().clone()).collect();
    assert_eq!(heard, [br#"{"n":1}"#.as_slice(), br#"{"n":2}"#]);

    let pipe = gocent(&[PUBLISH, "[]"]);
    assert_eq!(app.send(pipe.body_done()).await.reason(), "bad_json");
    assert_eq!(app.heard.0.lock().unwrap().len(), 2, "a malformed request does nothing");
}

#[tokio::test]
async fn a_single_command_is_answered_as_at_its_own_path() {
    let app = App::new();
    let cases = [
        (r#"{"method":"publish","params":{"channel":"nope:x","data":1}}"#, 200, 404, "unknown_channel"),
        (r#"{"method":"publish","params":[]}"#, 400, 400, "bad_json"),
        (r#"{"method":"publish"}"#, 200, 400, "bad_data"),
        (r#"{"method":"publish","params":null}"#, 200, 400, "bad_data"),
        (r#"{"method":"batch","params":{"commands":[]}}"#, 200, 404, "unknown_method"),
        (r#"{"method":"","params":{}}"#, 200, 404, "unknown_method"),
        (r#"{"params":{}}"#, 400, 400, "bad_json"),
        (r#"{"method":1,"params":{}}"#, 400, 400, "bad_json"),
        (r#"["publish",{}]"#, 400, 400, "bad_json"),
        ("1", 400, 400, "bad_json"),
        ("", 400, 400, "bad_json"),
        ("{", 400, 400, "bad_json"),
    ];
    for (command, status, transport, reason) in cases {
        let answer = app.send(gocent(&[command]).body_done()).await;
        assert_eq!((answer.status, answer.reason()), (status, reason), "{command}");
        let answer = app.send(gocent(&[command]).header("x-centrifugo-error-mode", "transport").body_done()).await;
        assert_eq!((answer.status, answer.reason()), (transport, reason), "{command}");
    }
    assert_eq!(app.send(gocent(&[r#"{"method":"info"}"#]).body_done()).await.status, 200, "no parameters are needed");
    let get = Request::get("/api").header("x-api-key", "key").body(Body::empty()).unwrap();
    let answer = app.send(get).await;
    assert_eq!((answer.status, answer.headers["allow"].as_bytes()), (405, b"POST".as_slice()));
}

#[tokio::test]
async fn rights_are_checked_per_command_and_before_the_body() {
    let app = App::new();
    for (key, status, reason) in [("nope", 401, "unauthorized"), ("weak", 403, "forbidden")] {
        let answer = app.send(gocent(&["{"]).header("authorization", &format!("apikey {key}")).body_done()).await;
        assert_eq!((answer.status, answer.reason()), (status, reason));
        assert_eq!(app.requests("api", reason), 1);
    }
    let reader = || gocent(&[PUBLISH]).header("authorization", "apikey reader");
    assert_eq!(app.send(reader().body_done()).await.status, 403);
    let (status, text) = app.send_text(gocent(&[PUBLISH, INFO]).header("authorization", "apikey reader")).await;
    let (refused, done) = text.split_once('\n').unwrap();
    assert_eq!(status, 200);
    assert!(refused.contains(r#""code":103"#) && done.contains(r#""nodes""#), "{text}");
    assert_eq!(app.metrics.api_publications_total.get(), 0);
}

#[tokio::test]
async fn a_key_in_a_header_is_for_a_single_command() {
    let app = App::new();
    let first = app.send(gocent(&[PUBLISH]).header("idempotency-key", "k").body_done()).await;
    let again = app.send(gocent(&[PUBLISH]).header("idempotency-key", "k").body_done()).await;
    assert_eq!(first.body["result"]["offset"], 1);
    assert_eq!(again.body, first.body);
    let several = app.send(gocent(&[PUBLISH, INFO]).header("idempotency-key", "k").body_done()).await;
    assert_eq!((several.status, several.reason()), (400, "invalid_idempotency_key"));
}

#[tokio::test]
async fn a_request_is_bounded() {
    let app = App::new();
    let answer = app.send(gocent(&[INFO; 1001]).body_done()).await;
    assert_eq!((answer.status, answer.reason()), (400, "batch_too_large"));
    assert_eq!(replies(&app, &[INFO; 1000]).await.len(), 1000);

    let data = "x".repeat(256 * 1024);
    let large = format!(r#"{{"method":"publish","params":{{"channel":"news","data":"{data}"}}}}"#);
    assert_eq!(app.send(gocent(&[&large]).body_done()).await.status, 413, "the limit of publish holds here too");
    let broadcast = large.replace(r#""channel":"news""#, r#""channels":["news"]"#).replace("publish", "broadcast");
    assert_eq!(replies(&app, &[&broadcast]).await[0]["result"]["responses"][0]["result"]["offset"], 1);

    let replies = replies(&app, &[HISTORY; 20]).await;
    let refused = replies.iter().position(|reply| reply["error"]["reason"] == "replies_too_large").unwrap();
    assert_eq!(refused, 16, "16 replies of more than 256 KiB are the first that are larger than 4 MiB");
    assert!(replies[refused..].iter().all(|reply| reply["error"]["code"] == 106));
}
