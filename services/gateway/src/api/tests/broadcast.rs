use super::*;

#[tokio::test]
async fn answers_each_channel_in_its_place() {
    let app = App::new();
    app.subscribe("a").await;
    let body = r#"{"channels":["a","b c","a","nope:x","plain:1","b"],"data":{"x":1}}"#;
    let answer = app.post("/api/broadcast", body).await;
    assert_eq!(answer.status, 200);
    let responses = answer.body["result"]["responses"].as_array().unwrap();
    let brief = |item: &Value| match &item["error"] {
        Value::Null => item["result"]["offset"].as_u64().map_or("none".to_owned(), |offset| offset.to_string()),
        error => format!("{} {}", error["code"], error["reason"].as_str().unwrap()),
    };
    let brief: Vec<_> = responses.iter().map(brief).collect();
    assert_eq!(brief, ["1", "107 invalid_channel", "2", "102 unknown_channel", "none", "1"]);
    assert_eq!(app.metrics.api_publications_total.get(), 4);
    let heard: Vec<_> = app.heard.0.lock().unwrap().iter().map(|it| it.place.unwrap().position.offset).collect();
    assert_eq!(heard, [1, 2]);
}

#[tokio::test]
async fn takes_a_thousand_channels_and_keeps_their_order() {
    let app = App::new();
    // The n-th channel has n % 5 publications before.
    for before in 1..5 {
        let channels: Vec<_> = (0..1000).filter(|n| n % 5 >= before).map(|n| format!("c{n}")).collect();
        let body = serde_json::json!({"channels": channels, "data": before}).to_string();
        assert_eq!(app.post("/api/broadcast", body).await.status, 200);
    }
    let channels: Vec<_> = (0..1000).map(|n| format!("c{n}")).collect();
    let body = serde_json::json!({"channels": channels, "data": 5}).to_string();
    let answer = app.post("/api/broadcast", body).await;
    let offsets = answer.body["result"]["responses"].as_array().unwrap().iter();
    let offsets: Vec<_> = offsets.map(|item| item["result"]["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, (0..1000).map(|n| n % 5 + 1).collect::<Vec<u64>>());
}

#[tokio::test]
async fn the_idempotency_key_applies_per_channel() {
    let app = App::new();
    let body = r#"{"channels":["a","b","a"],"data":1,"idempotency_key":"k"}"#;
    let first = app.post("/api/broadcast", body).await;
    assert_eq!(app.metrics.api_publications_total.get(), 2, "the second a is a repeat of the first");
    assert_eq!(app.post("/api/broadcast", body).await.body, first.body);
    let more = app.post("/api/broadcast", r#"{"channels":["a","c"],"data":2,"idempotency_key":"k"}"#).await;
    assert_eq!(more.status, 200);
    let responses = &more.body["result"]["responses"];
    assert_eq!(responses[0]["error"]["reason"], "idempotency_conflict");
    assert_eq!(responses[1]["result"]["offset"], 1);
}
