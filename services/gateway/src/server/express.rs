//! The way around the router for what is asked for most.
//!
//! A router is made for many paths; finding one in it and passing the request through its layers costs more than many a
//! handler does. One path with one method may be served without. The router must have it as well, by the same handler:
//! other methods of the path, and other ways to write it, are the router's.

use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use http::request::Parts;
use http::{Method, Request, Response};

type Answered = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// One path with one method, and what answers it.
#[derive(Clone)]
pub struct Express {
    method: Method,
    path: &'static str,
    handler: Arc<dyn Fn(Request<Body>) -> Answered + Send + Sync>,
}

impl Express {
    /// What `POST` on a path is answered by.
    pub fn post<F>(path: &'static str, handler: impl Fn(Request<Body>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self { method: Method::POST, path, handler: Arc::new(move |request| Box::pin(handler(request))) }
    }

    /// Whether it is for a request with this head.
    pub(super) fn takes(&self, head: &Parts) -> bool {
        head.uri.path() == self.path && head.method == self.method
    }

    /// Answers the request.
    pub(super) fn answer(&self, request: Request<Body>) -> Answered {
        (self.handler)(request)
    }
}

impl std::fmt::Debug for Express {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}
