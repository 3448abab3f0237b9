#![allow(clippy::unwrap_used)]
use bytes::Bytes;

use super::*;
use crate::ErrorCode;

fn reply(reply: &Reply<'_>) -> String {
    let mut out = Vec::new();
    write_reply(reply, &mut out);
    String::from_utf8(out).unwrap()
}

fn push(push: &Push<'_>) -> String {
    let mut out = Vec::new();
    write_push(push, &mut out);
    String::from_utf8(out).unwrap()
}

fn position(offset: u64) -> Position {
    Position { epoch: Epoch::parse("aaaaaaaa0123456789ab").unwrap(), offset }
}

fn publication(data: &'static str) -> Publication {
    Publication { data: Payload::Json(Bytes::from_static(data.as_bytes())), ..Publication::default() }
}

fn full() -> Publication {
    let conn_info = Some(Bytes::from_static(b"[1]"));
    Publication {
        info: Some(Arc::new(ClientInfo { user: "ann".into(), client: "c".into(), conn_info })),
        tags: Some(Arc::new(BTreeMap::from([("a".to_owned(), "b".to_owned())]))),
        time: 5,
        ..publication("{\"n\":1.0}")
    }
}

#[test]
fn every_outcome_is_a_member_beside_the_id() {
    assert_eq!(reply(&Reply::ok(1, Outcome::Unsubscribe)), r#"{"id":1,"unsubscribe":{}}"#);
    assert_eq!(reply(&Reply::ok(2, Outcome::Publish)), r#"{"id":2,"publish":{}}"#);
    assert_eq!(reply(&Reply::ok(3, Outcome::Ping)), r#"{"id":3,"ping":{}}"#);
    let refresh = |ttl| Outcome::Refresh(RefreshResult { client: "c", version: "v", ttl });
    assert_eq!(reply(&Reply::ok(4, refresh(None))), r#"{"id":4,"refresh":{"client":"c","version":"v"}}"#);
    assert_eq!(
        reply(&Reply::ok(4, refresh(Some(9)))),
        r#"{"id":4,"refresh":{"client":"c","version":"v","expires":true,"ttl":9}}"#
    );
    let history = HistoryResult { publications: vec![(position(2), Arc::new(publication("2")))], top: position(3) };
    assert_eq!(
        reply(&Reply::ok(5, Outcome::History(history))),
        r#"{"id":5,"history":{"publications":[{"data":2,"offset":2}],"epoch":"aaaaaaaa0123456789ab","offset":3}}"#
    );
    assert_eq!(reply(&Reply::ok(6, Outcome::Subscribe(SubscribeResult::default()))), r#"{"id":6,"subscribe":{}}"#);
}

#[test]
fn errors_say_whether_they_are_temporary() {
    assert_eq!(
        reply(&Reply::error(1, ErrorCode::PermissionDenied)),
        r#"{"id":1,"error":{"code":103,"message":"permission denied"}}"#
    );
    assert_eq!(
        reply(&Reply::error(2, ErrorCode::Internal)),
        r#"{"id":2,"error":{"code":100,"message":"internal server error","temporary":true}}"#
    );
}

#[test]
fn a_connect_result_has_its_subscriptions() {
    let recovered = SubscribeResult {
        recoverable: true,
        epoch: Some(position(0).epoch),
        publications: vec![(position(8), Arc::new(full()))],
        recovered: true,
        offset: 7,
        positioned: true,
        was_recovering: true,
    };
    let subs = BTreeMap::from([("news".to_owned(), recovered)]);
    let result = ConnectResult { client: "c", version: "v", ttl: Some(0), subs, ping: 25, pong: true };
    assert_eq!(
        reply(&Reply::ok(1, Outcome::Connect(result))),
        concat!(
            r#"{"id":1,"connect":{"client":"c","version":"v","expires":true,"subs":{"news":{"recoverable":true,"#,
            r#""epoch":"aaaaaaaa0123456789ab","publications":[{"data":{"n":1.0},"#,
            r#""info":{"user":"ann","client":"c","conn_info":[1]},"offset":8,"tags":{"a":"b"},"time":5}],"#,
            r#""recovered":true,"offset":7,"positioned":true,"was_recovering":true}},"ping":25,"pong":true}}"#
        )
    );
}

#[test]
fn pushes() {
    let publication = publication("\"x\"");
    let plain = |position, first_of_epoch| {
        push(&Push::Publication { channel: "news", publication: &publication, position, first_of_epoch })
    };
    assert_eq!(plain(None, true), r#"{"push":{"channel":"news","pub":{"data":"x"}}}"#);
    assert_eq!(plain(Some(position(4)), false), r#"{"push":{"channel":"news","pub":{"data":"x","offset":4}}}"#);
    assert_eq!(
        plain(Some(position(1)), true),
        r#"{"push":{"channel":"news","pub":{"data":"x","offset":1,"epoch":"aaaaaaaa0123456789ab"}}}"#
    );
    assert_eq!(
        push(&Push::Unsubscribe { channel: "news", code: 2500, reason: "insufficient state".into() }),
        r#"{"push":{"channel":"news","unsubscribe":{"code":2500,"reason":"insufficient state"}}}"#
    );
}

#[test]
fn a_binary_payload_is_a_string_in_base64() {
    let binary = |bytes| Publication { data: Payload::Binary(Bytes::from_static(bytes)), ..Publication::default() };
    for (bytes, text) in [(&b"\x00\xff\n"[..], "AP8K"), (b"", ""), (b"{}", "e30="), (b"\xfb\xff", "+/8=")] {
        let publication = binary(bytes);
        let channel = "news";
        let push =
            push(&Push::Publication { channel, publication: &publication, position: None, first_of_epoch: false });
        assert_eq!(push, format!(r#"{{"push":{{"channel":"news","pub":{{"data":"{text}"}}}}}}"#));
        let publications = vec![(position(2), Arc::new(publication))];
        let history = reply(&Reply::ok(1, Outcome::History(HistoryResult { publications, top: position(2) })));
        assert!(history.contains(&format!(r#"[{{"data":"{text}","offset":2}}]"#)), "{history}");
    }
}

#[test]
fn text_that_is_not_json_does_not_break_a_frame() {
    let publication = publication("{");
    let push =
        push(&Push::Publication { channel: "news", publication: &publication, position: None, first_of_epoch: false });
    assert_eq!(push, r#"{"push":{"channel":"news","pub":{"data":null}}}"#);
}
