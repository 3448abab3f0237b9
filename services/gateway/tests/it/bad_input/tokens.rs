//! Authentication (corpus rows 36-59, without what needs key sets, revocation and tickets).

use ::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanway_testkit::node::{SECRET, Setting};
use fanway_testkit::token::Claims;
use fanway_testkit::websocket::Closed;
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};

use super::*;

const HS256: &str = r#"{"alg":"HS256"}"#;
const BOUND_SECRET: &str = "a secret that speaks for one issuer only";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// 401 `invalid_token`; 3500 for the connect command.
    Invalid,
    /// 401 `token_expired`; error 109 for the connect command.
    Expired,
}

use Verdict::{Expired, Good, Invalid};

/// The parts of a node's keys that a forger or an issuer has.
struct Keys {
    rsa: KeyPair,
    ec: KeyPair,
}

impl Keys {
    fn new() -> Self {
        Self {
            rsa: KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
            ec: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
        }
    }

    fn setting(&self) -> Setting {
        let key = |members: Value| members.as_object().unwrap().clone();
        let keys = [
            key(json!({"algorithm": "HS256", "secret": SECRET})),
            key(json!({"algorithm": "HS256", "secret": BOUND_SECRET, "kid": "bound", "issuer": "https://one.example"})),
            key(json!({"algorithm": "RS256", "public_key": self.rsa.public_key_pem(), "kid": "rsa"})),
            key(json!({"algorithm": "ES256", "public_key": self.ec.public_key_pem(), "kid": "ec"})),
        ];
        let tables = keys.map(|key| {
            let members: Vec<String> = key.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            format!("{{ {} }}", members.join(", "))
        });
        Setting::toml(&format!("[{}]", tables.join(", ")))
    }
}

