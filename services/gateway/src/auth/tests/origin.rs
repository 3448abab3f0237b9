use http::{Method, StatusCode};

use super::*;

fn origins(allowed: &[&str], cookie: bool) -> Origins {
    let settings = Settings {
        allowed_origins: allowed.iter().map(|&origin| origin.to_owned()).collect(),
        cookie: cookie.then(|| "session".to_owned()),
        ..settings()
    };
    Origins::new(&settings).unwrap_or_else(|problems| panic!("{problems}"))
}

fn judge(origins: &Origins, headers: &[(&str, &str)]) -> Result<Caller, ForeignOrigin> {
    let (headers, uri) = request("/sse", headers);
    origins.judge(&headers, &uri, false)
}

#[test]
fn origins_are_compared_exactly() {
    let origins = origins(
        &["https://app.example.com", "HTTP://Localhost:3000", "https://a.example:443", "http://[::1]:5173"],
        false,
    );
    for good in ["https://app.example.com", "http://localhost:3000", "https://a.example", "http://[::1]:5173"] {
        let caller = judge(&origins, &[("host", "push.example.com"), ("origin", good)]);
        assert_eq!(caller, Ok(Caller::Listed(good.parse().unwrap())), "{good}");
    }
    for bad in [
        "null",
        "",
        "*",
        "https://app.example.com.evil.com",
        "https://evilapp.example.com",
        "https://evil.com/https://app.example.com",
        "https://app.example.com@evil.com",
        "https://example.com",
        "http://app.example.com",
        "HTTPS://app.example.com",
        "HTTPS://APP.EXAMPLE.COM",
        "https://APP.example.com",
        "https://app.example.com.",
        "https://app.example.com:",
        "https://app.example.com:443",
        "https://app.example.com:8443",
        "https://app.example.com/",
        " https://app.example.com",
        "https://app.example.com, https://evil.com",
        "app.example.com",
        "//app.example.com",
        "http://localhost",
        "http://localhost:30000",
        "http://push.example.com.",
    ] {
        assert_eq!(judge(&origins, &[("host", "push.example.com"), ("origin", bad)]), Err(ForeignOrigin), "{bad:?}");
    }
    let twice = [("host", "h"), ("origin", "https://app.example.com"), ("origin", "https://evil.com")];
    assert_eq!(judge(&origins, &twice), Err(ForeignOrigin));
    let (mut headers, uri) = request("/", &[]);
    headers.insert("origin", http::HeaderValue::from_bytes(b"https://app.example.com\xff").unwrap());
    assert_eq!(origins.judge(&headers, &uri, false), Err(ForeignOrigin));
}

#[test]
fn requests_of_no_page_and_of_this_hosts_pages_pass() {
    let origins = origins(&[], false);
    assert_eq!(judge(&origins, &[("host", "push.example.com")]), Ok(Caller::Unstated));
    let own = |host: &str, origin: &str, more: &[(&str, &str)], secure| {
        let (headers, uri) = request("/", &[&[("host", host), ("origin", origin)], more].concat());
        origins.judge(&headers, &uri, secure)
    };
    assert_eq!(own("push.example.com", "https://push.example.com", &[], true), Ok(Caller::SameOrigin));
    assert_eq!(own("push.example.com", "https://push.example.com", &[], false), Ok(Caller::SameOrigin));
    assert_eq!(own("127.0.0.1:8000", "http://127.0.0.1:8000", &[], false), Ok(Caller::SameOrigin));
    assert_eq!(own("Push.Example.com:80", "http://push.example.com", &[], false), Ok(Caller::SameOrigin));
    // A page that anybody on the way may have forged.
    assert_eq!(own("push.example.com", "http://push.example.com", &[], true), Err(ForeignOrigin));
    let forwarded = [("x-forwarded-proto", "https")];
    assert_eq!(own("push.example.com", "http://push.example.com", &forwarded, false), Err(ForeignOrigin));
    assert_eq!(own("push.example.com", "https://push.example.com", &forwarded, false), Ok(Caller::SameOrigin));
    // Another port is another origin.
    assert_eq!(own("127.0.0.1:8000", "http://127.0.0.1:9000", &[], false), Err(ForeignOrigin));
    assert_eq!(own("", "http://", &[], false), Err(ForeignOrigin));
    // HTTP/2 names the host in the URI.
    let (headers, uri) = request("https://push.example.com/", &[("origin", "https://push.example.com")]);
    assert_eq!(origins.judge(&headers, &uri, true), Ok(Caller::SameOrigin));
}

