//! Which token a request presents.
//!
//! Three places can carry one: `Authorization: Bearer`, a cookie, a query parameter; the latter two only if the settings
//! name them. (A fourth, the connect command itself, belongs to the session.) A token in a place that is not enabled is
//! an error rather than ignored: its sender believes to be somebody and must not be served as nobody.

use std::borrow::Cow;

use fanway_hub::AuthFailure;
use http::Uri;
use http::header::{self, HeaderMap};

use super::origin::Caller;
use super::settings::Settings;
use crate::config::Problems;

/// Query parameters in common use for tokens; refused in any spelling unless enabled.
const USUAL_PARAMETERS: [&str; 4] = ["token", "access_token", "jwt", "authorization"];

/// Query parameters with a meaning of their own, in any spelling: a token there would be taken for a channel or a position.
const OWN_PARAMETERS: [&str; 5] = ["channel", "cursor", "timeout", "lasteventid", "evslasteventid"];

/// Where tokens are looked for. Immutable; share it.
#[derive(Clone, Debug)]
pub struct Credentials {
    cookie: Option<String>,
    parameter: Option<String>,
}

impl Credentials {
    /// Checks the settings.
    pub fn new(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let is_word = |name: &Option<String>| {
            name.as_deref().is_none_or(|name| {
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            })
        };
        let fault = "not a name; use letters, digits, '_' and '-', or leave it out to disable it";
        problems.require(is_word(&settings.cookie), "auth.cookie", fault);
        problems.require(is_word(&settings.query_parameter), "auth.query_parameter", fault);
        let parameter = settings.query_parameter.as_deref().unwrap_or_default();
        if OWN_PARAMETERS.iter().any(|own| differ_in_spelling_only(own, parameter)) {
            let fault = format!(
                "{parameter:?} already means something in the paths for clients; use another such as \"token\""
            );
            problems.add("auth.query_parameter", fault);
        }
        problems.into_result(Self { cookie: settings.cookie.clone(), parameter: settings.query_parameter.clone() })
    }

    /// The presented token; `None` if nothing is presented. `caller` is what [`super::Origins::judge`] found.
    ///
    /// A token that is sent on purpose (header, query) goes before a cookie, which browsers send by themselves.
    pub fn presented<'r>(
        &self,
        headers: &'r HeaderMap,
        uri: &'r Uri,
        caller: &Caller,
    ) -> Result<Option<Cow<'r, str>>, AuthFailure> {
        match (bearer(headers)?, self.query(uri)?) {
            (Some(_), Some(_)) => Err(AuthFailure::invalid("two_credentials", "one in a header and one in the query")),
            (Some(token), None) => Ok(Some(Cow::Borrowed(token))),
            (None, Some(token)) => Ok(Some(token)),
            (None, None) => Ok(self.cookie(headers, caller)?.map(Cow::Borrowed)),
        }
    }

    fn query<'r>(&self, uri: &'r Uri) -> Result<Option<Cow<'r, str>>, AuthFailure> {
        let mut found = None;
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            let enabled = self.parameter.as_deref();
            if enabled == Some(&*name) {
                if value.is_empty() || found.is_some() {
                    return Err(AuthFailure::invalid("query", "empty, or given twice"));
                }
                found = Some(value);
            } else if USUAL_PARAMETERS.into_iter().chain(enabled).any(|known| differ_in_spelling_only(known, &name)) {
                return Err(AuthFailure::invalid("query_disabled", "not the parameter of auth.query_parameter"));
            }
        }
        Ok(found)
    }

    fn cookie<'r>(&self, headers: &'r HeaderMap, caller: &Caller) -> Result<Option<&'r str>, AuthFailure> {
        let Some(wanted) = self.cookie.as_deref() else { return Ok(None) };
        let mut found = None;
        for line in headers.get_all(header::COOKIE) {
            let line = line.to_str().map_err(|_| AuthFailure::invalid("cookie", "not ASCII"))?;
            for pair in line.split(';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                if name.trim() != wanted {
                    continue;
                }
                let value = value.trim();
                let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
                // Two cookies of one name: one of them was planted by a neighbouring host, and nobody can tell which.
                if value.is_empty() || found.is_some() {
                    return Err(AuthFailure::invalid("cookie", "empty, or given twice"));
                }
                found = Some(value);
            }
        }
        if found.is_some() && !may_use_cookies(headers, caller) {
            return Err(AuthFailure::invalid(
                "cookie_origin",
                "not from a page of auth.allowed_origins or of this host",
            ));
        }
        Ok(found)
    }
}

/// Compares names without regard to case, `-` and `_`.
fn differ_in_spelling_only(a: &str, b: &str) -> bool {
    letters(a).eq(letters(b))
}

fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !matches!(byte, b'-' | b'_')).map(|byte| byte.to_ascii_lowercase())
}

/// A browser sends cookies whoever asks it to, so they count only for pages that are known to be friendly. For a plain GET
/// of a page's own host browsers send no `Origin`, but they state in `Sec-Fetch-Site` that it is one.
fn may_use_cookies(headers: &HeaderMap, caller: &Caller) -> bool {
    match caller {
        Caller::Listed(_) | Caller::SameOrigin => true,
        Caller::Unstated => headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin"),
        Caller::Any => false,
    }
}

fn bearer(headers: &HeaderMap) -> Result<Option<&str>, AuthFailure> {
    const MALFORMED: AuthFailure = AuthFailure::invalid("authorization", "not one `Bearer <token>`");
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| MALFORMED)?,
        (Some(_), Some(_)) => return Err(MALFORMED),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() => Ok(Some(token)),
        _ => Err(MALFORMED),
    }
}
