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
