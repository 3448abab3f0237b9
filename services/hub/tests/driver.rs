//! The driver of connections, on sockets of the test's own.
#![allow(clippy::unwrap_used)]

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use fanway_hub::Hub;
use fanway_hub::driver::{Driver, Socket};
use fanway_hub::session::{Centrifugal, ClientSession};
use tokio::task::JoinHandle;

use support::{fast, hub, publish};

const HELLO: &[u8] = br#"{"id":1,"connect":{}}"#;
const SUBSCRIBE: &[u8] = br#"{"id":2,"subscribe":{"channel":"a"}}"#;

/// What a socket was asked for, and what it does.
#[derive(Default)]
struct State {
    input: Vec<u8>,
    /// The client has closed its half.
    closed: bool,
    /// Bytes that it takes.
    room: usize,
    written: Vec<u8>,
    shut: bool,
    /// Reads of the connection's task, one at least each time that it is polled.
    reads: usize,
    /// Writes of whoever does not wait.
    tries: usize,
    panics: bool,
    waker: Option<Waker>,
}

impl State {
    fn take(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.written.extend_from_slice(&bytes[..taken]);
        if taken == 0 { Poll::Pending } else { Poll::Ready(Ok(taken)) }
    }
}

#[derive(Clone, Default)]
struct Fake(Arc<Mutex<State>>);

impl Fake {
    /// Changes the socket, and wakes the connection's task as the kernel would.
    fn set(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap();
        change(&mut state);
        let waker = state.waker.clone();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn get<T>(&self, of: impl FnOnce(&State) -> T) -> T {
        of(&self.0.lock().unwrap())
    }

    async fn until(&self, what: &str, done: impl Fn(&State) -> bool) {
        self.drip(None, what, done).await;
    }

    /// Takes so many bytes at a time, until it is done.
    async fn drip(&self, room: Option<usize>, what: &str, done: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.get(&done) {
            let written = self.get(|state| String::from_utf8_lossy(&state.written).into_owned());
            assert!(Instant::now() < deadline, "{what}: {written:?}");
            if let Some(room) = room {
                self.set(|state| state.room = room);
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Socket for Fake {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        state.reads += 1;
        state.waker = Some(cx.waker().clone());
        let length = state.input.len().min(buffer.len());
        buffer[..length].copy_from_slice(&state.input[..length]);
        state.input.drain(..length);
        if length == 0 && !state.closed { Poll::Pending } else { Poll::Ready(Ok(length)) }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        state.waker = Some(cx.waker().clone());
        state.take(bytes)
    }

    fn try_write(&mut self, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        state.tries += 1;
        if state.panics {
            drop(state);
            panic!("as a fault in a connection would");
        }
        state.take(bytes)
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().unwrap().shut = true;
        Poll::Ready(Ok(()))
    }
}

/// A text frame of a client, masked with zeros.
fn frame(text: &[u8]) -> Vec<u8> {
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text].concat()
}

/// A connection whose client has connected and subscribed to `a`, with room for everything.
async fn subscribed(hub: &Arc<Hub>) -> (Fake, JoinHandle<()>) {
    let socket = Fake::default();
    let driver = Driver::<Centrifugal, _>::new(socket.clone(), &mut frame(HELLO), |handle| {
        ClientSession::new(hub.clone(), None, handle, Instant::now())
    });
    let task = tokio::spawn(driver);
    socket.set(|state| (state.room, state.input) = (usize::MAX, frame(SUBSCRIBE)));
    socket.until("subscribed", |state| contains(&state.written, r#"{"id":2,"subscribe""#)).await;
    (socket, task)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

#[tokio::test]
async fn a_publication_is_written_without_the_connections_task() {
    let (hub, broker) = hub(0, fast());
    let (socket, _task) = subscribed(&hub).await;
    let (reads, tries) = socket.get(|state| (state.reads, state.tries));
    publish(&broker, &hub, "a", "7".to_owned()).await;
    socket.until("delivered", |state| contains(&state.written, r#""data":7"#)).await;
    tokio::task::yield_now().await;
    assert_eq!(socket.get(|state| (state.reads, state.tries)), (reads, tries + 1));
}

/// Whoever writes, and however little the socket takes: bytes leave in order, the last ones last, and nothing after them.
#[tokio::test]
async fn a_socket_that_takes_little_gets_everything_in_order() {
    let (hub, broker) = hub(0, fast());
    let (whole, _task) = subscribed(&hub).await;
    let (slow, task) = subscribed(&hub).await;
    whole.set(|state| state.written.clear());
    slow.set(|state| (state.written, state.room) = (Vec::new(), 5));
    for data in 0..20 {
        publish(&broker, &hub, "a", data.to_string()).await;
        slow.set(|state| state.room += 3);
    }
    whole.until("delivered", |state| contains(&state.written, r#""data":19"#)).await;
    let delivered = whole.get(|state| state.written.clone());
    slow.drip(Some(7), "the rest", |state| state.written.len() >= delivered.len()).await;
    slow.set(|state| state.room = 0);
    hub.drain(Duration::ZERO).await;
    slow.drip(Some(1), "shut", |state| state.shut).await;
    publish(&broker, &hub, "a", "20".to_owned()).await;
    let (written, shut) = slow.get(|state| (state.written.clone(), state.shut));
    let last = written.strip_prefix(&delivered[..]).expect("the publications, in order");
    // Close, with code 3001.
    assert!(shut && last.len() == 2 + usize::from(last[1]), "{last:?}");
    assert_eq!((last[0], &last[2..4]), (0x88, &3001_u16.to_be_bytes()[..]));
    slow.set(|state| state.closed = true);
    tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
}

/// The fan-out goes on to the other connections of the channel.
#[tokio::test]
async fn a_connection_that_panics_ends_alone() {
    let (hub, broker) = hub(0, fast());
    let (faulty, task) = subscribed(&hub).await;
    let (other, _other) = subscribed(&hub).await;
    assert_eq!(hub.connections(), 2);
    faulty.set(|state| state.panics = true);
    publish(&broker, &hub, "a", "7".to_owned()).await;
    other.until("delivered", |state| contains(&state.written, r#""data":7"#)).await;
    tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
    assert_eq!(hub.connections(), 1);
}