#[test]
fn only_allowed_pages_may_read_answers() {
    let mark = |origins: &Origins, origin: &str| {
        let caller = judge(origins, &[("host", "h"), ("origin", origin)]).unwrap();
        let mut answer = http::HeaderMap::new();
        origins.mark(&caller, &mut answer);
        let text = |name: &str| answer.get(name).map(|value| value.to_str().unwrap().to_owned());
        (text("access-control-allow-origin"), text("access-control-allow-credentials"), text("vary"))
    };
    let some = |text: &str| Some(text.to_owned());
    let listed = origins(&["https://a.example"], false);
    assert_eq!(mark(&listed, "https://a.example"), (some("https://a.example"), None, some("origin")));
    assert_eq!(mark(&listed, "https://h"), (None, None, some("origin")));
    let with_cookies = origins(&["https://a.example"], true);
    assert_eq!(mark(&with_cookies, "https://a.example"), (some("https://a.example"), some("true"), some("origin")));
    let any = origins(&["*"], false);
    assert_eq!(mark(&any, "https://whoever.example"), (some("*"), None, None));
}

#[test]
fn preflights_are_answered_here() {
    let origins = origins(&["https://a.example"], false);
    let ask = |origin: &str| {
        let (headers, uri) =
            request("/sse", &[("host", "h"), ("origin", origin), ("access-control-request-method", "GET")]);
        origins.preflight(&Method::OPTIONS, &headers, &uri, false).unwrap()
    };
    let allowed = ask("https://a.example");
    assert_eq!(allowed.status(), StatusCode::NO_CONTENT);
    assert_eq!(allowed.headers()["access-control-allow-origin"], "https://a.example");
    assert!(allowed.headers().contains_key("access-control-allow-headers"));
    let foreign = ask("https://evil.example");
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert!(foreign.headers().keys().all(|name| !name.as_str().starts_with("access-control")));
    let (headers, uri) = request("/sse", &[("host", "h"), ("origin", "https://a.example")]);
    assert!(origins.preflight(&Method::OPTIONS, &headers, &uri, false).is_none());
    assert!(origins.preflight(&Method::GET, &headers, &uri, false).is_none());
}

#[test]
fn settings_that_are_no_origins_are_refused() {
    let refusal = |allowed: &[&str], cookie: Option<&str>| {
        let allowed_origins = allowed.iter().map(|&origin| origin.to_owned()).collect();
        let settings = Settings { allowed_origins, cookie: cookie.map(str::to_owned), ..settings() };
        Origins::new(&settings).err().map(|problems| problems.to_string())
    };
    for bad in [
        "",
        "null",
        "app.example.com",
        "https://",
        "https://app.example.com/",
        "https://app.example.com/x",
        "https://*.example.com",
        "https://a b",
        "https://u@h",
        "https://h:",
        "https://h:0443",
        "https://h:99999",
        "https://h.",
        "https://é.example",
        "://h",
    ] {
        let text = refusal(&["https://ok.example", bad], None).unwrap_or_else(|| panic!("{bad:?} was accepted"));
        assert!(text.starts_with("auth.allowed_origins[1]: not an origin"), "{bad:?}: {text}");
    }
    assert_eq!(refusal(&["*"], None), None);
    assert!(refusal(&["*"], Some("session")).unwrap().starts_with("auth.allowed_origins: \"*\" together"));
}
