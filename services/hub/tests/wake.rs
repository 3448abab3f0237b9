//! A connection that is polled only when it is woken, as a task is, hears everything in time.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use support::{Socket, fast, hub, publish};

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A session and its driver's loop: polled when woken, writing as long as there is something and the socket takes it.
struct Driver {
    socket: Socket,
    woken: Arc<Woken>,
    /// Whether the socket takes anything.
    open: bool,
}

impl Driver {
    fn new(socket: Socket) -> Self {
        Self { socket, woken: Arc::new(Woken(AtomicBool::new(true))), open: true }
    }

    fn run(&mut self) {
        while self.woken.0.swap(false, Ordering::SeqCst) {
            let waker = Waker::from(self.woken.clone());
            self.socket.session.poll(&mut Context::from_waker(&waker), Instant::now());
            while self.socket.session.has_output() {
                let open = self.open;
                self.socket.write(|all| if open { all } else { 0 });
                if !open {
                    break;
                }
            }
        }
    }

    /// The kernel tells that the socket takes bytes again.
    fn unblock(&mut self) {
        self.open = true;
        self.woken.0.store(true, Ordering::SeqCst);
        self.run();
    }

    fn say(&mut self, frame: &str) {
        self.socket.say(frame);
        self.woken.0.store(true, Ordering::SeqCst);
    }

    async fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        // Well below the first ping, which would wake it anyway.
        let deadline = Instant::now() + Duration::from_secs(5);
        while !done(self) {
            let heard = String::from_utf8_lossy(&self.socket.taken).into_owned();
            assert!(Instant::now() < deadline, "{what}: {heard}");
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.run();
        }
    }

    fn heard(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.socket.taken).contains(text)
    }
}

#[tokio::test]
async fn a_connection_that_was_blocked_is_woken_for_what_comes_after() {
    let (hub, broker) = hub(100, fast());
    let mut driver = Driver::new(Socket::new(&hub));
    for (id, channel) in [(2, "a"), (3, "b")] {
        driver.say(&format!(r#"{{"id":{id},"subscribe":{{"channel":"{channel}"}}}}"#));
    }
    driver.until("subscribed", |driver| driver.heard(r#""id":3"#)).await;

    let mut other = Socket::new(&hub);
    other.say(r#"{"id":2,"subscribe":{"channel":"b"}}"#);
    other.settle(|other| other.heard().len() == 2).await;

    driver.open = false;
    publish(&broker, &hub, "a", r#""a1""#.to_owned()).await;
    driver.until("blocked", |driver| driver.socket.session.has_output()).await;
    // While it is blocked another channel has something, which it leaves alone for now.
    publish(&broker, &hub, "b", r#""b1""#.to_owned()).await;
    // Marked in the order of subscribing: once the other one has heard it, the blocked one is marked.
    other.settle(|other| other.heard().len() == 3).await;
    driver.run();

    driver.unblock();
    assert!(driver.heard("a1"));
    driver.until("what was marked while it was blocked", |driver| driver.heard("b1")).await;
    publish(&broker, &hub, "b", r#""b2""#.to_owned()).await;
    driver.until("what came after", |driver| driver.heard("b2")).await;
}
