use std::num::NonZeroU64;
use std::time::Duration;

use fanway_hub::{AuthFailure, Identity};
use fanway_protocol::{Channel, Right};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};

use super::*;

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// What a token is, or the part of it that is at fault.
type Verdict = Result<Identity, &'static str>;

/// An authenticator whose refusals are compared without their reasons.
struct Judge(Authenticator);

impl Judge {
    fn verify(&self, token: &str, now: u64) -> Verdict {
        self.0.verify(token, now).map_err(|failure| {
            if let AuthFailure::Invalid { part, reason } = failure {
                assert!(!reason.to_string().is_empty(), "{part}");
            }
            failure.metric_label()
        })
    }
}

fn authenticator(settings: &Settings) -> Judge {
    install_crypto();
    Judge(Authenticator::new(settings).unwrap_or_else(|problems| panic!("{problems}")))
}

fn verify(header: &str, claims: &str) -> Verdict {
    verify_with(&settings(), header, claims)
}

fn verify_with(settings: &Settings, header: &str, claims: &str) -> Verdict {
    authenticator(settings).verify(&hmac_token(header, claims, SECRET), NOW)
}

/// The verdict on a token that has, besides `sub` and `exp`, one more member.
fn with(member: &str) -> Verdict {
    verify(HS256, &format!(r#"{{"sub":"u","exp":{},{member}}}"#, NOW + 60))
}

fn good_claims() -> String {
    format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 60)
}

fn refused(part: &'static str) -> Verdict {
    Err(part)
}

#[test]
fn everything_of_a_good_token_arrives() {
    let claims = format!(
        r#"{{"sub":"42","exp":{exp},"iat":{NOW},"nbf":{NOW},"jti":"t-1","iss":"me","aud":["x","push"],
            "info":{{"name":
                "Ann"}},
            "channels":["news","news","user:42"],
            "caps":[{{"channels":["chat:1"],"allow":["sub","pub"]}},{{"channels":["feed:*"],"match":"wildcard","allow":["hst","prs"]}}],
            "unknown":{{"a":1}}}}"#,
        exp = NOW + 60
    );
    let identity = verify(HS256, &claims).unwrap();
    let channel = |name| Channel::new(name).unwrap();
    assert_eq!(&*identity.user, "42");
    assert_eq!(identity.expires_at.map(NonZeroU64::get), Some(NOW + 60));
    assert_eq!(identity.token_id.as_deref(), Some("t-1"));
    assert_eq!(*identity.channels, [channel("news"), channel("user:42")]);
    let info = identity.info.unwrap();
    assert!(!info.contains(&b'\n'));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&info).unwrap(), serde_json::json!({"name": "Ann"}));
    let allows = |right, name| identity.grants.allows(right, &channel(name));
    assert!(
        allows(Right::Subscribe, "chat:1") && allows(Right::Publish, "chat:1") && !allows(Right::History, "chat:1")
    );
    assert!(
        allows(Right::History, "feed:9") && allows(Right::Presence, "feed:9") && !allows(Right::Subscribe, "feed:9")
    );
    assert!(!allows(Right::Subscribe, "chat:2"));
}

#[test]
fn a_minted_token_is_accepted_by_the_same_settings() {
    let mut settings = settings();
    settings.keys[0].kid = Some("k1".to_owned());
    settings.issuer = vec!["issuer".to_owned()];
    settings.audience = Some("push".to_owned());
    settings.max_token_lifetime = Some(Duration::from_secs(60));
    let request = TokenRequest {
        user: "u".to_owned(),
        info: Some(serde_json::json!({"n": 1})),
        channels: vec!["news".to_owned()],
        caps: vec![CapRequest {
            channels: vec!["a:*".to_owned()],
            matching: "wildcard",
            allow: vec!["sub".to_owned()],
        }],
        ttl: Duration::from_secs(60),
    };
    install_crypto();
    let token = Signer::new(&settings).ok().unwrap().mint(&request, NOW).unwrap();
    let identity = authenticator(&settings).verify(&token, NOW).unwrap();
    assert_eq!(&*identity.user, "u");
    assert!(identity.grants.allows(Right::Subscribe, &Channel::new("a:1").unwrap()));
}

