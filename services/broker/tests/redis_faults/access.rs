//! What the server lets us do: logins, ACL rules, TLS, databases, fleets.

use fanway_broker::{Broker, BrokerError, PageLimit, RedisSettings};
use fanway_testkit::redis::{RedisOptions, RedisServer};
use fanway_testkit::wait::until;

use crate::support::{KEEP, Node, channel, publish_all, request, settings};

/// The rule that the documentation and the cure give.
pub const RULE: &str = "fanway on >secret resetkeys ~fw:fanway:* resetchannels &fw:fanway:* nocommands +fcall \
                    +fcall_ro +function|load +evalsha +eval +evalsha_ro +eval_ro +info +ping +unwatch +get +set +del \
                    +hset +hdel +hexists +hlen +hmget +pexpire +publish +subscribe +unsubscribe";
/// What can be done without: scripts do the same.
const OPTIONAL: [&str; 3] = ["+fcall", "+fcall_ro", "+function|load"];

pub fn as_fanway(server: &RedisServer) -> RedisSettings {
    RedisSettings { user: Some("fanway".into()), password: Some("secret".into()), ..settings(&server.url()) }
}

#[tokio::test]
async fn the_rule_of_the_cure_is_enough() {
    let server = RedisOptions::default().user(RULE).start().await;
    let (node, news) = (Node::start(as_fanway(&server)).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(&node.broker, &news, 1..=2).await;
    node.ears.hear(&news, 2).await;
    node.tops(std::slice::from_ref(&news), true).await.unwrap();
    let query = fanway_broker::HistoryQuery { since: None, limit: PageLimit::entries(1), reverse: true };
    assert_eq!(node.history(&news, query, KEEP).await.unwrap().publications.len(), 1);
    node.unsubscribe(&news);
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
}

#[tokio::test]
async fn a_missing_right_is_named_with_its_cure_and_heals_when_given() {
    let server = RedisOptions::default().user(RULE).start().await;
    for word in RULE.split_whitespace().filter(|word| word.starts_with('+') && !OPTIONAL.contains(word)) {
        server.command(&format!("ACL SETUSER fanway -{}", &word[1..])).await;
        let node = Node::begin(as_fanway(&server));
        let detail = node.until_detail("give the user").await;
        assert!(detail.contains(word), "{word}: {detail}");
        server.command(&format!("ACL SETUSER fanway {word}")).await;
        // The connection had its rights checked again.
        node.until_well().await;
    }
}

/// How often a command was done since the server started.
pub async fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut server.admin().await).await.unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn functions_are_used_where_they_are_allowed_and_loaded_again_when_lost() {
    let server = RedisOptions::default().user(RULE).start().await;
    let (node, news) = (Node::start(as_fanway(&server)).await, channel("news"));
    server.command("CONFIG RESETSTAT").await;
    publish_all(&node.broker, &news, 1..=2).await;
    server.command("FUNCTION FLUSH").await;
    publish_all(&node.broker, &news, 3..=4).await;
    server.command("FUNCTION FLUSH").await;
    assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 4);
    assert_eq!((calls(&server, "evalsha").await, calls(&server, "eval").await), (0, 0));

    // Lost, and not to be loaded again.
    server.command("ACL SETUSER fanway -function|load").await;
    server.command("FUNCTION FLUSH").await;
    publish_all(&node.broker, &news, 5..=6).await;
    assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 6);
    assert!(calls(&server, "evalsha").await + calls(&server, "eval").await > 0);
}

#[tokio::test]
async fn functions_can_be_done_without() {
    let server = RedisOptions::default().user(RULE).start().await;
    for (number, word) in (1..).zip(OPTIONAL) {
        server.command(&format!("ACL SETUSER fanway -{}", &word[1..])).await;
        let (node, news) = (Node::start(as_fanway(&server)).await, channel(&format!("news-{number}")));
        server.command("CONFIG RESETSTAT").await;
        publish_all(&node.broker, &news, 1..=2).await;
        assert_eq!(
            node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(),
            2,
            "without {word}"
        );
        assert_eq!((calls(&server, "fcall").await, calls(&server, "fcall_ro").await), (0, 0), "without {word}");
        server.command(&format!("ACL SETUSER fanway {word}")).await;
    }
}

