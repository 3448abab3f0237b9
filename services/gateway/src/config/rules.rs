//! Settings that contradict each other.
//!
//! What a value must be by itself is checked by the section that owns it. Here is what two settings must fulfil together,
//! each of them being fine alone: one table, so that whoever adds a setting sees what it may collide with. A rule belongs
//! here if its violation breaks a promise (a false gap, a client that reconnects for ever, a setting without effect), not
//! if it is merely unwise.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use humantime_serde::re::humantime::format_duration;

use super::problem::Problems;
use super::{Engine, NamespaceSettings, Settings};

/// Both values, where they contradict each other.
type Conflict = Option<[String; 2]>;

/// Two settings, and when they contradict each other.
struct Rule {
    /// The setting that the error is about. A name that begins with a dot is one of each namespace.
    setting: &'static str,
    /// The setting that it contradicts.
    other: &'static str,
    conflict: Check,
    /// What would happen.
    breaks: &'static str,
    remedy: &'static str,
}

/// What a rule looks at.
enum Check {
    Node(fn(&Settings) -> Conflict),
    Namespace(fn(&Settings, &NamespaceSettings) -> Conflict),
}

/// A channel's meta data must live so many intervals of `client.position_check`, which refresh it. An interval is up to one
/// and a half times as long as set, and a channel with a publication in the last half is left out: two, and the rest for
/// the refresh to be slow.
const REFRESHES: u32 = 3;

/// Bytes of the command with which an SDK resumes a channel whose name has 30: it sends those of all channels in one message.
const RESUME_BYTES: u64 = 128;

