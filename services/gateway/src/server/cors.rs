//! Cross-origin access: the one place that decides which headers let a page of another origin read an answer.
//!
//! Which origins are allowed is decided by a function that the endpoint gets; this module knows the protocol (the Fetch
//! standard, "HTTP-CORS protocol"). It is asked for every answer to a request whose head was read whole: those of the
//! router, the server's own, and those of a full node. A page that cannot read a 503 learns neither that the node is full
//! nor when to come back; a page of any other origin must learn nothing.

use std::fmt;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};

/// What a page of another origin may send besides what CORS always allows.
const ALLOWED_HEADERS: HeaderValue =
    HeaderValue::from_static("authorization, cache-control, content-type, last-event-id, x-requested-with");
const ALLOWED_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST");
/// What a page of another origin may read of an answer's head besides what CORS always allows.
const EXPOSED_HEADERS: HeaderValue = HeaderValue::from_static("retry-after");
/// How long a browser may keep the answer to a preflight, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");
/// By this header an answer says that it is for pages of its own origin only, whatever is allowed.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// What the origin of a request may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginAccess {
    /// It needs no permission: the request names no origin, or that of this host.
    SameOrigin,
    /// It may read the answer, as any other.
    Any,
    /// It may read the answer.
    Listed {
        /// The origin as sent.
        origin: HeaderValue,
        /// Also the answers to requests with cookies.
        credentials: bool,
    },
    /// It may not read the answer.
    Foreign,
}

type Judge = dyn Fn(&HeaderMap, &Uri) -> OriginAccess + Send + Sync;

/// Who may read the answers of an endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Cors {
    judge: Arc<Judge>,
}

impl Cors {
    /// `judge` decides by the headers and the target of a request.
    pub fn new(judge: impl Fn(&HeaderMap, &Uri) -> OriginAccess + Send + Sync + 'static) -> Self {
        Self { judge: Arc::new(judge) }
    }

    /// Decides on a request.
    pub(super) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> CrossOrigin {
        let access = match headers.contains_key(header::ORIGIN) {
            true => (self.judge)(headers, uri),
            false => OriginAccess::SameOrigin,
        };
        CrossOrigin {
            access,
            preflight: method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
            // The same request gets other headers for another origin or none, even where all origins are allowed: caches
            // must keep the answers apart. They keep none to other methods.
            varies: method == Method::GET || method == Method::HEAD || method == Method::OPTIONS,
        }
    }
}

impl fmt::Debug for Cors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cors").finish_non_exhaustive()
    }
}

/// The decision on one request.
#[derive(Clone, Debug)]
pub(super) struct CrossOrigin {
    access: OriginAccess,
    preflight: bool,
    varies: bool,
}

impl CrossOrigin {
    /// Whether the request is a preflight: it is answered here, before anybody looks at what it is for.
    pub(super) fn is_preflight(&self) -> bool {
        self.preflight
    }

    /// Whether the request comes from a page that may not use this endpoint.
    pub(super) fn is_foreign(&self) -> bool {
        self.access == OriginAccess::Foreign
    }

    /// Adds to an answer's head what this request's page needs in order to read it, or to go on after a preflight.
    pub(super) fn mark(&self, answer: &mut HeaderMap) {
        if self.varies {
            answer.append(header::VARY, HeaderValue::from_static("origin"));
        }
        let asks_nothing = self.access == OriginAccess::SameOrigin && !self.preflight;
        if asks_nothing || self.access == OriginAccess::Foreign {
            return;
        }
        if answer.get(RESOURCE_POLICY).is_some_and(|policy| policy == "same-origin") {
            return;
        }
        match &self.access {
            OriginAccess::SameOrigin | OriginAccess::Foreign => {}
            OriginAccess::Any => {
                answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            OriginAccess::Listed { origin, credentials } => {
                answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                if *credentials {
                    answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
                }
            }
        }
        if self.preflight {
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
            answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
        } else if self.access != OriginAccess::SameOrigin {
            answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED_HEADERS);
        }
    }
}