#[tokio::test]
async fn other_keys_and_channels_than_the_fleets_are_named() {
    let server = RedisOptions::default().user(RULE).start().await;
    let node = Node::begin(RedisSettings { fleet: "blue".into(), ..as_fanway(&server) });
    let detail = node.until_detail("give the user ~fw:blue:* &fw:blue:*").await;
    assert!(!node.health().started && !detail.contains("secret"), "{detail}");
    let refused = node.publish(request(&channel("news"), 1, KEEP)).await.unwrap_err();
    assert!(matches!(&refused, BrokerError::Unavailable(why) if why.contains("give the user")), "{refused:?}");
}

#[tokio::test]
async fn logins() {
    let server = RedisOptions::default().password("open sesame").start().await;
    let with =
        |password: Option<&str>| RedisSettings { password: password.map(str::to_owned), ..settings(&server.url()) };
    let wrong = Node::begin(with(Some("wrong-word")));
    let detail = wrong.until_detail("check redis.user and redis.password").await;
    assert!(!detail.contains("wrong-word"), "{detail}");
    until("the subscriber's refusal", || {
        wrong.health().detail.filter(|text| text.contains("nothing is heard: the server refuses the login"))
    })
    .await;
    Node::begin(with(None)).until_detail("set redis.password").await;
    Node::start(with(Some("open sesame"))).await;
}

#[tokio::test]
async fn tls() {
    let server = RedisOptions::default().tls().password("secret").start().await;
    let good = RedisSettings {
        tls_ca_file: Some(server.ca_file()),
        password: Some("secret".into()),
        ..settings(&server.url())
    };
    let (node, news) = (Node::start(good.clone()).await, channel("news"));
    node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    publish_all(&node.broker, &news, 1..=5).await;
    node.ears.hear(&news, 5).await;
    assert_eq!(node.read(&news, Some(0), PageLimit::entries(10)).await.unwrap().unwrap().entries.len(), 5);

    // Signed by somebody else.
    let other = RedisOptions::default().tls().start().await;
    let strange = Node::begin(RedisSettings { tls_ca_file: Some(other.ca_file()), ..good });
    strange.until_detail("check redis.tls_ca_file").await;
}

#[tokio::test]
async fn fleets_and_databases_are_apart() {
    let server = RedisServer::start().await;
    let news = channel("news");
    let fleet = |fleet: &str, database| RedisSettings { fleet: fleet.into(), database, ..settings(&server.url()) };
    let blue = Node::start(fleet("blue", 0)).await;
    let green = Node::start(fleet("green", 0)).await;
    let third = Node::start(fleet("third", 3)).await;
    for node in [&blue, &green, &third] {
        node.subscribe(std::slice::from_ref(&news)).await.unwrap();
    }
    publish_all(&blue.broker, &news, 1..=2).await;
    publish_all(&third.broker, &news, 1..=1).await;
    publish_all(&green.broker, &news, 1..=1).await;
    green.ears.hear(&news, 1).await;
    blue.ears.hear(&news, 2).await;
    third.ears.hear(&news, 1).await;
    for (node, offset) in [(&blue, 2), (&green, 1), (&third, 1)] {
        assert_eq!(node.read(&news, None, PageLimit::entries(0)).await.unwrap().unwrap().top.offset, offset);
        assert_eq!(node.ears.heard(&news).len() as u64, offset);
    }
    let keys: Vec<String> = redis::pipe()
        .cmd("SELECT")
        .arg(3)
        .ignore()
        .cmd("KEYS")
        .arg("fw:third:[hm]:*")
        .query_async::<(Vec<String>,)>(&mut server.admin().await)
        .await
        .unwrap()
        .0;
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[tokio::test]
async fn an_evicting_server_is_warned_about() {
    let server = RedisOptions::default().config("maxmemory-policy allkeys-lru").start().await;
    let node = Node::begin(settings(&server.url()));
    let detail = node.until_detail("maxmemory-policy").await;
    assert!(detail.contains("set maxmemory-policy noeviction") && node.health().commands, "{detail}");
}