const RULES: &[Rule] = &[
    Rule {
        setting: "server.internal_listen",
        other: "server.listen",
        conflict: Check::Node(|s| overlap(s.server.internal_listen, Some(s.server.listen))),
        breaks: "only one of them could be listened on",
        remedy: "give each a port of its own",
    },
    Rule {
        setting: "server.api_listen",
        other: "server.listen",
        conflict: Check::Node(|s| overlap(s.server.api_listen, Some(s.server.listen))),
        breaks: "only one of them could be listened on",
        remedy: "give each a port of its own",
    },
    Rule {
        setting: "server.api_listen",
        other: "server.internal_listen",
        conflict: Check::Node(|s| overlap(s.server.api_listen, s.server.internal_listen)),
        breaks: "only one of them could be listened on",
        remedy: "give each a port of its own, or leave server.api_listen out",
    },
    Rule {
        setting: "server.accept_burst",
        other: "server.accept_rate",
        conflict: Check::Node(|s| {
            let burst = s.server.accept_burst.filter(|_| s.server.accept_rate.is_none())?;
            conflict(true, burst, "unset")
        }),
        breaks: "without a rate there is no burst",
        remedy: "set server.accept_rate, or leave server.accept_burst out",
    },
    Rule {
        setting: "server.max_refusals",
        other: "server.accept_rate",
        conflict: Check::Node(|s| conflict(s.server.max_refusals == 0, s.server.max_refusals, s.server.accept_rate?)),
        breaks: "above the rate nobody could be heard out, nor health checks let in",
        remedy: "set server.max_refusals to at least 1",
    },
    Rule {
        setting: "server.user_timeout",
        other: "client.ping_interval",
        conflict: Check::Node(|s| {
            let (timeout, least) = (s.server.user_timeout?, s.least_user_timeout());
            conflict(timeout < least, time(timeout), time(s.client.ping_interval))
        }),
        breaks: "a client would be cut off because of one lost heartbeat, or before client.write_stall is over",
        remedy: "set server.user_timeout to at least twice client.ping_interval and client.write_stall, or leave it out",
    },
    Rule {
        setting: "server.http2.stream_window",
        other: "server.http2.connection_window",
        conflict: Check::Node(|s| {
            let (stream, connection) = (s.server.http2.stream_window, s.server.http2.connection_window);
            conflict(stream > connection, stream, connection)
        }),
        breaks: "no request could ever send so much ahead",
        remedy: "lower the first or raise the second",
    },
    Rule {
        setting: "redis.url",
        other: "broker.engine",
        conflict: Check::Node(|s| {
            let is_set = s.redis.url != fanway_broker::redis::RedisSettings::default().url;
            // Not the URL: a password may stand in it.
            conflict(is_set && s.broker.engine == Engine::Memory, "set", "memory")
        }),
        breaks: "each node would be alone, and what is published on one would not reach the clients of others",
        remedy: "set broker.engine to redis, or leave redis.url out",
    },
    Rule {
        setting: "redis.connect_timeout",
        other: "redis.read_timeout",
        conflict: Check::Node(|s| {
            let (connect, read) = (s.redis.connect_timeout, s.redis.read_timeout);
            conflict(connect > read, time(connect), time(read))
        }),
        breaks: "a read waits for its connection too, and would give up before a slow one is made, each time anew",
        remedy: "raise redis.read_timeout or lower redis.connect_timeout",
    },
    Rule {
        setting: "auth.anonymous_tokens",
        other: "auth.keys",
        conflict: Check::Node(|s| conflict(s.auth.anonymous_tokens && s.auth.keys.is_empty(), true, "empty")),
        breaks: "no token at all would be valid",
        remedy: "add a key, or set auth.allow_anonymous instead if clients need no token",
    },
    Rule {
        setting: "auth.max_token_lifetime",
        other: "client.expiry_grace",
        conflict: Check::Node(|s| {
            let (lifetime, grace) = (s.auth.max_token_lifetime?, s.client.expiry_grace);
            conflict(lifetime <= grace, time(lifetime), time(grace))
        }),
        breaks: "every token would be about to expire from its first moment, and clients would renew it without end",
        remedy: "raise auth.max_token_lifetime or lower client.expiry_grace",
    },
    Rule {
        setting: "client.pong_timeout",
        other: "client.ping_interval",
        conflict: Check::Node(|s| {
            let (pong, ping) = (s.client.pong_timeout, s.client.ping_interval);
            conflict(pong >= ping, time(pong), time(ping))
        }),
        breaks: "nobody could tell which ping a pong answers",
        remedy: "lower client.pong_timeout or raise client.ping_interval",
    },
    Rule {
        setting: "client.channel_limit",
        other: "client.command_burst",
        conflict: Check::Node(|s| {
            // A client that is at its rate already may be so many commands ahead.
            let (channels, burst) = (s.client.channel_limit, s.client.command_burst);
            conflict(channels as u64 > u64::from(burst), channels, burst)
        }),
        breaks: "a client that resumes all its channels at once would be closed with 3013, \
                 and its SDK would reconnect for ever",
        remedy: "lower client.channel_limit or raise client.command_burst",
    },
    Rule {
        setting: "client.channel_limit",
        other: "client.message_size",
        conflict: Check::Node(|s| {
            let (channels, size) = (s.client.channel_limit, s.client.message_size);
            conflict((channels as u64).saturating_mul(RESUME_BYTES) > size.as_u64(), channels, size)
        }),
        breaks: "a client that resumes all its channels in one message, at about 128 B each, would be closed for its size, \
                 and its SDK would reconnect for ever",
        remedy: "lower client.channel_limit or raise client.message_size",
    },
    Rule {
        setting: "rebalance.shed_ratio",
        other: "rebalance.shed_target",
        conflict: Check::Node(|s| {
            let (ratio, target) = (s.rebalance.shed_ratio, s.rebalance.shed_target);
            conflict(ratio <= target, ratio, target)
        }),
        breaks: "shedding would begin again where it ends",
        remedy: "raise rebalance.shed_ratio or lower rebalance.shed_target",
    },
    Rule {
        setting: ".history_ttl",
        other: ".history_size",
        conflict: Check::Namespace(|_, n| {
            conflict(n.history_size > 0 && n.history_ttl.is_zero(), time(n.history_ttl), n.history_size)
        }),
        breaks: "history needs both",
        remedy: "set history_ttl, to \"5m\" for example, or history_size to 0",
    },
    Rule {
        setting: ".history_size",
        other: ".history_ttl",
        conflict: Check::Namespace(|_, n| {
            conflict(n.history_size == 0 && !n.history_ttl.is_zero(), n.history_size, time(n.history_ttl))
        }),
        breaks: "history needs both",
        remedy: "set history_size, to 100 for example, or history_ttl to \"0s\"",
    },
    Rule {
        setting: ".recovery",
        other: ".history_size",
        conflict: Check::Namespace(|_, n| {
            conflict(n.recovery == Some(true) && n.history_size == 0, true, n.history_size)
        }),
        breaks: "there would be no history to recover from",
        remedy: "set history_size and history_ttl, or leave recovery out",
    },
    Rule {
        setting: ".meta_ttl",
        other: ".history_ttl",
        conflict: Check::Namespace(|_, n| conflict(n.meta_ttl < n.history_ttl, time(n.meta_ttl), time(n.history_ttl))),
        breaks: "history would outlive the positions that find it",
        remedy: "raise meta_ttl or lower history_ttl",
    },
    Rule {
        setting: ".meta_ttl",
        other: "client.position_check",
        conflict: Check::Namespace(|s, n| {
            let (meta, check) = (n.meta_ttl, s.client.position_check);
            conflict(n.history_size > 0 && meta < check.saturating_mul(REFRESHES), time(meta), time(check))
        }),
        breaks: "a live channel without traffic is refreshed once per check and would lose its position in between: false gaps",
        remedy: "raise meta_ttl to at least three times client.position_check, or lower that",
    },
];

