use std::convert::Infallible;

use bytes::Bytes;
use fanway_protocol::{Channel, Right};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::*;
use crate::auth::{Authenticator, KeySettings, Secret, install_crypto, unix_now};
use crate::config::Engine;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn run(args: &[&str]) -> Result<Action, Refusal> {
    install_crypto();
    parse(std::iter::once("fanway").chain(args.iter().copied()).map(OsString::from))
}

fn printed(args: &[&str]) -> String {
    match run(args) {
        Ok(Action::Print(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn refused(args: &[&str]) -> String {
    let refusal = run(args).unwrap_err();
    assert_eq!(refusal.exit_code, EXIT_USAGE, "{}", refusal.text);
    refusal.text
}

#[test]
fn the_grammar_is_consistent() {
    use clap::CommandFactory;
    Args::command().debug_assert();
}

#[test]
fn help_and_version_are_no_failures() {
    let help = run(&["--help"]).unwrap_err();
    assert_eq!(help.exit_code, 0);
    assert!(help.text.contains("Examples:") && help.text.contains("check-config"), "{}", help.text);
    assert_eq!(run(&["--version"]).unwrap_err().text.trim(), format!("fanway {}", env!("CARGO_PKG_VERSION")));
    for wrong in [&[][..], &["sing"], &["serve", "--listen", "nowhere"], &["publish", "news"], &["config"]] {
        refused(wrong);
    }
}

#[test]
fn serve_refuses_what_it_cannot_use() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fanway.toml");
    let path = path.to_str().unwrap();
    std::fs::write(path, "[client]\nchanel_limit = 5").unwrap();
    assert!(refused(&["serve", "--config", path]).contains("did you mean `channel_limit`?"));
    assert!(refused(&["check-config", path]).contains("did you mean `channel_limit`?"));
    std::fs::write(path, format!("[auth]\nkeys = [{{ algorithm = \"HS256\", secret = \"{SECRET}\" }}]")).unwrap();
    assert!(printed(&["check-config", path]).contains("fine (broker: Memory, token keys: 1"));
    match run(&["serve", "--config", path, "--listen", "127.0.0.1:7"]) {
        Ok(Action::Run(settings, Mode::Serve)) => assert_eq!(settings.server.listen.port(), 7),
        other => panic!("{other:?}"),
    }
    assert!(refused(&["serve", "--config", "/nowhere.toml"]).contains("/nowhere.toml: no such file"));
}

#[test]
fn the_defaults_are_printed_whole() {
    assert_eq!(printed(&["config", "--defaults"]), Settings::default_toml().trim_end());
}

#[test]
fn dev_needs_nothing_and_can_be_joined() {
    let Ok(Action::Run(settings, Mode::Dev)) = run(&["dev"]) else { panic!() };
    assert_eq!(settings.broker.engine, Engine::Memory);
    let text = welcome(&settings, settings.server.listen, "fanway");
    let token = text.lines().find_map(|line| line.strip_prefix("  Token    ")).unwrap();
    let validated = settings.validate().ok().unwrap();
    assert_eq!(&*validated.authenticator.verify(token, unix_now()).unwrap().user, "dev");
    assert!(text.contains("http://127.0.0.1:8000/"));

    let everywhere = welcome(&settings, "0.0.0.0:8000".parse().unwrap(), "fanway");
    assert!(everywhere.contains("http://127.0.0.1:8000/sse") && everywhere.contains("'ws://127.0.0.1:8000/"));
    assert!(!everywhere.contains("//0.0.0.0"), "which no node answers to: {everywhere}");

    let join = [
        "dev",
        "--redis-url",
        "redis://r:1",
        "--secret",
        SECRET,
        "--api-key",
        "0123456789abcdef",
        "--listen",
        "127.0.0.1:9",
    ];
    let Ok(Action::Run(settings, Mode::Dev)) = run(&join) else { panic!() };
    assert_eq!((settings.broker.engine, settings.redis.url.as_str()), (Engine::Redis, "redis://r:1"));
    assert_eq!(settings.auth.keys[0].secret.as_ref().unwrap().expose(), SECRET);
    assert!(refused(&["dev", "--secret", "short"]).contains("5 bytes; at least 32"));
    assert!(refused(&["dev", "--allow-host", "http://a"]).contains("not a host; give a name or an address"));
}

#[test]
fn a_token_says_what_was_asked() {
    let token = printed(&[
        "token",
        "--secret",
        SECRET,
        "--user",
        "42",
        "--channel",
        "user:42",
        "--cap",
        "news=sub",
        "--cap",
        "chat:*=sub,pub",
        "--info",
        "{\"name\":\"Ann\"}",
        "--ttl",
        "10m",
    ]);
    let settings = crate::auth::Settings {
        keys: vec![KeySettings::hmac(Secret::new(SECRET))],
        ..crate::auth::Settings::default()
    };
    let identity = Authenticator::new(&settings).ok().unwrap().verify(&token, unix_now()).unwrap();
    let channel = |name| Channel::new(name).unwrap();
    assert_eq!(&*identity.user, "42");
    assert_eq!(*identity.channels, [channel("user:42")]);
    assert!(
        identity.grants.allows(Right::Publish, &channel("chat:1"))
            && !identity.grants.allows(Right::Publish, &channel("news"))
    );
    assert!(identity.expires_at.unwrap().get().abs_diff(unix_now() + 600) < 60);

    for (wrong, part) in [
        (["--cap", "news"], "CHANNEL=sub,pub"),
        (["--cap", "news=read"], "none of sub"),
        (["--cap", "new*=sub"], "whole segments"),
        (["--channel", "a b"], "printable ASCII"),
        (["--ttl", "10"], "unit"),
        (["--ttl", "0s"], "less than a second"),
        (["--info", "{"], "EOF"),
    ] {
        let text = refused(&[&["token", "--secret", SECRET, "--user", "u"], wrong.as_slice()].concat());
        assert!(text.contains(part), "{wrong:?}: {text}");
    }
    assert!(refused(&["token", "--secret", "short", "--user", "u"]).contains("5 bytes"));
    assert!(refused(&["token", "--secret", SECRET, "--user", ""]).contains("invalid: sub"));
}

/// Answers one request with a status and a body, and returns what was asked.
async fn answer_once(listener: TcpListener, status: u16, body: &'static str) -> (http::request::Parts, Bytes) {
    let (stream, _) = listener.accept().await.unwrap();
    let (asked, mut asked_of) = tokio::sync::mpsc::channel(1);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let asked = asked.clone();
        async move {
            let (parts, incoming) = request.into_parts();
            asked.send((parts, incoming.collect().await.unwrap().to_bytes())).await.unwrap();
            Ok::<_, Infallible>(http::Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap())
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    asked_of.recv().await.unwrap()
}

#[tokio::test]
async fn publish_posts_and_tells_the_outcome() {
    let cases = [
        (200, r#"{"result":{"offset":7,"epoch":"e"}}"#, Ok("published at offset 7, epoch e")),
        (200, r#"{"result":{}}"#, Ok("published (the channel keeps no history")),
        (200, r#"{"error":{"code":102,"message":"unknown channel"}}"#, Err("unknown channel (code 102)")),
        (401, r#"{"error":{"code":401,"message":"unauthorized"}}"#, Err("refused with 401 Unauthorized: unauthorized")),
        (503, "{}", Err("refused with 503")),
        (200, "<html>", Err("the answer is not JSON")),
    ];
    for (status, body, expected) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let Ok(Action::Publish(request)) = run(&["publish", "--url", &url, "--api-key", "k", "news", "{\"a\":1}"])
        else {
            panic!()
        };
        let (outcome, (parts, asked)) = tokio::join!(request.send(), answer_once(listener, status, body));
        match (outcome, expected) {
            (Ok(text), Ok(part)) => assert!(text.starts_with(part), "{text}"),
            (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{error:#}"),
            (outcome, _) => panic!("{body}: {outcome:?}"),
        }
        assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/api/publish"));
        assert_eq!(parts.headers["x-api-key"], "k");
        assert_eq!(asked, r#"{"channel":"news","data":{"a":1}}"#);
    }
    let Ok(Action::Publish(nobody)) = run(&["publish", "--url", "http://127.0.0.1:1", "news", "text"]) else {
        panic!()
    };
    assert!(format!("{:#}", nobody.send().await.unwrap_err()).contains("is a node running there?"));
    assert!(refused(&["publish", "--url", "https://h", "a", "b"]).contains("only http://"));
    assert!(refused(&["publish", "--url", "nonsense", "a", "b"]).contains("is not a URL"));
}
