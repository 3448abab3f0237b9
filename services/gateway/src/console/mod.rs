//! The page at `/`: one connects over any transport, publishes, and watches publications, gaps and positions.
//!
//! One file without external parts. It is served with a policy that lets nothing run but its own script, named by hash,
//! and nothing be reached but this node; what channels carry is only ever shown as text.

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, header};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::api;

const PAGE: &str = include_str!("index.html");

/// Where the defaults go.
const PLACE: &str = r#"<script type="application/json" id="defaults">{}</script>"#;

/// What the page's fields hold at first. Secrets belong here in development only: whoever opens the page reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Defaults {
    /// A connection token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// An API key for publishing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Channels to subscribe to; the first is also the one to publish to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Name of the query parameter in which this node takes a token. Without it SSE is used without a token, because
    /// `EventSource` sends no headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_parameter: Option<String>,
}

/// The route `/`.
pub fn router(defaults: &Defaults) -> Router {
    let page: Arc<(Bytes, HeaderValue)> = Arc::new((Bytes::from(page(defaults)), policy()));
    Router::new()
        .route("/", get(move || async move { response(page.0.clone(), page.1.clone()) }))
        .method_not_allowed_fallback(api::method_not_allowed)
}

fn page(defaults: &Defaults) -> String {
    // The only way out of a script element is through `<`.
    let json = serde_json::to_string(defaults).unwrap_or_else(|_| "{}".to_owned()).replace('<', "\\u003c");
    PAGE.replacen(PLACE, &PLACE.replace("{}", &json), 1)
}

fn response(page: Bytes, policy: HeaderValue) -> Response {
    let mut response = Response::new(page.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    // It holds secrets in development: no page of another origin may read it, whatever `auth.allowed_origins` says.
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// Names the page's one script and one style by their hashes.
fn policy() -> HeaderValue {
    let hash = |tag: &str| {
        let text = element(tag).unwrap_or_default();
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
    };
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style"),
    );
    // Base64 and the text around it are legal in a header; were they not, nothing at all may run.
    HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The content of the page's element `<tag>` that has no attributes.
fn element(tag: &str) -> Option<&'static str> {
    let (_, rest) = PAGE.split_once(&format!("<{tag}>"))?;
    rest.split_once(&format!("</{tag}>")).map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn get_page(defaults: &Defaults) -> (http::HeaderMap, String) {
        let request = Request::get("/").body(Body::empty()).unwrap();
        let (head, body) = router(defaults).oneshot(request).await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        (head.headers, String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap())
    }

    #[tokio::test]
    async fn only_its_own_script_may_run() {
        let (headers, page) = get_page(&Defaults::default()).await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        for tag in ["script", "style"] {
            assert_eq!(page.matches(&format!("<{tag}>")).count(), 1, "one {tag}, so one hash");
            let text = page.split_once(&format!("<{tag}>")).unwrap().1.split_once(&format!("</{tag}>")).unwrap().0;
            let hash = STANDARD.encode(Sha256::digest(text));
            assert!(policy.contains(&format!("{tag}-src 'sha256-{hash}'")), "{tag}");
        }
        for forbidden in ["http://", "https://", " style=", " onclick=", "innerHTML", "src="] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert_eq!(headers["cache-control"], "no-store");
    }

    #[tokio::test]
    async fn defaults_cannot_break_out() {
        let defaults = Defaults {
            token: Some("</script><script>alert(1)</script>".to_owned()),
            api_key: Some("k\"'<!--".to_owned()),
            channels: vec!["news".to_owned()],
            token_parameter: None,
        };
        let (_, page) = get_page(&defaults).await;
        let json = page.split_once(r#"id="defaults">"#).unwrap().1.split_once("</script>").unwrap().0;
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["token"], "</script><script>alert(1)</script>");
        assert_eq!(value["api_key"], "k\"'<!--");
        assert_eq!(value["channels"][0], "news");
        assert_eq!(page.matches("<script>").count(), 1);
    }

    #[test]
    fn the_page_has_a_place_for_the_defaults() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
    }
}
