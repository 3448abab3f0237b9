#![allow(clippy::unwrap_used)]

use config::FileFormat;

use super::*;

/// A rule's two settings, values that contradict each other, and values at the border that do not.
struct Case {
    settings: [&'static str; 2],
    red: &'static str,
    /// The values as the error has them.
    values: [&'static str; 2],
    boundary: &'static str,
}

const CASES: &[Case] = &[
    Case {
        settings: ["server.internal_listen", "server.listen"],
        red: "server = { listen = '127.0.0.1:80', internal_listen = '0.0.0.0:80' }",
        values: ["0.0.0.0:80", "127.0.0.1:80"],
        boundary: "server = { listen = '127.0.0.1:80', internal_listen = '127.0.0.2:80' }",
    },
    Case {
        settings: ["server.api_listen", "server.listen"],
        red: "server = { listen = '[::]:80', api_listen = '127.0.0.1:80' }",
        values: ["127.0.0.1:80", "[::]:80"],
        boundary: "server = { listen = '0.0.0.0:80', api_listen = '[::1]:80' }",
    },
    Case {
        settings: ["server.api_listen", "server.internal_listen"],
        red: "server = { api_listen = '127.0.0.1:81', internal_listen = '127.0.0.1:81' }",
        values: ["127.0.0.1:81", "127.0.0.1:81"],
        boundary: "server = { api_listen = '127.0.0.1:0', internal_listen = '127.0.0.1:0' }",
    },
    Case {
        settings: ["server.accept_burst", "server.accept_rate"],
        red: "server = { accept_burst = 5 }",
        values: ["5", "unset"],
        boundary: "server = { accept_burst = 5, accept_rate = 1 }",
    },
    Case {
        settings: ["server.max_refusals", "server.accept_rate"],
        red: "server = { max_refusals = 0, accept_rate = 7 }",
        values: ["0", "7"],
        boundary: "server = { max_refusals = 1, accept_rate = 7 }",
    },
    Case {
        settings: ["server.user_timeout", "client.ping_interval"],
        red: "server = { user_timeout = '59s' }",
        values: ["59s", "25s"],
        boundary: "server = { user_timeout = '1m' }",
    },
    Case {
        settings: ["server.http2.stream_window", "server.http2.connection_window"],
        red: "server.http2 = { stream_window = '65 KiB', connection_window = '64 KiB' }",
        values: ["65.0 KiB", "64.0 KiB"],
        boundary: "server.http2 = { stream_window = '64 KiB', connection_window = '64 KiB' }",
    },
    Case {
        settings: ["redis.url", "broker.engine"],
        red: "redis = { url = 'redis://:hush@redis:6379' }",
        values: ["set", "memory"],
        boundary: "redis = { url = 'redis://:hush@redis:6379' }\nbroker = { engine = 'redis' }",
    },
    Case {
        settings: ["redis.connect_timeout", "redis.read_timeout"],
        red: "redis = { connect_timeout = '2001ms' }",
        values: ["2s 1ms", "2s"],
        boundary: "redis = { connect_timeout = '2s' }",
    },
    Case {
        settings: ["auth.anonymous_tokens", "auth.keys"],
        red: "auth = { anonymous_tokens = true, allow_anonymous = true }",
        values: ["true", "empty"],
        boundary: "auth = { anonymous_tokens = true, keys = [{ algorithm = 'HS256' }] }",
    },
    Case {
        settings: ["auth.max_token_lifetime", "client.expiry_grace"],
        red: "auth.max_token_lifetime = '25s'",
        values: ["25s", "25s"],
        boundary: "auth.max_token_lifetime = '26s'",
    },
    Case {
        settings: ["client.pong_timeout", "client.ping_interval"],
        red: "client = { pong_timeout = '2s', ping_interval = '2s' }",
        values: ["2s", "2s"],
        boundary: "client = { pong_timeout = '1999ms', ping_interval = '2s' }",
    },
    Case {
        settings: ["client.channel_limit", "client.command_burst"],
        red: "client = { channel_limit = 201 }",
        values: ["201", "200"],
        boundary: "client = { channel_limit = 200 }",
    },
    Case {
        settings: ["client.channel_limit", "client.message_size"],
        red: "client = { channel_limit = 513, command_burst = 1000 }",
        values: ["513", "64.0 KiB"],
        boundary: "client = { channel_limit = 512, command_burst = 1000 }",
    },
    Case {
        settings: ["rebalance.shed_ratio", "rebalance.shed_target"],
        red: "rebalance = { shed_ratio = 1.1, shed_target = 1.1 }",
        values: ["1.1", "1.1"],
        boundary: "rebalance = { shed_ratio = 1.11, shed_target = 1.1 }",
    },
    Case {
        settings: ["default_namespace.history_ttl", "default_namespace.history_size"],
        red: "default_namespace = { history_size = 5 }",
        values: ["0s", "5"],
        boundary: "default_namespace = { history_size = 5, history_ttl = '1ms' }",
    },
    Case {
        settings: ["namespaces.a.history_size", "namespaces.a.history_ttl"],
        red: "namespaces.a = { history_ttl = '5m' }",
        values: ["0", "5m"],
        boundary: "namespaces.a = { history_ttl = '5m', history_size = 1 }",
    },
    Case {
        settings: ["namespaces.a.recovery", "namespaces.a.history_size"],
        red: "namespaces.a = { recovery = true }",
        values: ["true", "0"],
        boundary: "namespaces.a = { recovery = true, history_size = 1, history_ttl = '1s' }",
    },
    Case {
        settings: ["namespaces.a.meta_ttl", "namespaces.a.history_ttl"],
        red: "namespaces.a = { history_size = 1, history_ttl = '1h', meta_ttl = '59m' }",
        values: ["59m", "1h"],
        boundary: "namespaces.a = { history_size = 1, history_ttl = '1h', meta_ttl = '1h' }",
    },
    Case {
        settings: ["namespaces.a.meta_ttl", "client.position_check"],
        red: "namespaces.a = { history_size = 1, history_ttl = '1s', meta_ttl = '59s' }",
        values: ["59s", "20s"],
        boundary: "namespaces.a = { history_size = 1, history_ttl = '1s', meta_ttl = '60s' }",
    },
];

fn checked(toml: &str) -> Result<(), String> {
    let source = config::File::from_str(toml, FileFormat::Toml);
    let settings: Settings = config::Config::builder().add_source(source).build().unwrap().try_deserialize().unwrap();
    check(&settings).map_err(|problems| problems.to_string())
}

#[test]
fn the_defaults_contradict_nothing() {
    assert_eq!(checked(""), Ok(()));
    assert_eq!(check(&Settings::dev(crate::config::DevOptions::default())), Ok(()));
}

#[test]
fn every_rule_names_both_settings_both_values_and_the_remedy() {
    for Case { settings: [setting, other], red, values: [value, other_value], boundary } in CASES {
        let refusal = checked(red).unwrap_err();
        let beginning = format!("{setting}: is {value}, but {other} is {other_value}: ");
        assert!(refusal.starts_with(&beginning), "{red} gives {refusal:?}, not {beginning:?}");
        assert_eq!(refusal.lines().count(), 1, "nothing else is wrong: {refusal}");
        let rule = RULES.iter().find(|rule| setting.ends_with(rule.setting) && other.ends_with(rule.other)).unwrap();
        assert!(refusal.ends_with(&format!("{}; {}", rule.breaks, rule.remedy)), "{refusal}");
        assert!(!refusal.contains("hush"), "a password: {refusal}");
        assert_eq!(checked(boundary), Ok(()), "{boundary}");
    }
}

#[test]
fn every_rule_has_a_case() {
    assert_eq!(RULES.len(), CASES.len());
    for (rule, case) in RULES.iter().zip(CASES) {
        assert!(case.settings[0].ends_with(rule.setting), "{} is not of {}", rule.setting, case.settings[0]);
        assert!(case.settings[1].ends_with(rule.other), "{} is not of {}", rule.other, case.settings[1]);
    }
}

#[test]
fn a_rule_about_namespaces_holds_for_each() {
    let toml = "default_namespace = { recovery = true }\nnamespaces.a = { recovery = true }\nnamespaces.b = {}";
    let refusal = checked(toml).unwrap_err();
    let named: Vec<_> = refusal.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(named, ["default_namespace.recovery", "namespaces.a.recovery"]);
}

#[test]
fn what_does_not_apply_is_not_checked() {
    for toml in [
        // What one node closes, many others take.
        "broker.engine = 'redis'\nserver.accept_rate = 1",
        "rebalance.max_connection_age = '100s'\nserver = { accept_rate = 1, max_connections = 100000 }",
        // There is no log whose meta data could expire.
        "default_namespace.meta_ttl = '1s'",
    ] {
        assert_eq!(checked(toml), Ok(()), "{toml}");
    }
}