#[test]
fn the_algorithm_is_never_the_tokens_choice() {
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"None"}"#, r#"{"alg":"nOnE"}"#, r#"{"alg":"hs256"}"#, r#"{"alg":""}"#]
    {
        assert_eq!(verify(header, &good_claims()), refused("algorithm"), "{header}");
    }
    // An algorithm that exists but that no key is for.
    for header in [r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"ES256"}"#] {
        assert_eq!(verify(header, &good_claims()), refused("algorithm"), "{header}");
    }
    let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(HS256), URL_SAFE_NO_PAD.encode(good_claims()));
    assert_eq!(authenticator(&settings()).verify(&unsigned, NOW), refused("signature"));
}

#[test]
fn real_public_keys_verify_their_own_algorithm_only() {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let ed = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let public = |algorithm, pair: &KeyPair| KeySettings {
        public_key: Some(pair.public_key_pem()),
        ..KeySettings::of(algorithm)
    };
    let keys = vec![public(Algorithm::RS256, &rsa), public(Algorithm::ES256, &ec), public(Algorithm::EdDSA, &ed)];
    let authenticator = authenticator(&Settings { keys, ..Settings::default() });
    let claims = good_claims();

    let rsa_key = EncodingKey::from_rsa_pem(rsa.serialize_pem().as_bytes()).unwrap();
    let ec_key = EncodingKey::from_ec_pem(ec.serialize_pem().as_bytes()).unwrap();
    let ed_key = EncodingKey::from_ed_pem(ed.serialize_pem().as_bytes()).unwrap();
    for (name, key, algorithm) in [
        ("RS256", &rsa_key, Algorithm::RS256),
        ("ES256", &ec_key, Algorithm::ES256),
        ("EdDSA", &ed_key, Algorithm::EdDSA),
    ] {
        let token = signed(&format!(r#"{{"alg":"{name}"}}"#), &claims, key, algorithm);
        assert!(authenticator.verify(&token, NOW).is_ok(), "{name}");
        // The same signature under another algorithm's name.
        for other in ["RS256", "ES256", "EdDSA"].iter().filter(|other| **other != name) {
            let (_, rest) = token.split_once('.').unwrap();
            let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{other}"}}"#)));
            assert_eq!(authenticator.verify(&forged, NOW), refused("signature"), "{name} as {other}");
        }
    }

    // Signed with what everybody knows: the public key, as PEM and as DER.
    let pem = rsa.public_key_pem();
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes(), rsa.public_key_raw()] {
        let token = signed(HS256, &claims, &EncodingKey::from_secret(secret), Algorithm::HS256);
        assert_eq!(authenticator.verify(&token, NOW), refused("algorithm"));
    }
    // r = s = 0, and other signatures of nobody.
    for signature in [[0u8; 64].as_slice(), &[0xff; 64], &[], &[0; 63]] {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#), URL_SAFE_NO_PAD.encode(&claims));
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(authenticator.verify(&token, NOW), refused("signature"));
    }
}

#[test]
fn a_damaged_token_is_refused() {
    let authenticator = authenticator(&settings());
    let good = hmac_token(HS256, &good_claims(), SECRET);
    assert!(authenticator.verify(&good, NOW).is_ok());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    let foreign = hmac_token(HS256, &good_claims(), "another secret of thirty-two bytes!!");
    let cut = &good[..good.len() - 2];
    let other_payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"root","exp":{}}}"#, NOW + 60));
    for bad in [
        foreign.as_str(),
        cut,
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "null",
        &format!("{header}.{payload}"),
        &format!("{good}."),
        &format!("{good}.{signature}"),
        &format!("{good}.a.b"),
        &format!("{good}="),
        &format!("{good}\n"),
        &format!(" {good}"),
        &format!("{header}=.{payload}.{signature}"),
        &format!("{header}.{payload} .{signature}"),
        &format!("{header}.{other_payload}.{signature}"),
        &format!("{header}..{signature}"),
        &format!("{header}.{payload}."),
    ] {
        let refusal = authenticator.verify(bad, NOW);
        assert!(matches!(refusal, Err("format" | "header" | "signature")), "{bad:?}: {refusal:?}");
    }
    assert_eq!(authenticator.verify(&"a".repeat(100_000), NOW), refused("size"));
    assert_eq!(authenticator.verify(&format!("{good}{}", "A".repeat(8192)), NOW), refused("size"));
}

