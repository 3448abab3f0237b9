use serde_json::json;

use super::*;

async fn filled() -> (App, String) {
    let app = App::new();
    let mut epoch = String::new();
    for n in 1..=5 {
        let body = json!({"channel": "news", "data": {"n": n}, "tags": {"n": n.to_string()}}).to_string();
        epoch = app.post("/api/publish", body).await.body["result"]["epoch"].as_str().unwrap().to_owned();
    }
    (app, epoch)
}

fn offsets(answer: &Answer) -> Vec<u64> {
    let publications = answer.body["result"]["publications"].as_array().expect("publications");
    publications.iter().map(|publication| publication["offset"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn pages_in_both_directions() {
    let (app, epoch) = filled().await;
    let since = |offset: u64| json!({"offset": offset, "epoch": epoch});
    let cases = [
        (json!({}), vec![]),
        (json!({"limit": 0}), vec![]),
        (json!({"limit": -1}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": 2}), vec![1, 2]),
        (json!({"limit": 1_000_000_000}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": 2, "reverse": true}), vec![5, 4]),
        (json!({"limit": 2, "since": since(2)}), vec![3, 4]),
        (json!({"limit": 2, "since": since(5)}), vec![]),
        (json!({"limit": 9, "since": since(3), "reverse": true}), vec![2, 1]),
        (json!({"limit": 9, "since": {"offset": 0, "epoch": ""}}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": 9, "since": {"offset": null, "epoch": null}, "reverse": null}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": 9, "since": {"offset": null, "epoch": epoch}}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": 9, "since": {"offset": 0, "epoch": null}}), vec![1, 2, 3, 4, 5]),
        (json!({"limit": null, "since": null}), vec![]),
    ];
    for (mut body, expected) in cases {
        body["channel"] = json!("news");
        let answer = app.post("/api/history", body.to_string()).await;
        assert_eq!(answer.status, 200, "{body}");
        assert_eq!(offsets(&answer), expected, "{body}");
        assert_eq!(answer.body["result"]["offset"], 5, "{body}");
        assert_eq!(answer.body["result"]["epoch"], epoch.as_str(), "{body}");
    }
    let one = app.post("/api/history", r#"{"channel":"news","limit":1}"#).await;
    let publication = &one.body["result"]["publications"][0];
    assert_eq!(publication["data"], json!({"n": 1}));
    assert_eq!(publication["tags"], json!({"n": "1"}));
    assert_eq!(publication["epoch"], epoch.as_str());
    assert!(publication["time"].as_u64().unwrap() > 1_600_000_000_000);
}

#[tokio::test]
async fn the_settings_bound_a_page() {
    let app = App::with(ApiSettings { history_limit: 2, ..ApiSettings::default() });
    for _ in 0..3 {
        app.post("/api/publish", r#"{"channel":"news","data":1}"#).await;
    }
    for limit in [-1, 3, 1_000_000_000] {
        let answer = app.post("/api/history", json!({"channel": "news", "limit": limit}).to_string()).await;
        assert_eq!(offsets(&answer), [1, 2], "{limit}");
    }
}

#[tokio::test]
async fn a_position_off_the_line_is_error_112() {
    let (app, epoch) = filled().await;
    let other = app.post("/api/publish", r#"{"channel":"other","data":1}"#).await;
    let other = other.body["result"]["epoch"].as_str().unwrap();
    for since in [
        json!({"offset": 6, "epoch": epoch}),
        json!({"offset": u64::MAX, "epoch": epoch}),
        json!({"offset": 1, "epoch": other}),
        json!({"offset": 1, "epoch": "no epoch at all"}),
        json!({"offset": 1, "epoch": ""}),
        json!({"offset": 1}),
        json!({"offset": 0, "epoch": "AAAAAAAAAAAAAAAAAAAA"}),
    ] {
        let body = json!({"channel": "news", "limit": 9, "since": since}).to_string();
        let answer = app.post("/api/history", body.clone()).await;
        assert_eq!((answer.status, answer.code()), (200, 112), "{since}");
        assert_eq!(answer.reason(), "unrecoverable_position");
        let ask = request("/api/history", body).header("x-centrifugo-error-mode", "transport").body_done();
        assert_eq!(app.send(ask).await.status, 416, "{since}");
    }
}

/// The position of a channel that was never used is one from which nothing will be missed.
#[tokio::test]
async fn an_unused_channel_has_a_position_to_start_from() {
    let app = App::new();
    let before = app.post("/api/history", r#"{"channel":"new"}"#).await;
    assert_eq!(before.body["result"]["offset"], 0);
    let epoch = before.body["result"]["epoch"].as_str().unwrap();
    assert_eq!(app.post("/api/publish", r#"{"channel":"new","data":1}"#).await.body["result"]["epoch"], epoch);
    let since = json!({"channel": "new", "limit": 9, "since": {"offset": 0, "epoch": epoch}}).to_string();
    assert_eq!(offsets(&app.post("/api/history", since).await), [1]);
}

#[tokio::test]
async fn a_channel_without_history_says_so() {
    let app = App::new();
    let answer = app.post("/api/history", r#"{"channel":"plain:1"}"#).await;
    assert_eq!((answer.status, answer.code(), answer.reason()), (200, 108, "not_available"));
    let answer = app.post("/api/history", r#"{"channel":"nope:1"}"#).await;
    assert_eq!((answer.status, answer.code(), answer.reason()), (200, 102, "unknown_channel"));
}
