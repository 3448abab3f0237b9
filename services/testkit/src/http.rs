//! Single HTTP requests, each over a connection of its own.

use std::time::Duration;

use ::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

use crate::PATIENCE;
use crate::dial::{Target, dial};

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The body as JSON; panics when it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{} with a body that is not JSON ({error}): {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, if it is there and text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there is no response.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listens, or the connection broke before the response was complete.
    Connection(String),
    /// Not within the deadline.
    TimedOut,
}

/// `GET` with headers.
pub async fn get(target: impl Into<Target>, headers: &[(&str, &str)]) -> Response {
    let target = target.into();
    request(Method::GET, &target, headers, Bytes::new(), PATIENCE)
        .await
        .unwrap_or_else(|failure| panic!("GET {}: {failure:?}", target.uri))
}

/// `POST` of a JSON value, with more headers.
pub async fn post_json(target: impl Into<Target>, headers: &[(&str, &str)], body: &Value) -> Response {
    let target = target.into();
    let headers = [&[("content-type", "application/json")], headers].concat();
    request(Method::POST, &target, &headers, Bytes::from(body.to_string()), PATIENCE)
        .await
        .unwrap_or_else(|failure| panic!("POST {}: {failure:?}", target.uri))
}

/// Any request, over HTTP/1.1.
pub async fn request(
    method: Method,
    target: &Target,
    headers: &[(&str, &str)],
    body: Bytes,
    deadline: Duration,
) -> Result<Response, Failure> {
    tokio::time::timeout(deadline, exchange(method, target, headers, body)).await.map_err(|_| Failure::TimedOut)?
}

async fn exchange(method: Method, target: &Target, headers: &[(&str, &str)], body: Bytes) -> Result<Response, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Connection(error.to_string());
    let stream = dial(target, &["http/1.1"]).await.map_err(|error| broken(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let mut request = Request::builder().method(method).uri(target.path()).header("host", target.authority());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).expect("the test's headers are legal");
    let response = async {
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(Response { status: head.status, headers: head.headers, body })
    };
    // The connection is driven here, beside the exchange, so that it ends with it.
    tokio::pin!(response, connection);
    let mut driving = true;
    loop {
        tokio::select! {
            answer = &mut response => return answer.map_err(|error| broken(&error)),
            _ = &mut connection, if driving => driving = false,
        }
    }
}