#[test]
fn expiry_has_leeway_to_the_second() {
    let mut settings = settings();
    settings.leeway = Duration::from_secs(60);
    let authenticator = authenticator(&settings);
    let token = |exp: u64| hmac_token(HS256, &format!(r#"{{"sub":"u","exp":{exp}}}"#), SECRET);
    assert!(authenticator.verify(&token(NOW - 60), NOW).is_ok());
    assert_eq!(authenticator.verify(&token(NOW - 61), NOW), refused("expired"));
    assert_eq!(authenticator.verify(&token(0), NOW), refused("expired"));
    // An expired token with a bad signature is not even told to be expired.
    let foreign = hmac_token(HS256, r#"{"sub":"u","exp":1}"#, "another secret of thirty-two bytes!!");
    assert_eq!(authenticator.verify(&foreign, NOW), refused("signature"));
}

#[test]
fn times_are_numbers_of_seconds() {
    for value in [r#""9999999999""#, "1e400", "-1", "-0.5", "[]", "[4000000000]", "{}", "true", "1e12"] {
        let refusal = verify(HS256, &format!(r#"{{"sub":"u","exp":{value}}}"#));
        assert!(matches!(refusal, Err("exp" | "claims")), "exp {value}: {refusal:?}");
        for claim in ["nbf", "iat"] {
            let refusal = with(&format!(r#""{claim}":{value}"#));
            assert!(matches!(refusal, Err(part) if part == claim || part == "claims"), "{claim} {value}: {refusal:?}");
        }
    }
    // Milliseconds, and what overflows an addition.
    assert_eq!(verify(HS256, r#"{"sub":"u","exp":1900000000000}"#), refused("exp"));
    assert_eq!(verify(HS256, r#"{"sub":"u","exp":18446744073709551615}"#), refused("exp"));
    assert_eq!(verify(HS256, r#"{"sub":"u","exp":18446744073709551616}"#), refused("exp"));

    assert!(with(&format!(r#""nbf":{},"iat":{}"#, NOW + 10, NOW + 10)).is_ok());
    assert_eq!(with(&format!(r#""nbf":{}"#, NOW + 11)), refused("nbf"));
    assert_eq!(with(&format!(r#""iat":{}"#, NOW + 11)), refused("iat"));
}

/// RFC 7519, section 2: a NumericDate may have a fraction and an exponent. It is rounded to the stricter side.
#[test]
fn times_may_have_fractions_and_exponents() {
    let expires = |exp: &str| {
        verify(HS256, &format!(r#"{{"sub":"u","exp":{exp}}}"#)).map(|identity| identity.expires_at.map(NonZeroU64::get))
    };
    assert_eq!(expires("1900000060.0"), Ok(Some(NOW + 60)));
    assert_eq!(expires("1900000060.999"), Ok(Some(NOW + 60)));
    assert_eq!(expires("1.90000006e9"), Ok(Some(NOW + 60)));
    assert_eq!(expires("190000006E+1"), Ok(Some(NOW + 60)));
    assert_eq!(expires("1e3"), Err("expired"));
    // The leeway is 10 s.
    assert!(with(r#""nbf":1900000009.5"#).is_ok());
    assert_eq!(with(r#""nbf":1900000010.5"#), refused("nbf"));
    assert!(with(r#""iat":1900000010.5"#).is_ok());
    assert_eq!(with(r#""iat":1.900000011e9"#), refused("iat"));
}

#[test]
fn null_is_an_absent_claim() {
    let nulls = ["exp", "nbf", "iat", "iss", "aud", "jti", "info", "channels", "caps", "channel"];
    let members: String = nulls.map(|claim| format!(r#","{claim}":null"#)).concat();
    let absent = verify(HS256, r#"{"sub":"u"}"#).unwrap();
    assert_eq!(verify(HS256, &format!(r#"{{"sub":"u"{members}}}"#)).unwrap(), absent);
    assert_eq!(verify(HS256, &format!(r#"{{"sub":null,"exp":{}}}"#, NOW + 60)), refused("sub"));
    assert!(verify(r#"{"alg":"HS256","kid":null}"#, &good_claims()).is_ok());
    let caps = r#""caps":[{"channels":["a"],"allow":["sub"],"match":null}]"#;
    assert!(with(caps).unwrap().grants.allows(Right::Subscribe, &Channel::new("a").unwrap()));
}

#[test]
fn a_token_without_an_end_is_accepted_unless_lifetimes_are_limited() {
    for claims in [r#"{"sub":"u"}"#, r#"{"sub":"u","exp":null}"#] {
        assert_eq!(verify(HS256, claims).unwrap().expires_at, None);
        let limited = Settings { max_token_lifetime: Some(Duration::from_secs(3600)), ..settings() };
        assert_eq!(verify_with(&limited, HS256, claims), refused("exp"));
        assert!(!authenticator(&limited).0.accepts_endless_tokens());
    }
    assert!(authenticator(&settings()).0.accepts_endless_tokens());
    let keyless = Settings { keys: Vec::new(), allow_anonymous: true, ..settings() };
    assert!(!authenticator(&keyless).0.accepts_endless_tokens());
}

#[test]
fn an_integer_names_the_user_by_its_text() {
    let user =
        |sub: &str| verify(HS256, &format!(r#"{{"sub":{sub},"exp":{}}}"#, NOW + 60)).map(|identity| identity.user);
    for sub in ["42", "0", "-7", "9007199254740993", "18446744073709551616"] {
        assert_eq!(user(sub).as_deref(), Ok(sub));
        assert_eq!(user(&format!("\"{sub}\"")).as_deref(), Ok(sub));
    }
    for sub in ["42.0", "4.2e1", "42E0", "-0", "1.5", "true", "[42]", &"4".repeat(256)] {
        assert_eq!(user(sub), Err("sub"), "{sub}");
    }
}

#[test]
fn a_token_of_nobody_is_anonymous_only_where_the_settings_say() {
    let with_caps = |sub: &str| {
        let caps = r#"[{"channels":["a"],"allow":["sub"]}]"#;
        format!(r#"{{{sub}"exp":{},"caps":{caps}}}"#, NOW + 60)
    };
    for sub in ["", r#""sub":"","#, r#""sub":null,"#] {
        for allow_anonymous in [false, true] {
            let settings = Settings { allow_anonymous, ..settings() };
            assert_eq!(verify_with(&settings, HS256, &with_caps(sub)), refused("sub"), "{sub}");
            let settings = Settings { anonymous_tokens: true, ..settings };
            let identity = verify_with(&settings, HS256, &with_caps(sub)).unwrap();
            assert!(identity.is_anonymous());
            assert_eq!(identity.expires_at.map(NonZeroU64::get), Some(NOW + 60));
            assert!(identity.grants.allows(Right::Subscribe, &Channel::new("a").unwrap()));
        }
    }
    let foreign = hmac_token(HS256, &with_caps(""), "another secret of thirty-two bytes!!");
    let settings = Settings { anonymous_tokens: true, ..settings() };
    assert_eq!(authenticator(&settings).verify(&foreign, NOW), refused("signature"));
    let late = format!(r#"{{"exp":{}}}"#, NOW - 11);
    assert_eq!(verify_with(&settings, HS256, &late), refused("expired"), "not anonymous for having expired");
}

#[test]
fn lifetime_can_be_limited() {
    let mut settings = settings();
    settings.max_token_lifetime = Some(Duration::from_secs(100));
    let authenticator = authenticator(&settings);
    let verify = |claims: String| authenticator.verify(&hmac_token(HS256, &claims, SECRET), NOW);
    assert!(verify(format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 100)).is_ok());
    assert_eq!(verify(format!(r#"{{"sub":"u","exp":{}}}"#, NOW + 101)), refused("lifetime"));
    assert_eq!(verify(format!(r#"{{"sub":"u","exp":{},"iat":{}}}"#, NOW + 10, NOW - 91)), refused("lifetime"));
}

#[test]
fn audience_and_issuer_are_those_of_the_settings() {
    let mut settings = settings();
    settings.audience = Some("push".to_owned());
    settings.issuer = vec!["a".to_owned(), "b".to_owned()];
    let authenticator = authenticator(&settings);
    let verify = |members: &str| {
        authenticator.verify(&hmac_token(HS256, &format!(r#"{{"sub":"u","exp":{}{members}}}"#, NOW + 60), SECRET), NOW)
    };
    assert!(verify(r#","iss":"a","aud":"push""#).is_ok());
    assert!(verify(r#","iss":"b","aud":["other","push"]"#).is_ok());
    for members in
        ["", r#","iss":"c""#, r#","iss":"A""#, r#","iss":"a ""#, r#","iss":["a"]"#, r#","iss":null"#, r#","iss":1"#]
    {
        assert_eq!(verify(&format!(r#"{members},"aud":"push""#)), refused("iss"), "{members}");
    }
    let many = (0..10_000).map(|_| r#""push""#).collect::<Vec<_>>().join(",");
    let seventeen = vec![r#""push""#; 17].join(",");
    for aud in
        [r#""other""#, r#""pushy""#, r#"["other"]"#, "[]", "null", "1", r#"["push",1]"#, &format!("[{seventeen}]")]
    {
        assert_eq!(verify(&format!(r#","iss":"a","aud":{aud}"#)), refused("aud"), "{aud}");
    }
    assert_eq!(verify(r#","iss":"a""#), refused("aud"));
    assert_eq!(verify(&format!(r#","iss":"a","aud":[{many}]"#)), refused("size"));
}

#[test]
fn a_key_bound_to_an_issuer_speaks_for_no_other() {
    let other_secret = "another secret of thirty-two bytes!!";
    let bound = |issuer: &str, secret| KeySettings {
        kid: Some("1".to_owned()),
        issuer: Some(issuer.to_owned()),
        ..KeySettings::hmac(Secret::new(secret))
    };
    let authenticator =
        authenticator(&Settings { keys: vec![bound("a", SECRET), bound("b", other_secret)], ..Settings::default() });
    let header = r#"{"alg":"HS256","kid":"1"}"#;
    let claims = |issuer: &str| format!(r#"{{"sub":"u","exp":{},"iss":"{issuer}"}}"#, NOW + 60);
    assert!(authenticator.verify(&hmac_token(header, &claims("a"), SECRET), NOW).is_ok());
    assert!(authenticator.verify(&hmac_token(header, &claims("b"), other_secret), NOW).is_ok());
    assert_eq!(authenticator.verify(&hmac_token(header, &claims("a"), other_secret), NOW), refused("iss"));
    assert_eq!(authenticator.verify(&hmac_token(header, &claims("b"), SECRET), NOW), refused("iss"));
}

#[test]
fn kid_chooses_among_the_keys_and_nothing_else() {
    let other_secret = "another secret of thirty-two bytes!!";
    let named = |kid: &str, secret| KeySettings { kid: Some(kid.to_owned()), ..KeySettings::hmac(Secret::new(secret)) };
    let authenticator = authenticator(&Settings {
        keys: vec![named("old", SECRET), named("new", other_secret)],
        ..Settings::default()
    });
    let verify = |kid: &str, secret| {
        let header = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        authenticator.verify(&hmac_token(&header, &good_claims(), secret), NOW)
    };
    assert!(verify(r#""old""#, SECRET).is_ok());
    assert!(verify(r#""new""#, other_secret).is_ok());
    assert_eq!(verify(r#""new""#, SECRET), refused("signature"));
    // Without a kid every key is tried.
    for secret in [SECRET, other_secret] {
        assert!(authenticator.verify(&hmac_token(HS256, &good_claims(), secret), NOW).is_ok());
    }
    for kid in [r#""unknown""#, r#""../../x""#, r#""' OR 1=1 --""#, r#""""#, r#""OLD""#] {
        assert_eq!(verify(kid, SECRET), refused("kid"), "{kid}");
    }
    for kid in ["1", "[]", r#"["old"]"#, "{}", "true"] {
        assert_eq!(verify(kid, SECRET), refused("header"), "{kid}");
    }
    assert_eq!(verify(&format!(r#""{}""#, "k".repeat(10_000)), SECRET), refused("size"));
}

#[test]
fn keys_of_the_header_are_never_used() {
    let attacker = "the attacker's own secret, 32 bytes";
    for member in [
        r#""jku":"https://evil.example/keys""#,
        r#""x5u":"https://evil.example/cert""#,
        r#""jwk":{"kty":"oct","k":"dGhlIGF0dGFja2Vy"}"#,
    ] {
        let header = format!(r#"{{"alg":"HS256",{member}}}"#);
        let by_attacker = hmac_token(&header, &good_claims(), attacker);
        assert_eq!(authenticator(&settings()).verify(&by_attacker, NOW), refused("signature"), "{member}");
        assert!(verify(&header, &good_claims()).is_ok(), "{member} is ignored");
    }
}

#[test]
fn header_extensions_are_refused() {
    let members = [
        r#""crit":["x"],"x":1"#,
        r#""crit":[]"#,
        r#""crit":null"#,
        r#""b64":false"#,
        r#""b64":false,"crit":["b64"]"#,
        r#""zip":"DEF""#,
        r#""enc":"A128GCM""#,
        r#""alg":"HS256""#,
    ];
    for member in members {
        assert_eq!(verify(&format!(r#"{{"alg":"HS256",{member}}}"#), &good_claims()), refused("header"), "{member}");
    }
    for header in ["", "{}", "null", r#"["HS256"]"#, r#""HS256""#, r#"{"alg":1}"#, r#"{"alg":"HS256"} x"#, "{"] {
        assert_eq!(verify(header, &good_claims()), refused("header"), "{header:?}");
    }
}

#[test]
fn doubled_members_are_refused() {
    for member in [
        r#""sub":"root""#,
        r#""s\u0075b":"root""#,
        r#""exp":4000000000"#,
        r#""caps":[],"caps":[]"#,
        r#""aud":"a","aud":"b""#,
    ] {
        assert_eq!(with(member), refused("claims"), "{member}");
    }
    for claims in ["[]", "null", "", r#"["u",4000000000]"#, r#"{"sub":"u","exp":4000000000}{}"#, "\u{feff}{}"] {
        assert_eq!(verify(HS256, claims), refused("claims"), "{claims:?}");
    }
}

#[test]
fn names_are_texts_of_some_length() {
    let exp = NOW + 60;
    assert_eq!(verify(HS256, &format!(r#"{{"exp":{exp}}}"#)), refused("sub"));
    let long = format!(r#""{}""#, "u".repeat(256));
    for value in [r#""""#, "1.5", "[]", "{}", r#""a\nb""#, r#""\u0000""#, &long] {
        assert_eq!(verify(HS256, &format!(r#"{{"sub":{value},"exp":{exp}}}"#)), refused("sub"), "{value}");
        assert_eq!(with(&format!(r#""jti":{value}"#)), refused("jti"), "{value}");
    }
}

#[test]
fn channels_caps_and_info_are_bounded_and_known() {
    let names = |count: usize| (0..count).map(|n| format!(r#""c{n}""#)).collect::<Vec<_>>().join(",");
    assert_eq!(with(&format!(r#""channels":[{}]"#, names(64))).unwrap().channels.len(), 64);
    for value in [&format!("[{}]", names(65)), r#""news""#, "[1]", r#"[""]"#, r#"["a b"]"#, r#"["news:*"]"#, "{}"] {
        assert_eq!(with(&format!(r#""channels":{value}"#)), refused("channels"), "{value}");
    }

    assert!(with(&format!(r#""caps":[{{"channels":[{}],"allow":[]}}]"#, names(64))).is_ok());
    for value in [
        "{}",
        r#"["news"]"#,
        r#"[{"channels":["a"]}]"#,
        r#"[{"allow":["sub"]}]"#,
        r#"[{"channels":"a","allow":["sub"]}]"#,
        r#"[{"channels":["a"],"allow":["subscribe"]}]"#,
        r#"[{"channels":["a"],"allow":["SUB"]}]"#,
        r#"[{"channels":["a"],"allow":["*"]}]"#,
        r#"[{"channels":["a"],"allow":["sub"],"match":"regex"}]"#,
        r#"[{"channels":["a"],"allow":["sub"],"match":""}]"#,
        r#"[{"channels":null,"allow":["sub"]}]"#,
        r#"[{"channels":["a*"],"allow":["sub"],"match":"wildcard"}]"#,
        r#"[{"channels":["a:*"],"allow":["sub"]}]"#,
        r#"[{"channels":["a"],"allow":["sub"],"until":5}]"#,
        r#"[{"channels":["a"],"channels":["b"],"allow":["sub"]}]"#,
        &format!(r#"[{{"channels":[{}],"allow":["sub"]}},{{"channels":["x"],"allow":["sub"]}}]"#, names(64)),
    ] {
        assert_eq!(with(&format!(r#""caps":{value}"#)), refused("caps"), "{value}");
    }

    assert_eq!(with(&format!(r#""info":"{}""#, "i".repeat(4094))).unwrap().info.unwrap().len(), 4096);
    assert_eq!(with(&format!(r#""info":"{}""#, "i".repeat(4095))), refused("info"));
    assert_eq!(with(r#""info":null"#).unwrap().info, None);
    assert_eq!(with(r#""channel":"news""#), refused("kind"), "a subscription token is no connection token");
}

#[test]
fn nobody_is_anonymous_by_accident() {
    let mut settings = settings();
    settings.allow_anonymous = true;
    let authenticator = authenticator(&settings);
    assert!(authenticator.verify("", NOW).is_err());
    assert!(authenticator.verify("nonsense", NOW).is_err());
}

#[test]
fn unusable_keys_are_refused_at_the_start() {
    install_crypto();
    let dir = tempfile::tempdir().unwrap();
    let other_curve = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let problem = |key: KeySettings| {
        let problems = Authenticator::new(&Settings { keys: vec![key], ..Settings::default() }).err().unwrap();
        problems.to_string()
    };
    let hmac = |secret: &str| KeySettings::hmac(Secret::new(secret));

    let short = problem(hmac("short secret"));
    assert_eq!(short, "auth.keys[0].secret: 12 bytes; at least 32 are needed (openssl rand -base64 32)");
    assert!(!problem(hmac("hunter2hunter2")).contains("hunter2"));
    assert!(problem(hmac(&ec.public_key_pem())).starts_with("auth.keys[0].secret: a PEM key"));
    assert!(problem(KeySettings::of(Algorithm::HS256)).starts_with("auth.keys[0].secret: HS256 needs"));
    assert!(problem(KeySettings::of(Algorithm::RS256)).starts_with("auth.keys[0].public_key: RS256 needs"));
    let both = KeySettings { secret_file: Some(dir.path().join("x")), ..hmac(SECRET) };
    assert!(problem(both).starts_with("auth.keys[0].secret_file: secret is set as well"));
    let mixed = KeySettings { public_key: Some(ec.public_key_pem()), ..hmac(SECRET) };
    assert!(problem(mixed).starts_with("auth.keys[0].public_key: HS256 has no public key"));
    let missing = KeySettings { secret_file: Some(dir.path().join("none")), ..KeySettings::of(Algorithm::HS256) };
    assert!(problem(missing).starts_with("auth.keys[0].secret_file: cannot read"));

    let public = |algorithm, pem: String| KeySettings { public_key: Some(pem), ..KeySettings::of(algorithm) };
    assert!(problem(public(Algorithm::ES256, ec.serialize_pem())).contains("a private key"));
    assert!(problem(public(Algorithm::RS256, ec.public_key_pem())).contains("not a public key for RS256"));
    assert!(problem(public(Algorithm::RS256, "nonsense".to_owned())).contains("not a public key for RS256"));
    assert!(problem(public(Algorithm::ES256, other_curve.public_key_pem())).contains("another curve"));

    let file = dir.path().join("secret");
    std::fs::write(&file, format!("{SECRET}\n")).unwrap();
    let from_file = KeySettings { secret_file: Some(file), ..KeySettings::of(Algorithm::HS256) };
    let authenticator = authenticator(&Settings { keys: vec![from_file], ..Settings::default() });
    assert!(authenticator.verify(&hmac_token(HS256, &good_claims(), SECRET), NOW).is_ok());

    // The same secret, wherever it comes from and whatever ended its line.
    for end in ["", "\n", "\r\n"] {
        let settings = Settings { keys: vec![hmac(&format!("{SECRET}{end}"))], ..Settings::default() };
        assert!(
            Authenticator::new(&settings).ok().unwrap().verify(&hmac_token(HS256, &good_claims(), SECRET), NOW).is_ok(),
            "{end:?}"
        );
    }
    for (text, fault) in [
        (format!("\u{feff}{SECRET}"), "begins with a byte order mark"),
        (format!("{SECRET} "), "ends with a blank"),
        (format!("{SECRET}\n\n"), "ends with a blank"),
        (format!("{SECRET}\t\n"), "ends with a blank"),
    ] {
        let inline = problem(hmac(&text));
        assert!(inline.starts_with(&format!("auth.keys[0].secret: {fault}")), "{inline}");
        let file = dir.path().join("unseen");
        std::fs::write(&file, &text).unwrap();
        let of_file = problem(KeySettings { secret_file: Some(file), ..KeySettings::of(Algorithm::HS256) });
        assert!(of_file.starts_with(&format!("auth.keys[0].secret_file: {fault}")), "{of_file}");
    }

    let nobody = Authenticator::new(&Settings::default()).err().unwrap().to_string();
    assert!(nobody.starts_with("auth.keys: empty"), "{nobody}");
    let late = Settings { leeway: Duration::from_secs(61), ..settings() };
    assert!(Authenticator::new(&late).err().unwrap().to_string().starts_with("auth.leeway"));
}