/// A token of exactly these documents.
fn signed(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A good token of exactly these claims.
pub(super) fn with_claims(claims: &str) -> String {
    hmac(HS256, claims)
}

fn hmac(header: &str, claims: &str) -> String {
    signed(header, claims, &EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256)
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Good claims with more members.
fn claims(more: &str) -> String {
    format!(r#"{{"sub":"alice","exp":{},"aud":"push"{more}}}"#, unix_now() + 3600)
}

fn with_exp(exp: &str) -> String {
    hmac(HS256, &format!(r#"{{"sub":"alice","aud":"push","exp":{exp}}}"#))
}

fn forgeries(keys: &Keys) -> Vec<(String, String, Verdict)> {
    let good = claims("");
    let token = hmac(HS256, &good);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = head.split_once('.').unwrap();
    let rsa_pem = keys.rsa.public_key_pem();
    let by_public_key = |header| signed(header, &good, &EncodingKey::from_secret(rsa_pem.as_bytes()), Algorithm::HS256);
    let signed_by = |key: &KeyPair, header: &str, algorithm| {
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(key.serialize_pem().as_bytes()),
            _ => EncodingKey::from_ec_pem(key.serialize_pem().as_bytes()),
        };
        signed(header, &good, &key.unwrap(), algorithm)
    };
    let es256 = signed_by(&keys.ec, r#"{"alg":"ES256","kid":"ec"}"#, Algorithm::ES256);
    let es256_message = es256.rsplit_once('.').unwrap().0;
    let other_ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut rows = vec![
        ("0 HS256", token.clone(), Good),
        ("0 RS256", signed_by(&keys.rsa, r#"{"alg":"RS256","kid":"rsa"}"#, Algorithm::RS256), Good),
        ("0 ES256", es256.clone(), Good),
        ("37 empty signature", format!("{head}."), Invalid),
        ("37 no signature", head.to_owned(), Invalid),
        ("38 the RSA key as a secret", by_public_key(HS256), Invalid),
        ("38 with its kid", by_public_key(r#"{"alg":"HS256","kid":"rsa"}"#), Invalid),
        ("38 under its algorithm", by_public_key(r#"{"alg":"RS256","kid":"rsa"}"#), Invalid),
        ("39 r = s = 0", format!("{es256_message}.{}", URL_SAFE_NO_PAD.encode([0; 64])), Invalid),
        ("39 of another key", signed_by(&other_ec, r#"{"alg":"ES256","kid":"ec"}"#, Algorithm::ES256), Invalid),
        ("40 wrong signature", format!("{head}.{}", signature.chars().rev().collect::<String>()), Invalid),
        ("40 truncated", token[..token.len() - 2].to_owned(), Invalid),
        (
            "40 another payload",
            format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(claims(r#","x":1"#))),
            Invalid,
        ),
        ("40 extra segment", format!("{token}."), Invalid),
        ("40 four segments", format!("{token}.{signature}"), Invalid),
        ("40 padding", format!("{token}="), Invalid),
        ("40 padding inside", format!("{header}=.{payload}.{signature}"), Invalid),
        ("40 space", format!("{token} "), Invalid),
        ("40 line break", format!("{header}.\n{payload}.{signature}"), Invalid),
        ("40 no token at all", "x".to_owned(), Invalid),
        ("40 dots", "..".to_owned(), Invalid),
        (
            "47 keys of the forger",
            hmac(r#"{"alg":"HS256","jku":"https://evil.example/jwks","kid":"evil"}"#, &good),
            Invalid,
        ),
        ("49 five segments", format!("{header}.a.b.c.d"), Invalid),
        ("51 9 kB", hmac(HS256, &claims(&format!(r#","x":"{}""#, "x".repeat(9000)))), Invalid),
        ("52 a subscription token", hmac(HS256, &claims(r#","channel":"news""#)), Invalid),
    ]
    .into_iter()
    .map(|(name, token, verdict)| (name.to_owned(), token, verdict))
    .collect::<Vec<_>>();
    for algorithm in ["none", "None", "nOnE", "NONE", "", "hs256", "HS512", "ES256", "EdDSA"] {
        let header = format!(r#"{{"alg":"{algorithm}"}}"#);
        rows.push((format!("37 alg {algorithm:?}"), hmac(&header, &good), Invalid));
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(&good));
        rows.push((format!("37 alg {algorithm:?} unsigned"), unsigned, Invalid));
    }
    // A key that the header itself brings along.
    let jwk = r#"{"alg":"ES256","jwk":{"kty":"EC","crv":"P-256","x":"AA","y":"AA"},"x5u":"https://evil.example"}"#;
    rows.push(("47 its own key".to_owned(), signed_by(&other_ec, jwk, Algorithm::ES256), Invalid));
    for header in [
        r#"{"alg":"HS256","crit":["x"],"x":1}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","zip":"DEF"}"#,
        r#"{"alg":"HS256","enc":"A128GCM"}"#,
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"["HS256"]"#,
        "null",
        "{",
        "",
    ] {
        rows.push((format!("48-49 header {header}"), hmac(header, &good), Invalid));
    }
    for kid in [r#""nobody""#, r#""../../x""#, r#""' OR 1=1 --""#, "1", "[]", &format!("\"{}\"", "k".repeat(3000))] {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        rows.push((format!("46 kid {kid:.20}"), hmac(&header, &good), Invalid));
    }
    rows
}

/// Tokens with a good signature and odd claims.
fn odd_claims() -> Vec<(String, String, Verdict)> {
    let now = unix_now();
    let mut rows = vec![
        ("41 expired for 61 s", with_exp(&(now - 61).to_string()), Expired),
        ("41 expired for 5 s, within the leeway", with_exp(&(now - 5).to_string()), Good),
        ("42 no exp", hmac(HS256, r#"{"sub":"alice","aud":"push"}"#), Good),
        ("42 exp null", with_exp("null"), Good),
        ("42 exp with a fraction", with_exp("9999999999.5"), Good),
        ("42 exp with an exponent", with_exp("1e10"), Good),
        ("43 nbf in an hour", hmac(HS256, &claims(&format!(r#","nbf":{}"#, now + 3600))), Invalid),
        ("43 nbf just now", hmac(HS256, &claims(&format!(r#","nbf":{now}"#))), Good),
        ("43 nbf text", hmac(HS256, &claims(r#","nbf":"0""#)), Invalid),
        ("43 iat in an hour", hmac(HS256, &claims(&format!(r#","iat":{}"#, now + 3600))), Invalid),
        ("50 sub twice", hmac(HS256, &claims(r#","sub":"bob""#)), Invalid),
        ("50 exp twice", hmac(HS256, &claims(r#","exp":9999999999"#)), Invalid),
        ("sub missing", hmac(HS256, &claims("").replace("sub", "bus")), Invalid),
        ("sub empty", hmac(HS256, &claims("").replace("alice", "")), Invalid),
        ("sub null", hmac(HS256, &claims("").replace(r#""alice""#, "null")), Invalid),
        ("sub number", hmac(HS256, &claims("").replace(r#""alice""#, "42")), Good),
        ("sub number of many spellings", hmac(HS256, &claims("").replace(r#""alice""#, "42.0")), Invalid),
        ("caps of an unknown right", hmac(HS256, &claims(r#","caps":[{"channels":["a"],"allow":["all"]}]"#)), Invalid),
        (
            "caps with an unknown member",
            hmac(HS256, &claims(r#","caps":[{"channels":[],"allow":[],"deny":[]}]"#)),
            Invalid,
        ),
        ("channels text", hmac(HS256, &claims(r#","channels":"news""#)), Invalid),
        ("channels with no name of one", hmac(HS256, &claims(r#","channels":["a b"]"#)), Invalid),
    ]
    .into_iter()
    .map(|(name, token, verdict)| (name.to_owned(), token, verdict))
    .collect::<Vec<_>>();
    for exp in [r#""9999999999""#, "1e400", "9e99", "-1", "-0.5", "[9999999999]", "{}", "true"] {
        rows.push((format!("42 exp {exp}"), with_exp(exp), Invalid));
    }
    let many: Vec<String> = (0..1000).map(|n| format!("\"{n}\"")).collect();
    let many = format!("[{},\"push\"]", many.join(","));
    for (aud, verdict) in [
        (r#""other""#, Invalid),
        (r#"["x","push"]"#, Good),
        ("[]", Invalid),
        ("null", Invalid),
        ("1", Invalid),
        (&many, Invalid),
    ] {
        let claims = claims("").replace(r#""push""#, aud);
        rows.push((format!("44 aud {aud:.20}"), hmac(HS256, &claims), verdict));
    }
    rows.push(("44 no aud".to_owned(), hmac(HS256, &claims("").replace("aud", "dua")), Invalid));
    let bound = EncodingKey::from_secret(BOUND_SECRET.as_bytes());
    for (issuer, verdict) in
        [(r#","iss":"https://one.example""#, Good), (r#","iss":"https://two.example""#, Invalid), ("", Invalid)]
    {
        let token = signed(r#"{"alg":"HS256","kid":"bound"}"#, &claims(issuer), &bound, Algorithm::HS256);
        rows.push((format!("45 issuer {issuer}"), token, verdict));
    }
    rows
}

/// The connect command's verdict.
async fn by_command(node: &Node, token: &str) -> Result<Verdict, String> {
    let mut client = Client::open(node.websocket_url()).await;
    let answer = client.try_command(json!({"connect": {"token": token}})).await;
    match answer {
        Ok(reply) if reply.get("connect").is_some() => Ok(Good),
        Ok(reply) if reply["error"]["code"] == 109 => Ok(Expired),
        Err(Closed::Frame { code: 3500, reason }) if reason == "invalid token" => Ok(Invalid),
        other => Err(format!("{other:?}")),
    }
}

/// The verdict on a header.
fn by_header(status: u16, good: u16, header: Option<&str>, body: &Value) -> Result<Verdict, String> {
    let error = &body["error"];
    match (status, error["reason"].as_str(), error["code"].as_u64()) {
        (status, ..) if status == good => Ok(Good),
        (401, Some("invalid_token"), Some(101)) if header == Some("Bearer") => Ok(Invalid),
        (401, Some("token_expired"), Some(109)) if header == Some("Bearer") => Ok(Expired),
        _ => Err(format!("{status} {header:?} {body}")),
    }
}

async fn judge(table: &mut Table, node: &Node, name: &str, token: &str, expected: Verdict) {
    let mut judged = |way: &str, verdict: Result<Verdict, String>| {
        let wrong = verdict != Ok(expected);
        table.row(&format!("{name} {way}"), wrong.then(|| format!("{verdict:?} instead of {expected:?}")));
    };
    judged("by command", by_command(node, token).await);
    let bearer = format!("Bearer {token}");
    // Space around a header's value is not part of it.
    if HeaderValue::try_from(&bearer).is_err() || bearer.trim() != bearer {
        return;
    }
    let headers = [("authorization", bearer.as_str())];
    let poll = http::get(node.url("/poll?channel=news&timeout=0"), &headers).await;
    let body = serde_json::from_slice(&poll.body).unwrap_or_default();
    judged("for a poll", by_header(poll.status.as_u16(), 200, poll.header("www-authenticate"), &body));
    let upgrade = match Client::try_open(node.websocket_url(), &headers).await {
        Ok(_) => Ok(Good),
        Err(refused) => by_header(refused.status.as_u16(), 101, refused.header("www-authenticate"), &refused.json()),
    };
    judged("for an upgrade", upgrade);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let keys = Keys::new();
    let node = node().set("auth.keys", keys.setting()).set("auth.audience", "push").start().await;
    let mut table = Table::default();
    for (name, token, expected) in forgeries(&keys).into_iter().chain(odd_claims()) {
        judge(&mut table, &node, &name, &token, expected).await;
        assert!(token.len() < 100 || !node.log().contains(&token), "{name}: the token is in the log");
    }
    table.check();
    unharmed(&node, &hmac(HS256, &claims(""))).await;
}

/// A `ttl` fits the timers of clients, however long the token lives: an SDK whose timer overflows refreshes each second.
#[tokio::test(flavor = "multi_thread")]
async fn times_to_live_fit_timers() {
    const YEAR: u64 = 365 * 24 * 3600;
    let node = node().start().await;
    let mut table = Table::default();
    let rows = [
        ("an hour", json!(unix_now() + 3600), Some(3600)),
        ("a year", json!(unix_now() + YEAR), Some(2_147_483)),
        ("beyond 2^32 seconds", json!(unix_now() + (1 << 32) + 1), Some(2_147_483)),
        ("the last second of the year 9999", json!(253_402_300_799_u64), Some(2_147_483)),
        ("no end", Value::Null, None),
    ];
    for (name, exp, most) in rows {
        let token = hmac(HS256, &json!({"sub": "alice", "exp": exp}).to_string());
        let mut client = Client::open(node.websocket_url()).await;
        let connect = client.command(json!({"connect": {"token": token}})).await["connect"].clone();
        let refresh = client.refresh(&token).await.unwrap();
        for reply in [connect, refresh] {
            // Between asking for a token and the reply a second may pass.
            let fits = match most {
                None => reply["ttl"].is_null() && reply["expires"].is_null(),
                Some(most) => reply["ttl"].as_u64().is_some_and(|ttl| ttl <= most && ttl + 10 > most),
            };
            table.row(name, (!fits).then(|| reply.to_string()));
        }
        client.close().await;
    }
    table.check();
    unharmed(&node, &token(&node)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_nobody_where_they_are_allowed() {
    let node = node().set("auth.anonymous_tokens", true).namespace("open", "subscribe", "anyone").start().await;
    let nobody = node.token(&Claims::user("").cap(&["granted"], "exact", &["sub"]).without("sub"));
    let mut client = Client::connect(node.websocket_url(), &nobody).await;
    client.subscribe("granted").await;
    client.subscribe("open:news").await;
    assert_eq!(client.try_subscribe("news").await.unwrap_err().code, 103, "not authenticated");
    assert!(client.refresh(&nobody).await.is_ok());
    // A client without any token is no client with a token of nobody.
    let mut silent = Client::open(node.websocket_url()).await;
    assert_eq!(silent.command(json!({"connect": {}})).await["error"]["code"], 101);
}

/// An issuer that sets no end is worth a word, once.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_without_an_end_are_warned_of_at_the_start() {
    let warnings = |node: &Node| node.log().matches("auth.max_token_lifetime").count();
    let node_without = node().start().await;
    let endless = hmac(HS256, r#"{"sub":"alice"}"#);
    for _ in 0..3 {
        Client::connect(node_without.websocket_url(), &endless).await;
    }
    assert_eq!(warnings(&node_without), 1);
    let limited = node().set("auth.max_token_lifetime", "1day").start().await;
    assert_eq!(by_command(&limited, &endless).await, Ok(Invalid));
    assert_eq!(warnings(&limited), 0);
}

/// Row 36 and the places where a token may not be; row 51 at its largest.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_over_http() {
    let node = node().start().await;
    let token = token(&node);
    let bearer = format!("Bearer {token}");
    let with = |name: &str, value: &str| format!("{name}: {value}\r\n");
    let rows = [
        ("36 none", "", String::new(), 401, "unauthorized"),
        ("36 empty", "", with("Authorization", "Bearer "), 401, "invalid_token"),
        ("36 no scheme", "", with("Authorization", &token), 401, "invalid_token"),
        ("36 another scheme", "", with("Authorization", "Basic dTpw"), 401, "invalid_token"),
        ("36 twice", "", with("Authorization", &bearer).repeat(2), 401, "invalid_token"),
        ("36 in the query", &format!("&token={token}"), String::new(), 401, "invalid_token"),
        (
            "36 in the query and the header",
            &format!("&access_token={token}"),
            with("Authorization", &bearer),
            401,
            "invalid_token",
        ),
        ("36 in a cookie that is not enabled", "", with("Cookie", &format!("token={token}")), 401, "unauthorized"),
        ("51 14 kB", "", with("Authorization", &format!("Bearer {}", "x".repeat(14_000))), 401, "invalid_token"),
        ("51 100 kB", "", with("Authorization", &format!("Bearer {}", "x".repeat(100_000))), 431, "head_too_large"),
    ];
    let mut table = Table::default();
    for path in ["/poll?channel=news&timeout=0", "/sse?channel=news"] {
        for (name, query, headers, status, reason) in &rows {
            let answer = say(&node, format!("GET {path}{query} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).await.unwrap();
            let challenged = answer.status != 401 || answer.header("www-authenticate") == Some("Bearer");
            let wrong = answer.status != *status || answer.reason().unwrap_or_default() != *reason || !challenged;
            table.row(&format!("{name} {path}"), wrong.then(|| format!("{answer:?}")));
        }
    }
    table.check();
    unharmed(&node, &token).await;
}

/// Rows 52, 53, 55, 57, 58: what a session does with further credentials.
#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_session() {
    let node = node().start().await;
    let token = token(&node);
    let other = node.token(&Claims::user("bob"));
    let expired = node.token(&Claims::user("alice").expired_since(Duration::from_secs(61)));
    let connect = json!({"id": 2, "connect": {"token": token}});
    let refresh = |token: &str| json!({"id": 2, "refresh": {"token": token}});
    let subscribe = json!({"id": 2, "subscribe": {"channel": "news", "token": other}});
    // Said after connect: the error code or (above 3000) the close code.
    let rows = [
        ("57 a second connect", connect.clone(), 3501),
        ("55 refresh of another user", refresh(&other), 3500),
        ("55 refresh with a forgery", refresh(&format!("{token}x")), 3500),
        ("55 refresh with nothing", refresh(""), 3500),
        ("55 refresh with an expired token", refresh(&expired), 109),
        ("52 subscribe with a token that is none of a subscription", subscribe, 103),
    ];
    let mut table = Table::default();
    for (name, command, expected) in rows {
        let mut raw = session(&node, &token).await;
        table.row(name, said(&mut raw, &command, expected).await);
    }
    for command in ["subscribe", "unsubscribe", "publish", "history", "refresh", "presence", "rpc", "ping", "send"] {
        for id in [1, 0] {
            let mut raw = Raw::open(node.websocket_url()).await;
            let command = json!({"id": id, command: {"channel": "news", "data": {}, "token": token}});
            table.row(&format!("58 {command} before connect"), said(&mut raw, &command, 3501).await);
        }
    }
    let mut raw = Raw::open(node.websocket_url()).await;
    table.row("58 pong before connect", said(&mut raw, &json!({}), 3501).await);
    let mut raw = Raw::open(node.websocket_url()).await;
    table.row("58 connect without an id", said(&mut raw, &json!({"connect": {"token": token}}), 3501).await);
    // In one frame with others: everything after the fault is unheard.
    let mut raw = session(&node, &token).await;
    let both = format!("{connect}\n{}", json!({"id": 3, "publish": {"channel": "unheard", "data": 1}}));
    raw.write_frame(&Frame::text(&both)).await;
    let end = ending(&mut raw).await;
    table.row("57 with more behind it", (end != Ok(3501)).then(|| format!("{end:?}")));
    let unheard = node.api("history", json!({"channel": "unheard"})).await.json();
    table.row("57 what was behind it", (unheard["result"]["offset"] != 0).then(|| unheard.to_string()));
    table.check();
    unharmed(&node, &token).await;
}

/// Says a command and expects an error reply, or (above 3000) a close.
async fn said(raw: &mut Raw, command: &Value, expected: u16) -> Option<String> {
    raw.write_frame(&Frame::text(&command.to_string())).await;
    if expected >= 1000 {
        let end = ending(raw).await;
        return (end != Ok(expected)).then(|| format!("{end:?} instead of {expected}"));
    }
    let reply = match raw.read_frame().await {
        Incoming::Frame(frame) => String::from_utf8_lossy(&frame.payload).into_owned(),
        other => return Some(format!("{other:?}")),
    };
    let value: Value = serde_json::from_str(&reply).unwrap_or_default();
    match value["id"] == command["id"] && value["error"]["code"] == expected {
        true => lives(raw).await,
        false => Some(format!("{reply} instead of error {expected}")),
    }
}

/// Row 59.
#[tokio::test(flavor = "multi_thread")]
async fn api_keys() {
    let good = fanway_testkit::node::API_KEY;
    let keys = format!(
        r#"[{{ id = "testkit", key = "{good}" }},
            {{ id = "old", key = "expired-key-of-some-length", expires = "2020-01-01T00:00:00Z" }},
            {{ id = "reader", key = "reading-key-of-some-length", scopes = ["read"] }}]"#
    );
    let node = node().set("api.keys", Setting::toml(&keys.replace('\n', " "))).start().await;
    let body = r#"{"channel":"news","data":1}"#;
    let rows = [
        ("a good key", "", format!("X-API-Key: {good}"), 200),
        ("a good key as Authorization", "", format!("Authorization: apikey {good}"), 200),
        ("none", "", "X: y".to_owned(), 401),
        ("empty", "", "X-API-Key:".to_owned(), 401),
        ("unknown", "", "X-API-Key: nobody-knows-this-key".to_owned(), 401),
        ("a known id", "", "X-API-Key: testkit".to_owned(), 401),
        ("cut", "", format!("X-API-Key: {}", &good[..good.len() - 1]), 401),
        ("too long", "", format!("X-API-Key: {good}x"), 401),
        ("in capitals", "", format!("X-API-Key: {}", good.to_uppercase()), 401),
        ("expired", "", "X-API-Key: expired-key-of-some-length".to_owned(), 401),
        ("without the right", "", "X-API-Key: reading-key-of-some-length".to_owned(), 403),
        ("twice", "", format!("X-API-Key: {good}\r\nX-API-Key: {good}"), 401),
        ("in the query", &format!("?api_key={good}"), "X: y".to_owned(), 401),
        ("in the query too", &format!("?api_key={good}"), format!("X-API-Key: {good}"), 401),
        ("as a bearer", "", format!("Authorization: Bearer {good}"), 401),
        ("a connection token", "", format!("Authorization: Bearer {}", token(&node)), 401),
        ("10 kB", "", format!("X-API-Key: {}", "k".repeat(10_000)), 401),
    ];
    let mut table = Table::default();
    for (name, query, headers, status) in rows {
        let answer = say(
            &node,
            format!(
                "POST /api/publish{query} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 {headers}\r\n\r\n{body}",
                body.len()
            ),
        )
        .await
        .unwrap();
        let reason = match status {
            401 => Some("unauthorized".to_owned()),
            403 => Some("forbidden".to_owned()),
            _ => None,
        };
        let challenged = status != 401 || answer.header("www-authenticate").is_some();
        let wrong = answer.status != status || answer.reason() != reason || !challenged;
        table.row(name, wrong.then(|| format!("{answer:?}")));
    }
    table.check();
    assert!(!node.log().contains(good), "the key is in the log");
    unharmed(&node, &token(&node)).await;
}
