#![allow(clippy::unwrap_used)]
use super::*;

fn decoded(command: &str) -> Result<Command<'_>, serde_json::Error> {
    let mut commands = decode(command);
    let first = commands.next().unwrap();
    assert!(commands.next().is_none());
    first
}

fn subscribe(member: &str) -> Option<&'static str> {
    let command = format!(r#"{{"id":1,"subscribe":{{"channel":"a",{member}}}}}"#);
    let Method::Subscribe(request) = decoded(&command).unwrap().method else { panic!("{command}") };
    request.unsupported
}

fn publish(member: &str) -> Option<&'static str> {
    let command = format!(r#"{{"id":1,"publish":{{"channel":"a","data":1,{member}}}}}"#);
    let Method::Publish(request) = decoded(&command).unwrap().method else { panic!("{command}") };
    request.unsupported
}

#[test]
fn names_the_member_that_is_not_supported() {
    assert_eq!(subscribe(r#""type":1"#), Some("type"));
    assert_eq!(subscribe(r#""tf":{"op":"","key":"a","cmp":"eq","val":"b"}"#), Some("tf"));
    assert_eq!(subscribe(r#""tf":[]"#), Some("tf"));
    assert_eq!(subscribe(r#""join_leave":true"#), Some("join_leave"));
    assert_eq!(publish(r#""type":1"#), Some("type"));
    assert_eq!(publish(r#""key":"k""#), Some("key"));
    assert_eq!(publish(r#""removed":true"#), Some("removed"));
}

#[test]
fn a_zero_value_asks_for_nothing() {
    for member in [r#""type":0"#, r#""tf":{ }"#, r#""join_leave":false"#, r#""delta":"fossil""#, r#""flag":1"#] {
        assert_eq!(subscribe(member), None, "{member}");
    }
    for member in [r#""type":0"#, r#""key":"""#, r#""removed":false"#, r#""future":{"a":[1]}"#] {
        assert_eq!(publish(member), None, "{member}");
    }
}

/// Every member of every request.
#[test]
fn null_is_absence() {
    let requests: [(&str, &[&str]); 6] = [
        ("connect", &["token", "name", "subs", "flag", "dict", "profile", "headers", "data", "version"]),
        (
            "subscribe",
            &[
                "channel",
                "token",
                "recover",
                "epoch",
                "offset",
                "positioned",
                "recoverable",
                "join_leave",
                "tf",
                "type",
                "flag",
                "delta",
                "data",
            ],
        ),
        ("unsubscribe", &["channel"]),
        ("publish", &["channel", "data", "type", "key", "removed"]),
        ("history", &["channel", "limit", "since", "reverse"]),
        ("refresh", &["token"]),
    ];
    for (method, members) in requests {
        let all: Vec<String> = members.iter().map(|member| format!("\"{member}\":null")).collect();
        let command = format!(r#"{{"id":1,"{method}":{{{}}}}}"#, all.join(","));
        let bare = format!(r#"{{"id":1,"{method}":{{}}}}"#);
        assert_eq!(decoded(&command).unwrap(), decoded(&bare).unwrap(), "{command}");
        assert_eq!(decoded(&bare).unwrap().method.name(), method);
    }
    let Method::History(request) =
        decoded(r#"{"id":1,"history":{"since":{"offset":null,"epoch":null}}}"#).unwrap().method
    else {
        panic!("no history")
    };
    assert_eq!(request.since, Some(StreamPosition::default()));
    let none = r#"{"id":null,"connect":null,"subscribe":null,"unsubscribe":null,"publish":null,"presence":null,
        "presence_stats":null,"history":null,"ping":null,"send":null,"rpc":null,"refresh":null,"sub_refresh":null}"#;
    assert_eq!(decoded(&none.replace('\n', "")).unwrap(), Command { id: 0, method: Method::Pong });
    let Method::Connect(request) = decoded(r#"{"id":1,"connect":{"subs":{"a":null,"b":{}}}}"#).unwrap().method else {
        panic!("no connect")
    };
    assert_eq!(request.subs.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn every_method_has_a_variant_of_its_own() {
    let methods =
        "connect subscribe unsubscribe publish presence presence_stats history ping send rpc refresh sub_refresh";
    for method in methods.split(' ') {
        assert_eq!(decoded(&format!(r#"{{"id":7,"{method}":{{}}}}"#)).unwrap().method.name(), method);
    }
    assert_eq!(decoded("{}").unwrap(), Command { id: 0, method: Method::Pong });
    assert_eq!(decoded(r#"{"future":{}}"#).unwrap(), Command { id: 0, method: Method::Pong });
    assert_eq!(decoded(r#"{"id":7}"#).unwrap(), Command { id: 7, method: Method::Unknown });
    assert_eq!(decoded(r#"{"id":7,"future":{}}"#).unwrap(), Command { id: 7, method: Method::Unknown });
    // What is not read may be anything.
    assert_eq!(decoded(r#"{"id":7,"rpc":"x"}"#).unwrap().method, Method::Rpc);
}

#[test]
fn what_is_ambiguous_is_undecodable() {
    for command in [
        r#"{"id":1,"connect":{},"subscribe":{"channel":"a"}}"#,
        r#"{"id":1,"ping":{},"rpc":{}}"#,
        r#"{"id":1,"id":1,"ping":{}}"#,
        r#"{"id":1,"ping":{},"ping":{}}"#,
        r#"{"id":1,"ping":null,"ping":{}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","channel":"a"}}"#,
        r#"[1,{}]"#,
        r#""id""#,
        "null",
        "",
        r#"{"id":-1}"#,
        r#"{"id":1,"ping":{}}x"#,
        r#"{"id":1,"unsubscribe":{"channel":1}}"#,
    ] {
        assert!(decoded(command).is_err(), "{command}");
    }
    // Unknown members are ignored, however often.
    assert_eq!(
        decoded(r#"{"a":1,"id":2,"a":[],"ping":{},"b":null}"#).unwrap(),
        Command { id: 2, method: Method::Ping }
    );
    // Of two methods one may be absent.
    assert_eq!(decoded(r#"{"id":2,"rpc":null,"ping":{}}"#).unwrap(), Command { id: 2, method: Method::Ping });
}

#[test]
fn a_frame_is_split_at_line_breaks() {
    let ids = |frame: &str| decode(frame).map(|command| command.ok().map(|command| command.id)).collect::<Vec<_>>();
    assert_eq!(ids("{\"id\":1}\n{\"id\":2}"), [Some(1), Some(2)]);
    assert_eq!(ids("{\"id\":1}\n"), [Some(1)]);
    assert_eq!(ids("{\"id\":1}\n\n"), [Some(1), None]);
    assert_eq!(ids(""), [None]);
}

#[test]
fn texts_and_data_are_borrowed() {
    let channel = |command: &'static str| match decoded(command).unwrap().method {
        Method::Unsubscribe(request) => request.channel,
        method => panic!("{method:?}"),
    };
    assert!(matches!(channel(r#"{"unsubscribe":{"channel":"a"}}"#), Cow::Borrowed("a")));
    assert!(matches!(channel(r#"{"unsubscribe":{"channel":"\u0061"}}"#), Cow::Owned(text) if text == "a"));
    let frame = r#"{"id":1,"publish":{"channel":"a","data": { "b" : 1.0 } }}"#;
    let Method::Publish(request) = decoded(frame).unwrap().method else { panic!("no publish") };
    let data = request.data.unwrap();
    assert_eq!(data, r#"{ "b" : 1.0 }"#);
    assert!(frame.as_bytes().as_ptr_range().contains(&data.as_ptr()));
}
