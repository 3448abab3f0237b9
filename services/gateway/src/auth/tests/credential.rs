use super::*;

/// The token that a request presents, or the part of the request that is at fault.
type Presented = Result<Option<String>, &'static str>;

fn credentials(cookie: Option<&str>, parameter: Option<&str>) -> Credentials {
    let settings =
        Settings { cookie: cookie.map(str::to_owned), query_parameter: parameter.map(str::to_owned), ..settings() };
    Credentials::new(&settings).unwrap_or_else(|problems| panic!("{problems}"))
}

fn present(credentials: &Credentials, uri: &str, headers: &[(&str, &str)], caller: &Caller) -> Presented {
    let (headers, uri) = request(uri, headers);
    let presented = credentials.presented(&headers, &uri, caller);
    presented.map(|token| token.map(|token| token.into_owned())).map_err(|failure| failure.metric_label())
}

fn token(text: &str) -> Presented {
    Ok(Some(text.to_owned()))
}

fn refused(part: &'static str) -> Presented {
    Err(part)
}

#[test]
fn the_header_is_always_read() {
    let off = credentials(None, None);
    let bearer = |value: &str| present(&off, "/sse", &[("authorization", value)], &Caller::Unstated);
    assert_eq!(bearer("Bearer a.b.c"), token("a.b.c"));
    assert_eq!(bearer("bearer a.b.c"), token("a.b.c"));
    for bad in ["", "Bearer", "Bearer ", "a.b.c", "Basic dTpw", "Token a.b.c", "Bearer\ta", "apikey fw_x_y"] {
        assert_eq!(bearer(bad), refused("authorization"), "{bad:?}");
    }
    let twice = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_eq!(present(&off, "/", &twice, &Caller::Unstated), refused("authorization"));
    assert_eq!(present(&off, "/sse?channel=a", &[("cookie", "session=x")], &Caller::Unstated), Ok(None));
}

#[test]
fn a_token_in_the_url_is_read_only_where_the_settings_say() {
    let (off, on) = (credentials(None, None), credentials(None, Some("ticket")));
    for uri in
        ["/?token=a.b.c", "/?channel=x&access_token=a", "/?TOKEN=a", "/?token", "/?token=", "/?%74oken=a", "/?jwt=a"]
    {
        assert_eq!(present(&off, uri, &[], &Caller::Unstated), refused("query_disabled"), "{uri}");
        assert_eq!(present(&on, uri, &[], &Caller::Unstated), refused("query_disabled"), "{uri}");
    }
    assert_eq!(present(&on, "/?channel=x&ticket=a.b.c", &[], &Caller::Unstated), token("a.b.c"));
    assert_eq!(present(&on, "/?ticket=", &[], &Caller::Unstated), refused("query"));
    assert_eq!(present(&on, "/?ticket=a&ticket=b", &[], &Caller::Unstated), refused("query"));
    let both = present(&on, "/?ticket=a", &[("authorization", "Bearer b")], &Caller::Unstated);
    assert_eq!(both, refused("two_credentials"));
    let named_as_usual = credentials(None, Some("token"));
    assert_eq!(present(&named_as_usual, "/?token=a", &[], &Caller::Unstated), token("a"));
}

/// With `auth.allow_anonymous`, an ignored token would make its sender anonymous.
#[test]
fn another_spelling_of_the_parameter_is_refused() {
    let on = credentials(None, Some("auth_token"));
    assert_eq!(present(&on, "/?auth_token=a", &[], &Caller::Unstated), token("a"));
    for uri in ["/?Auth_Token=a", "/?auth-token=a", "/?authToken=a", "/?AUTH_TOKEN", "/?auth_token=a&authtoken=b"] {
        assert_eq!(present(&on, uri, &[], &Caller::Unstated), refused("query_disabled"), "{uri}");
    }
    for uri in ["/?accessToken=a", "/?access-token=a", "/?JWT=a"] {
        assert_eq!(present(&on, uri, &[], &Caller::Unstated), refused("query_disabled"), "{uri}");
    }
    assert_eq!(present(&on, "/?auth=a&token_auth=b&channel=c", &[], &Caller::Unstated), Ok(None));
}

#[test]
fn a_cookie_counts_for_friendly_pages_only() {
    let on = credentials(Some("session"), None);
    let listed = Caller::Listed("https://a.example".parse().unwrap());
    let cookie = |value: &str, caller: &Caller| present(&on, "/", &[("cookie", value)], caller);
    for caller in [&listed, &Caller::SameOrigin] {
        assert_eq!(cookie("a=1; session=a.b.c; b=2", caller), token("a.b.c"));
        assert_eq!(cookie("session=\"a.b.c\"", caller), token("a.b.c"));
    }
    assert_eq!(cookie("session=a.b.c", &Caller::Unstated), refused("cookie_origin"));
    assert_eq!(cookie("session=a.b.c", &Caller::Any), refused("cookie_origin"));
    let stated = |site| present(&on, "/", &[("cookie", "session=a"), ("sec-fetch-site", site)], &Caller::Unstated);
    assert_eq!(stated("same-origin"), token("a"));
    for site in ["cross-site", "same-site", "none"] {
        assert_eq!(stated(site), refused("cookie_origin"), "{site}");
    }
    assert_eq!(cookie("other=1", &listed), Ok(None));
    assert_eq!(cookie("xsession=1; session2=2; Session=3", &listed), Ok(None));
    assert_eq!(cookie("session=", &listed), refused("cookie"));
    assert_eq!(cookie("session=a; session=b", &listed), refused("cookie"));
    let split = [("cookie", "session=a"), ("cookie", "session=b")];
    assert_eq!(present(&on, "/", &split, &listed), refused("cookie"));
    // What was sent on purpose goes first.
    let both = [("cookie", "session=a"), ("authorization", "Bearer b")];
    assert_eq!(present(&on, "/", &both, &Caller::Unstated), token("b"));
}

#[test]
fn names_are_checked() {
    for bad in ["", "a b", "a=b", "ä", "a;b"] {
        let settings = Settings { cookie: Some(bad.to_owned()), query_parameter: Some(bad.to_owned()), ..settings() };
        let problems = Credentials::new(&settings).err().unwrap();
        assert_eq!(problems.iter().count(), 2, "{bad:?}: {problems}");
    }
}

#[test]
fn a_parameter_with_a_meaning_carries_no_token() {
    for taken in ["channel", "cursor", "timeout", "lastEventId", "last-event-id", "evs_last_event_id"] {
        let settings = Settings { query_parameter: Some(taken.to_owned()), ..settings() };
        let problem = Credentials::new(&settings).err().unwrap().to_string();
        assert!(problem.starts_with(&format!("auth.query_parameter: {taken:?} already means")), "{problem}");
    }
}
