//! An echo server over the gateway's WebSocket codec, for conformance suites: it sends back every text and binary message.
//!
//! `cargo run --example websocket_echo -- 127.0.0.1:9101`. It prints the address that it listens on; port 0 picks a free one.

use std::{
    env,
    io::{self, Write as _},
    sync::Mutex,
    time::Duration,
};

use anyhow::Context as _;
use bytes::Bytes;
use fanway_gateway::transport::websocket::handshake;
use fanway_protocol::framing::websocket::{Decoder, Event, Fault, Limits, Opcode, frame};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::http1,
    service::service_fn,
    upgrade::{self, OnUpgrade, Upgraded},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time,
};

/// Suites send messages of 16 MiB, in many thousands of fragments.
const LIMITS: Limits = Limits { max_message_bytes: 64 << 20, max_fragments: 1 << 20, binary: true };

/// How long the peer may take to close after the closing handshake.
const LINGER: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9101".into());
    let listener = TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("{}", listener.local_addr()?);
    io::stdout().flush()?;

    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted?;
                connections.spawn(serve(socket));
            }
            Some(ended) = connections.join_next() => {
                if let Err(error) | Ok(Err(error)) = ended.map_err(anyhow::Error::from) {
                    eprintln!("connection ended: {error:#}");
                }
            }
        }
    }
}

/// One connection: the HTTP request, then the echo.
async fn serve(socket: TcpStream) -> anyhow::Result<()> {
    let upgraded: Mutex<Option<OnUpgrade>> = Mutex::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        let response = answer(request, &upgraded);
        async { Ok::<_, std::convert::Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await?;
    let on_upgrade = upgraded.lock().ok().and_then(|mut slot| slot.take());
    match on_upgrade {
        Some(on_upgrade) => echo(TokioIo::<Upgraded>::new(on_upgrade.await?)).await.map_err(Into::into),
        None => Ok(()),
    }
}

/// Answers the upgrade request, and leaves the upgrade behind if it was granted.
fn answer(mut request: Request<Incoming>, upgraded: &Mutex<Option<OnUpgrade>>) -> Response<Full<Bytes>> {
    match handshake::check(&request) {
        Ok(accept) => {
            if let Ok(mut slot) = upgraded.lock() {
                *slot = Some(upgrade::on(&mut request));
            }
            accept.response().map(|()| Full::default())
        }
        Err(refusal) => refusal.response().map(Full::new),
    }
}

/// Sends back what comes, until either side closes.
async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut decoder = Decoder::new(LIMITS);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = io.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut out = Vec::new();
        let open = match reply(&mut decoder, &mut buffer[..read], &mut out) {
            Ok(open) => open,
            Err(fault) => {
                frame::write_close(&mut out, Some(fault.close_code()), fault.reason());
                false
            }
        };
        io.write_all(&out).await?;
        if !open {
            return linger(io, &mut buffer).await;
        }
    }
}

/// Writes the replies to one read; says whether the connection goes on.
fn reply(decoder: &mut Decoder, mut input: &mut [u8], out: &mut Vec<u8>) -> Result<bool, Fault> {
    while let Some(event) = decoder.next(&mut input)? {
        match event {
            Event::Text(text) => frame::write(out, Opcode::Text, text.as_bytes()),
            Event::Binary(bytes) => frame::write(out, Opcode::Binary, bytes),
            Event::Ping(payload) => frame::write(out, Opcode::Pong, payload),
            Event::Pong(_) => {}
            Event::Close { code, reason } => {
                frame::write_close(out, code, reason);
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Ends the sending side, then reads until the peer ends its own: closing with unread input would reset the
/// connection, and the reset could overtake the close frame.
async fn linger(mut io: impl AsyncRead + AsyncWrite + Unpin, buffer: &mut [u8]) -> io::Result<()> {
    io.shutdown().await?;
    let drained = async {
        while io.read(buffer).await? > 0 {}
        Ok(())
    };
    time::timeout(LINGER, drained).await.unwrap_or(Ok(()))
}
