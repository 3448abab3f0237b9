//! Upgrade requests: which are granted, and how the others are refused.

use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, StatusCode, Version, request};

use super::handshake::{Refusal, check};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// A request as a browser sends it.
fn browser() -> request::Builder {
    Request::get("/connection/websocket")
        .header("Host", "example.com")
        .header("Upgrade", "websocket")
        .header("Connection", "keep-alive, Upgrade")
        .header("Sec-WebSocket-Key", KEY)
        .header("Sec-WebSocket-Version", "13")
        .header("Origin", "https://example.com")
}

/// A browser's request after a change.
fn changed(change: impl FnOnce(&mut Request<()>)) -> Request<()> {
    let mut request = browser().body(()).unwrap();
    change(&mut request);
    request
}

fn headers<T>(change: impl FnOnce(&mut HeaderMap) -> T) -> Request<()> {
    changed(|request| drop(change(request.headers_mut())))
}

#[track_caller]
fn refused(request: &Request<()>, refusal: Refusal, status: u16, header: Option<(&str, &str)>) {
    assert_eq!(check(request), Err(refusal), "{request:?}");
    let response = refusal.response();
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    if let Some((name, value)) = header {
        assert_eq!(response.headers()[name], value);
    }
    let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
    assert_eq!(body["error"]["code"], 107);
    assert_eq!(body["error"]["reason"], refusal.metric_label());
    assert_eq!(body["error"]["message"], refusal.to_string());
}

#[test]
fn the_example_of_the_rfc() {
    let accept = check(&browser().body(()).unwrap()).unwrap();
    let response = accept.response();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.headers()["connection"], "Upgrade");
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers().len(), 3);
}

#[test]
fn tokens_are_found_in_lists_and_in_any_case() {
    let upgrades = ["WebSocket", "h2c, websocket", ",, websocket ,", "h2c,WEBSOCKET"];
    for upgrade in upgrades {
        assert!(check(&headers(|h| h.insert("upgrade", upgrade.parse().unwrap()))).is_ok(), "{upgrade}");
    }
    for connection in ["upgrade", "UPGRADE", "close, upgrade", "\tUpgrade\t,x"] {
        assert!(check(&headers(|h| h.insert("connection", connection.parse().unwrap()))).is_ok(), "{connection}");
    }
    let two_lines = headers(|h| {
        h.insert("connection", "keep-alive".parse().unwrap());
        h.append("connection", "upgrade".parse().unwrap());
    });
    assert!(check(&two_lines).is_ok());
}

#[test]
fn not_an_upgrade() {
    let expected = |request| refused(&request, Refusal::NotAnUpgrade, 426, Some(("upgrade", "websocket")));
    expected(headers(|h| h.remove("upgrade")));
    for upgrade in ["h2c", "", "websocket2", "web socket", "websocket/13"] {
        expected(headers(|h| h.insert("upgrade", upgrade.parse().unwrap())));
    }
    expected(headers(|h| h.insert("upgrade", http::HeaderValue::from_bytes(b"websocket, \xff").unwrap())));
}

#[test]
fn no_connection_upgrade() {
    let expected = |request| refused(&request, Refusal::Connection, 400, None);
    expected(headers(|h| h.remove("connection")));
    for connection in ["keep-alive", "upgraded", "x upgrade", ""] {
        expected(headers(|h| h.insert("connection", connection.parse().unwrap())));
    }
}

#[test]
fn keys() {
    let expected = |request| refused(&request, Refusal::Key, 400, None);
    expected(headers(|h| h.remove("sec-websocket-key")));
    let bad = [
        "",
        "x",
        "dGhlIHNhbXBsZSBub25jZQ=", // padding missing
        "dGhlIHNhbXBsZSBub25jZQ===",
        "dGhlIHNhbXBsZSBub25jZTE=", // 17 bytes
        "dGhlIHNhbXBsZSBub25j",     // 15 bytes
        "dGhlIHNhbXBsZSBub25j====",
        "dGhlIHNhbXBsZSBub25j-_==", // the alphabet of URLs
        "dGhlIHNhbXBsZSBub2 jZQ==",
        "!!!!!!!!!!!!!!!!!!!!!!==",
    ];
    for key in bad {
        expected(headers(|h| h.insert("sec-websocket-key", key.parse().unwrap())));
    }
    expected(headers(|h| h.insert("sec-websocket-key", http::HeaderValue::from_bytes(&[0xE4; 24]).unwrap())));
    for second in [KEY, "AAAAAAAAAAAAAAAAAAAAAA=="] {
        expected(headers(|h| h.append("sec-websocket-key", second.parse().unwrap())));
    }
}

