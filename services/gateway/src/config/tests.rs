use std::collections::BTreeSet;
use std::path::PathBuf;

use fanway_hub::Access;
use serde_json::Value;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A file that is kept as long as the returned directory.
fn file(toml: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fanway.toml");
    std::fs::write(&path, toml).unwrap();
    (dir, path)
}

fn load_with(toml: &str, environment: &[(&str, &str)], flags: Vec<(&'static str, String)>) -> Result<Settings, String> {
    let (_dir, path) = file(toml);
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::load(&Sources { file: Some(path), environment, flags }).map_err(|error| error.to_string())
}

/// Loads a file to which a usable key is added.
fn load(toml: &str) -> Result<Settings, String> {
    load_with(toml, &[("FANWAY__AUTH__ALLOW_ANONYMOUS", "true")], Vec::new())
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    let (_dir, path) = file(Settings::default_toml());
    let read = Settings::read(&Sources { file: Some(path), ..Sources::default() }).unwrap();
    assert_eq!(read, Settings::default());
}

/// Paths of all settings that have a value.
fn paths(prefix: &str, value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| paths(&format!("{prefix}.{name}"), value, into))
        }
        _ => drop(into.insert(prefix.trim_start_matches('.').to_owned())),
    }
}

#[test]
fn the_printed_defaults_show_every_setting() {
    let mut known = BTreeSet::new();
    paths("", &serde_json::to_value(Settings::default()).unwrap(), &mut known);
    let text = Settings::default_toml();
    let mut shown = BTreeSet::new();
    let mut section = "";
    for line in text.lines() {
        let line = line.trim_start_matches("# ");
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((name, _)) = line.split_once(" = ") {
            shown.insert(format!("{section}.{name}"));
        }
    }
    let missing: Vec<_> = known.difference(&shown).collect();
    assert!(missing.is_empty(), "not in defaults.toml: {missing:?}");
}

#[test]
fn later_sources_win() {
    let toml = "server.listen = \"127.0.0.1:1\"\n[client]\nchannel_limit = 5\nhistory_limit = 6";
    let environment =
        [("FANWAY__CLIENT__CHANNEL_LIMIT", "7"), ("FANWAY__SERVER__LISTEN", "127.0.0.1:2"), ("OTHER", "x")];
    let anonymous = [("FANWAY__AUTH__ALLOW_ANONYMOUS", "true")];
    let environment = [environment.as_slice(), &anonymous].concat();
    let settings = load_with(toml, &environment, vec![("server.listen", "127.0.0.1:3".to_owned())]).unwrap();
    assert_eq!(settings.server.listen.port(), 3);
    assert_eq!(settings.client.channel_limit, 7);
    assert_eq!(settings.client.history_limit, 6);
    assert_eq!(settings.client.recovery_limit, Limits::default().recovery_limit);
}

