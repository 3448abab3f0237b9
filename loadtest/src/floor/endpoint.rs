//! The endpoint that only parses: axum as it comes, a body limit, a publish request read into its type, an answer like a
//! publish's. What publishing over HTTP costs before anything is published.
//!
//! A process of its own, with as many threads as the server has (`TOKIO_WORKER_THREADS`).

use std::borrow::Cow;
use std::io::{Read, Write};

use anyhow::Context;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpListener;

/// Largest body, as that of the server by default.
const MAX_BODY: usize = 256 * 1024;

/// What a publish request holds.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

async fn publish(body: Bytes) -> Response {
    let Ok(Request { channel, data }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // Of all that was parsed something must be used, or nothing has to be parsed.
    let offset = channel.len() + data.get().len();
    let answer = format!(r#"{{"result":{{"offset":{offset},"epoch":"abcdefgh0123456789ab"}}}}"#);
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

/// The process's whole life: until its standard input ends, which is when its parent does.
pub fn serve() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", serde_json::to_string(&listener.local_addr()?)?);
        std::io::stdout().flush()?;
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let router = Router::new().route("/api/publish", post(publish)).layer(DefaultBodyLimit::max(MAX_BODY));
        let (sender, end) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            let _ = sender.send(());
        });
        tokio::select! {
            served = axum::serve(listener, router) => served.context("the endpoint gave way"),
            _ = end => Ok(()),
        }
    })
}