#[test]
fn versions_of_the_protocol() {
    let expected = |request| refused(&request, Refusal::WebSocketVersion, 426, Some(("sec-websocket-version", "13")));
    expected(headers(|h| h.remove("sec-websocket-version")));
    for version in ["8", "0", "14", "013", "13, 8", "thirteen", ""] {
        expected(headers(|h| h.insert("sec-websocket-version", version.parse().unwrap())));
    }
    expected(headers(|h| h.append("sec-websocket-version", "13".parse().unwrap())));
}

#[test]
fn methods_and_versions_of_http() {
    for method in [Method::POST, Method::PUT, Method::OPTIONS, Method::CONNECT] {
        refused(&changed(|r| *r.method_mut() = method), Refusal::Method, 405, Some(("allow", "GET,HEAD")));
    }
    assert!(check(&changed(|r| *r.method_mut() = Method::HEAD)).is_ok(), "it asks what the GET would be answered");
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
        refused(&changed(|r| *r.version_mut() = version), Refusal::HttpVersion, 426, Some(("upgrade", "websocket")));
    }
}

#[test]
fn extensions_are_never_accepted() {
    let offered = headers(|h| {
        h.insert("sec-websocket-extensions", "permessage-deflate; client_max_window_bits".parse().unwrap())
    });
    let response = check(&offered).unwrap().response();
    assert!(!response.headers().contains_key("sec-websocket-extensions"));
}

#[test]
fn subprotocols() {
    let choice = |offers: &[&str]| {
        let request = headers(|h| {
            for offer in offers {
                h.append("sec-websocket-protocol", offer.parse().unwrap());
            }
        });
        let accept = check(&request).unwrap();
        let named = accept.response().headers().get("sec-websocket-protocol").cloned();
        assert_eq!(named.as_ref().map(|name| name.to_str().unwrap()), accept.protocol);
        (accept.protocol, accept.supported)
    };
    let json = (Some("centrifuge-json"), true);
    let none = (None, true);
    assert_eq!(choice(&[]), none);
    assert_eq!(choice(&["centrifuge-json"]), json);
    assert_eq!(choice(&["centrifuge-protobuf, centrifuge-json"]), json);
    assert_eq!(choice(&["centrifuge-protobuf", "centrifuge-json"]), json);
    assert_eq!(choice(&["mqtt, graphql-ws"]), none);
    assert_eq!(choice(&["CENTRIFUGE-JSON"]), none);
    assert_eq!(choice(&["centrifuge-json, bearer.secret"]), json, "a token is not echoed");
    assert_eq!(choice(&["bearer.secret"]), none, "a token is not echoed");
    let protobuf = (Some("centrifuge-protobuf"), false);
    assert_eq!(choice(&["centrifuge-protobuf"]), protobuf);
    assert_eq!(choice(&["mqtt, centrifuge-protobuf"]), protobuf);
}

#[test]
fn protobuf_by_query() {
    let choice = |query: &str, offers: &str| {
        let request = changed(|r| {
            *r.uri_mut() = format!("/connection/websocket?{query}").parse().unwrap();
            if !offers.is_empty() {
                r.headers_mut().insert("sec-websocket-protocol", offers.parse().unwrap());
            }
        });
        let accept = check(&request).unwrap();
        (accept.protocol, accept.supported)
    };
    for query in ["format=protobuf", "cf_protocol=protobuf", "a=b&format=protobuf&c", "format=json&format=protobuf"] {
        assert_eq!(choice(query, ""), (None, false), "{query}");
        assert_eq!(choice(query, "centrifuge-json"), (Some("centrifuge-json"), false), "{query}");
        let both = "centrifuge-json, centrifuge-protobuf";
        assert_eq!(choice(query, both), (Some("centrifuge-protobuf"), false), "{query}");
    }
    for query in ["format=json", "format=", "xformat=protobuf", "data=format%3Dprotobuf", ""] {
        assert_eq!(choice(query, ""), (None, true), "{query}");
    }
}

#[test]
fn long_headers_are_read_in_linear_time() {
    let long = [" ".repeat(16_000) + "x", ",".repeat(16_000), "a,".repeat(8_000), " ,\t".repeat(5_000)];
    for value in long {
        for name in ["sec-websocket-protocol", "upgrade", "connection"] {
            let request = headers(|h| h.append(name, value.parse().unwrap()));
            let began = Instant::now();
            let _ = check(&request);
            assert!(began.elapsed() < Duration::from_millis(100), "{name}");
        }
    }
}