#[test]
fn the_environment_reaches_into_lists_and_maps() {
    let toml = "[[auth.keys]]\nalgorithm = \"HS256\"\nkid = \"k\"";
    let environment = [
        ("FANWAY__AUTH__KEYS__0__SECRET", SECRET),
        ("FANWAY__AUTH__ALLOWED_ORIGINS", r#"["https://a.example", "https://b.example"]"#),
        ("FANWAY__API__KEYS", r#"[{ id = "x", key = "0123456789abcdef" }]"#),
        ("FANWAY__NAMESPACES__CHAT__HISTORY_SIZE", "10"),
        ("FANWAY__NAMESPACES__CHAT__HISTORY_TTL", "5m"),
        ("FANWAY__CLIENT__MESSAGE_SIZE", "32 KiB"),
        ("FANWAY__REDIS__PASSWORD", "{a secret may begin with anything"),
    ];
    let settings = load_with(toml, &environment, Vec::new()).unwrap();
    assert_eq!(settings.auth.keys[0].kid.as_deref(), Some("k"));
    assert_eq!(settings.auth.keys[0].secret.as_ref().unwrap().expose(), SECRET);
    assert_eq!(settings.auth.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(settings.api.keys[0].id, "x");
    assert_eq!(settings.namespaces["chat"].history_size, 10);
    assert_eq!(settings.client.message_size.as_u64(), 32 * 1024);
    assert_eq!(settings.redis.password.as_deref(), Some("{a secret may begin with anything"));
    let refusal = load_with("", &[("FANWAY__AUTH__KEYS", "[nonsense")], Vec::new()).unwrap_err();
    assert!(refusal.contains("FANWAY__AUTH__KEYS"), "{refusal}");
    let refusal = load_with("", &[("FANWAY__SEVER__LISTEN", "x")], Vec::new()).unwrap_err();
    assert!(refusal.contains("sever") && refusal.contains("did you mean `server`?"), "{refusal}");
}

#[test]
fn what_is_wrong_in_the_environment_is_named_by_its_variable() {
    let good = [("FANWAY__AUTH__KEYS__0__ALGORITHM", "HS256"), ("FANWAY__AUTH__KEYS__0__SECRET", SECRET)];
    let refusal = |name: &str, value: &str| {
        let others = good.iter().copied().filter(|(other, _)| *other != name);
        let environment: Vec<_> = others.chain([(name, value)]).collect();
        let toml = "namespaces.chat = { history_size = 1, history_ttl = '1m', meta_ttl = '26m' }";
        load_with(toml, &environment, Vec::new()).unwrap_err()
    };
    for (name, value, part) in [
        // Unknown, at every depth.
        ("FANWAY__SEVER__LISTEN", "x", "did you mean `server`?"),
        ("FANWAY__SERVER__LISTN", "x", "did you mean `listen`?"),
        ("FANWAY__CLIENT__CHANEL_LIMIT", "5", "did you mean `channel_limit`?"),
        ("FANWAY__AUTH__KEYS__0__SECRT", "x", "did you mean `secret`?"),
        ("FANWAY__NAMESPACES__CHAT__HISTORY", "{ x = 1 }", "namespaces.chat.history"),
        // Of the wrong type, or no such value.
        ("FANWAY__SERVER__LISTEN", "nowhere", "server.listen"),
        ("FANWAY__CLIENT__CHANNEL_LIMIT", "many", "client.channel_limit"),
        ("FANWAY__CLIENT__PING_INTERVAL", "25", "client.ping_interval"),
        ("FANWAY__BROKER__ENGINE", "reddis", "did you mean `redis`?"),
        ("FANWAY__AUTH__KEYS__1__SECRET", SECRET, "algorithm"),
        ("FANWAY__AUTH__KEYS__0__ALGORITHM", "HS255", "auth.keys[0].algorithm"),
        // Readable, but senseless.
        ("FANWAY__CLIENT__PONG_TIMEOUT", "30s", "client.pong_timeout"),
        ("FANWAY__CLIENT__POSITION_CHECK", "9m", "namespaces.chat.meta_ttl"),
        ("FANWAY__AUTH__ALLOWED_ORIGINS", r#"["https://a.example", "b"]"#, "auth.allowed_origins[1]"),
        ("FANWAY__AUTH__KEYS__0__SECRET", "short", "5 bytes; at least 32"),
        ("FANWAY__AUTH__KEYS__0__SECRET", "0123456789abcdef0123456789abcdef ", "ends with a blank"),
        ("FANWAY__REDIS__PASSWORD", "a ", "ends with a blank"),
        ("FANWAY__REDIS__PASSWORD", "\u{feff}a", "byte order mark"),
        ("FANWAY__REDIS__URL", "http://redis", "must begin with redis://"),
    ] {
        let refusal = refusal(name, value);
        assert!(refusal.contains(name) && refusal.contains(part), "{name}={value} gives {refusal:?}");
        let others = good.iter().filter(|(other, _)| *other != name && refusal.contains(other));
        assert_eq!(others.count(), 0, "only {name} is to blame: {refusal}");
        assert!(!refusal.contains("enableServiceLinks"), "{refusal}");
        assert!(!refusal.contains(SECRET), "{refusal}");
    }
    // Of a Service called "fanway--web".
    for (name, value) in [
        ("FANWAY__WEB_SERVICE_HOST", "10.0.0.1"),
        ("FANWAY__WEB_SERVICE_PORT_HTTP", "80"),
        ("FANWAY__WEB_PORT", "tcp://10.0.0.1:80"),
        ("FANWAY__WEB_PORT_80_TCP_ADDR", "10.0.0.1"),
    ] {
        let refusal = refusal(name, value);
        assert!(refusal.contains(name) && refusal.contains("enableServiceLinks to false"), "{refusal}");
    }
    // Of several, the one that the error is about.
    let environment =
        [good.as_slice(), &[("FANWAY__CLIENT__CHANEL_LIMIT", "5"), ("FANWAY__DRAIN__WINDOW", "x")]].concat();
    let refusal = load_with("", &environment, Vec::new()).unwrap_err();
    let window = refusal.contains("drain.window");
    assert_eq!(refusal.contains("FANWAY__DRAIN__WINDOW"), window, "{refusal}");
    assert_eq!(refusal.contains("FANWAY__CLIENT__CHANEL_LIMIT"), !window, "{refusal}");
    // What the file says is not blamed on the environment.
    let refusal = load_with("[client]\nchanel_limit = 5", &good, Vec::new()).unwrap_err();
    assert!(!refusal.contains("FANWAY__"), "{refusal}");
}

#[test]
fn a_line_break_at_the_end_of_a_secret_does_not_count() {
    let environment = [
        ("FANWAY__AUTH__KEYS__0__ALGORITHM", "HS256"),
        ("FANWAY__AUTH__KEYS__0__SECRET", "0123456789abcdef0123456789abcdef\n"),
        ("FANWAY__REDIS__PASSWORD", "safe\r\n"),
        ("FANWAY__REDIS__URL", "redis://redis:6379\n"),
        ("FANWAY__BROKER__ENGINE", "redis"),
    ];
    let settings = load_with("", &environment, Vec::new()).unwrap();
    assert_eq!(settings.redis.password.as_deref(), Some("safe"));
    assert_eq!(settings.redis.url, "redis://redis:6379");
    let inline = "auth.allow_anonymous = true\n[redis]\npassword = \"\"\"safe\n\"\"\"";
    assert_eq!(load_with(inline, &[], Vec::new()).unwrap().redis.password.as_deref(), Some("safe"));
}

#[test]
fn unreadable_settings_are_named() {
    let table = [
        ("servr.listen = \"x\"", "did you mean `server`?"),
        ("[client]\nping_intervall = \"1s\"", "client"),
        ("[client]\nping_intervall = \"1s\"", "did you mean `ping_interval`?"),
        ("[client]\nping_interval = \"25\"", "client.ping_interval"),
        ("[client]\nchannel_limit = \"many\"", "client.channel_limit"),
        ("[client]\nchannel_limit = -1", "client.channel_limit"),
        ("[server]\nlisten = \"nowhere\"", "server.listen"),
        ("[broker]\nengine = \"reddis\"", "did you mean `redis`?"),
        ("[[auth.keys]]\nalgorithm = \"none\"\nsecret = \"x\"", "auth.keys[0].algorithm"),
        ("[[auth.keys]]\nsecret = \"x\"", "algorithm"),
        ("[[auth.keys]]\nalgorithm = \"HS256\"\nsecrt = \"x\"", "did you mean `secret`?"),
        ("[[api.keys]]\nid = \"x\"\nscopes = [\"write\"]", "expected one of `publish`"),
        ("[default_namespace]\nsubscribe = \"all\"", "expected one of `granted`"),
        ("[telemetry]\nlog_format = \"yaml\"", "telemetry.log_format"),
        ("[client\n", "fanway.toml"),
    ];
    for (toml, part) in table {
        let refusal = load(toml).unwrap_err();
        assert!(refusal.contains(part), "{toml:?} gives {refusal:?}, which lacks {part:?}");
    }
    let missing = Sources { file: Some(PathBuf::from("/nowhere/fanway.toml")), ..Sources::default() };
    assert_eq!(Settings::load(&missing).unwrap_err().to_string(), "/nowhere/fanway.toml: no such file");
}

#[test]
fn no_value_and_no_line_of_a_source_is_shown() {
    const HIDDEN: &str = "REALSECRET";
    let shown = |refusal: String, parts: &[&str]| {
        assert!(!refusal.contains(HIDDEN), "{refusal}");
        for part in parts {
            assert!(refusal.contains(part), "{refusal:?} lacks {part:?}");
        }
    };
    // A value of the environment that is no TOML.
    for (value, position) in [
        ("[{ algorithm = \"HS256\", secret = \"REALSECRET }]", "line 1, column 48"),
        ("[{ algorithm = \"HS256\",\n secret = REALSECRET }]", "line 2, column 11"),
    ] {
        let refusal = load_with("", &[("FANWAY__AUTH__KEYS", value)], Vec::new()).unwrap_err();
        shown(refusal, &["FANWAY__AUTH__KEYS", position]);
    }
    // A value of the wrong type, or none that there is.
    for (name, value, parts) in [
        ("FANWAY__AUTH__KEYS", "REALSECRET", ["auth.keys: ", "string, expected a sequence"]),
        ("FANWAY__AUTH__KEYS", "[\"REALSECRET\"]", ["auth.keys[0]: ", "invalid type: string"]),
        ("FANWAY__BROKER__ENGINE", "REALSECRET", ["broker.engine: ", "expected `memory` or `redis`"]),
        ("FANWAY__CLIENT__PING_INTERVAL", "REALSECRET", ["client.ping_interval: ", "expected a duration"]),
        ("FANWAY__CLIENT__MESSAGE_SIZE", "5 REALSECRET\" x", ["client.message_size: ", "invalid value: string"]),
    ] {
        shown(load_with("", &[(name, value)], Vec::new()).unwrap_err(), &[&[name], parts.as_slice()].concat());
    }
    // A file that is no TOML.
    for toml in ["[redis]\npassword = \"REALSECRET", "[redis]\npassword = REALSECRET"] {
        shown(load(toml).unwrap_err(), &["fanway.toml: line 2, column "]);
    }
}

#[test]
fn senseless_settings_are_named_all_at_once() {
    let toml = "
        [auth]
        keys = [{ algorithm = \"HS256\", secret = \"short secret\" }]
        allowed_origins = [\"*\"]
        cookie = \"session\"
        [client]
        pong_timeout = \"30s\"
        [default_namespace]
        history_size = 5
        [namespaces.a]
        recovery = true
        [namespaces.b]
        history_size = 5
        history_ttl = \"1h\"
        meta_ttl = \"1m\"
        [namespaces.default]
        subscribe = \"subscriber\"
        [namespaces.\"a:b\"]
        [drain]
        window = \"2h\"
        [telemetry]
        log_level = \"loud=very\"
    ";
    let refusal = load_with(toml, &[], Vec::new()).unwrap_err();
    let named: Vec<_> = refusal.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(
        named,
        [
            "auth.keys[0].secret",
            "auth.allowed_origins",
            "namespaces.a:b",
            "namespaces.default",
            "namespaces.default.subscribe",
            "drain.window",
            "telemetry.log_level",
            "client.pong_timeout",
            "default_namespace.history_ttl",
            "namespaces.a.recovery",
            "namespaces.b.meta_ttl",
        ],
        "{refusal}"
    );
    let nobody = load_with("", &[], Vec::new()).unwrap_err();
    assert!(nobody.starts_with("auth.keys: empty"), "{nobody}");
}

#[test]
fn namespaces_become_what_they_say() {
    let toml = "
        [namespaces.chat]
        history_size = 100
        history_ttl = \"5m\"
        subscribe = \"authenticated\"
        publish = \"subscriber\"
        [namespaces.log]
        history_size = 1
        history_ttl = \"1m\"
        recovery = false
        history = \"anyone\"
    ";
    let namespaces = load(toml).unwrap().validate().ok().unwrap().namespaces;
    let of = |name: &str| namespaces.of(&fanway_protocol::Channel::new(name).unwrap()).cloned();
    let chat = of("chat:1").unwrap();
    assert!(chat.recovery && chat.history_size == 100);
    assert_eq!(
        (chat.subscribe, chat.publish, chat.history),
        (Access::Authenticated, Access::Subscriber, Access::Granted)
    );
    let log = of("log:1").unwrap();
    assert!(!log.recovery && log.history == Access::Anyone);
    assert!(of("other:1").is_none());
    assert!(!of("plain").unwrap().recovery);
}

#[test]
fn dev_settings_are_valid_and_differ_in_their_secrets() {
    let (one, other) = (Settings::dev(DevOptions::default()), Settings::dev(DevOptions::default()));
    assert!(one.validate().is_ok());
    assert!(one.server.listen.ip().is_loopback());
    assert_ne!(one.auth.keys, other.auth.keys);
    assert_ne!(one.api.keys, other.api.keys);
    let shown = format!("{one:?}{}", serde_json::to_string(&one).unwrap());
    assert!(!shown.contains(one.auth.keys[0].secret.as_ref().unwrap().expose()));
    assert!(!shown.contains(one.api.keys[0].key.as_ref().unwrap().expose()));
}