/// All contradictions.
pub(super) fn check(settings: &Settings) -> Result<(), Problems> {
    let mut problems = Problems::default();
    for rule in RULES {
        match rule.conflict {
            Check::Node(conflict) => rule.report(conflict(settings), "", &mut problems),
            Check::Namespace(conflict) => {
                let default = ("default_namespace".to_owned(), &settings.default_namespace);
                let named = settings.namespaces.iter().map(|(name, options)| (format!("namespaces.{name}"), options));
                for (path, options) in std::iter::once(default).chain(named) {
                    rule.report(conflict(settings, options), &path, &mut problems);
                }
            }
        }
    }
    problems.into_result(())
}

impl Rule {
    /// Notes a conflict, in the namespace with this path.
    fn report(&self, conflict: Conflict, namespace: &str, problems: &mut Problems) {
        let Some([value, other_value]) = conflict else { return };
        let path = |name: &str| if name.starts_with('.') { format!("{namespace}{name}") } else { name.to_owned() };
        let (setting, other) = (path(self.setting), path(self.other));
        let fault = format!("is {value}, but {other} is {other_value}: {}; {}", self.breaks, self.remedy);
        problems.add_conflict(setting, other, fault);
    }
}

fn conflict(contradict: bool, value: impl Display, other: impl Display) -> Conflict {
    contradict.then(|| [value.to_string(), other.to_string()])
}

fn time(duration: Duration) -> impl Display {
    format_duration(duration)
}

/// Two addresses that the kernel does not let anybody listen on at the same time.
fn overlap(one: Option<SocketAddr>, other: Option<SocketAddr>) -> Conflict {
    let (one, other) = (one?, other?);
    // Every address includes those of version 4, if it is the one of version 6.
    let covers = |all: IpAddr, address: IpAddr| all.is_unspecified() && (all.is_ipv6() || address.is_ipv4());
    let same = one.ip() == other.ip() || covers(one.ip(), other.ip()) || covers(other.ip(), one.ip());
    // Port 0 is any free one.
    conflict(one.port() == other.port() && one.port() != 0 && same, one, other)
}

#[cfg(test)]
mod tests;
