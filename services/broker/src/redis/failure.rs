//! What an error of Redis means: was it done, will retrying help, and if not, what is the cure.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::names::Names;
use crate::{BrokerError, Refusal};

/// The commands that the engine uses, as an ACL rule.
const COMMANDS: &str = "+fcall +fcall_ro +function|load +evalsha +eval +evalsha_ro +eval_ro +info +ping +unwatch +get \
                        +set +del +hset +hdel +hexists +hlen +hmget +pexpire +publish +subscribe +unsubscribe";

/// What to do about an error that no retrying cures.
pub(crate) fn cure(error: &RedisError, names: &Names) -> Option<String> {
    let text = said(error);
    let says = |words: &str| text.contains(words);
    if error.kind() == ErrorKind::AuthenticationFailed || says("WRONGPASS") {
        return Some("the server refuses the login: check redis.user and redis.password".into());
    }
    if says("NOAUTH") {
        return Some("the server wants a login: set redis.password (and redis.user)".into());
    }
    if says("not allowed from script") {
        return Some(
            "the server forbids INFO in scripts, which tells apart the reigns of primaries: use a server that allows it"
                .into(),
        );
    }
    if is_not_permitted(&text) {
        let pattern = names.pattern();
        return Some(format!("the server's ACL refuses it ({text}): give the user ~{pattern} &{pattern} {COMMANDS}"));
    }
    if says("FWREPLID") {
        return Some(
            "INFO of this server does not tell master_replid, without which lost publications after a failover could \
             not be noticed: connect to Redis itself, not through a service or proxy that hides it"
                .into(),
        );
    }
    if says("FWVERSION") {
        return Some("the logs were written by a newer version: update this node".into());
    }
    if says("unknown command") || says("Unknown Redis command") {
        return Some(format!("the server lacks a command ({text}): Redis 7.0 or newer is needed"));
    }
    if says("DB index is out of range") {
        return Some("the server has no such database: check redis.database".into());
    }
    if says("invalid peer certificate") {
        return Some(format!(
            "the server's certificate is refused ({text}): check redis.tls_ca_file and the host in redis.url"
        ));
    }
    None
}

/// What Redis or the network said, cut to a length that fits a line. It never contains a payload.
pub(crate) fn said(error: &RedisError) -> String {
    let text = match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        _ => error.to_string(),
    };
    // What follows tells the script's digest and line, which says nothing to people.
    let text = text.split(" script: ").next().unwrap_or_default();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

/// Whether the server answered, with a refusal: then nothing was done.
pub(crate) fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Whether the server says that it is a replica, so that the connection is of no use any more.
pub(crate) fn is_replica(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) || error.code() == Some("FWROLE")
}

/// The cause that a server names which answers and refuses, by its words; `None` if they mean that it is, or its data
/// are, in no state to do anything for anybody.
pub(crate) fn refusal(text: &str) -> Option<Refusal> {
    if is_not_permitted(text) {
        return Some(Refusal::NotPermitted);
    }
    match text.split(' ').next().unwrap_or_default() {
        "OOM" => Some(Refusal::Full),
        "READONLY" => Some(Refusal::ReadOnly),
        "MISCONF" => Some(Refusal::NotPersisted),
        "NOREPLICAS" => Some(Refusal::TooFewReplicas),
        "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" | "NOAUTH" | "WRONGTYPE" => {
            None
        }
        word if word.starts_with("FW") => None,
        _ => Some(Refusal::Other),
    }
}

fn is_not_permitted(text: &str) -> bool {
    let says = |words: &str| text.contains(words);
    // Outside of scripts, and in them.
    says("NOPERM") || says("The user executing the script can't") || says("No permissions") || says("no permissions")
}

/// A failed read, or write that changes nothing if repeated.
pub(crate) fn of_read(error: &RedisError) -> BrokerError {
    let reason = said(error);
    if matches!(error.code(), Some("FWDATA" | "FWVERSION" | "WRONGTYPE")) {
        return BrokerError::Corrupt(reason);
    }
    match refusal(&reason).filter(|_| is_answer(error)) {
        Some(cause) => BrokerError::Refused { cause, reason },
        None => BrokerError::Unavailable(reason),
    }
}

/// A failed publish. Every answer of the server proves that it was not done, and so does that it was never sent; silence
/// proves nothing.
pub(crate) fn of_publish(error: &RedisError) -> BrokerError {
    if is_answer(error) || error.kind() == ErrorKind::Client {
        of_read(error)
    } else {
        BrokerError::OutcomeUnknown(said(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_from_outages_and_damage() {
        for (text, expected) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", Some(Refusal::Full)),
            ("READONLY You can't write against a read only replica.", Some(Refusal::ReadOnly)),
            ("MISCONF Redis is configured to save RDB snapshots", Some(Refusal::NotPersisted)),
            ("NOREPLICAS Not enough good replicas to write.", Some(Refusal::TooFewReplicas)),
            ("NOPERM User fanway has no permissions to run the 'publish' command", Some(Refusal::NotPermitted)),
            ("ERR The user executing the script can't run this command or subcommand", Some(Refusal::NotPermitted)),
            ("ERR The user executing the script can't publish to the channel", Some(Refusal::NotPermitted)),
            ("ERR The user executing the script can't access at least one of the keys", Some(Refusal::NotPermitted)),
            ("ERR something else", Some(Refusal::Other)),
            ("LOADING Redis is loading the dataset in memory", None),
            ("FWROLE this server is a replica", None),
            ("WRONGTYPE Operation against a key", None),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }
}
