//! A connection that many use at once: what is queued leaves in one write, and replies come back in order.
//!
//! Not the client library's multiplexed connection, because every publish goes through here and half of its cost was
//! there: here a command costs one place in a buffer and one `oneshot`, deadlines are kept by one timer for all, and it
//! is known of each command whether it was ever handed to the socket. Commands that nobody is in a hurry for still go
//! through the library, for which a [`Pipe`] is a connection like others.
//!
//! Concurrency: callers add to [`Queue`] under a lock that is held for a copy; the [`Driver`], one future, takes all of
//! it at once. It lets everything else that is ready run before it takes, so that commands made in the same moment
//! leave together; when nothing else is ready it takes at once. Both ends are bounded: a queue that is full refuses.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::dial::Stream;
use super::resp;

/// Bytes of commands that may wait to be written.
const MAX_BYTES: usize = 16 << 20;
/// Commands that may wait to be written or answered.
const MAX_WAITING: usize = 65_536;
/// Space made before each read.
const READ: usize = 16 * 1024;
/// A buffer that grew beyond this is given back.
const KEEP: usize = 256 * 1024;
/// Writes that may be unanswered. While there are fewer, what is queued leaves at once; else it waits for the answer to the
/// first of them and leaves as one. So the server always has the next batch when it is done with one, and both sides read
/// and write seldom when there is much to do. A command is not later by it: the server answers in order.
const MAX_BATCHES: usize = 2;
/// Bytes of a reply that need no memory of their own: all answers to publishes.
const SHORT: usize = 62;

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The command was never handed to the socket: it was certainly not done.
    NotSent(&'static str),
    /// The connection was lost.
    Lost,
    /// There was no reply in time.
    Late,
}

impl From<Silence> for RedisError {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::NotSent(why) => (ErrorKind::Client, "not sent", why.to_owned()).into(),
            Silence::Lost => io::Error::new(io::ErrorKind::BrokenPipe, "the connection was lost").into(),
            Silence::Late => io::Error::new(io::ErrorKind::TimedOut, "no reply in time").into(),
        }
    }
}

/// A whole reply as it came.
pub(crate) enum Reply {
    /// A short one, and its length.
    Short([u8; SHORT], u8),
    /// Another.
    Long(Bytes),
}

impl Reply {
    fn new(frame: &[u8]) -> Self {
        match u8::try_from(frame.len()) {
            Ok(length) if frame.len() <= SHORT => {
                let mut bytes = [0; SHORT];
                bytes[..frame.len()].copy_from_slice(frame);
                Self::Short(bytes, length)
            }
            _ => Self::Long(Bytes::copy_from_slice(frame)),
        }
    }

    /// Its bytes.
    pub(crate) fn frame(&self) -> &[u8] {
        match self {
            Self::Short(bytes, length) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }

    /// What it says; an error of the server is an error.
    pub(crate) fn value(&self) -> RedisResult<Value> {
        redis::parse_redis_value(self.frame())?.extract_error()
    }
}

/// Somebody who waits for a reply.
struct Waiting {
    /// When the command was queued.
    since: Instant,
    /// `None` once it is too late.
    reply: Option<oneshot::Sender<Result<Reply, Silence>>>,
}

impl Waiting {
    fn end(&mut self, with: Result<Reply, Silence>) {
        if let Some(reply) = self.reply.take() {
            // Fails when whoever waited has gone.
            let _ = reply.send(with);
        }
    }
}

/// What callers and the driver share.
#[derive(Default)]
struct Queue(Mutex<Queued>);

#[derive(Default)]
struct Queued {
    /// Commands not yet taken by the driver.
    bytes: BytesMut,
    /// Who waits for the replies to them, in their order.
    waiting: Vec<Waiting>,
    /// Commands that the driver has taken and that are not answered.
    taken: usize,
    /// The driver, when it waits for commands.
    driver: Option<Waker>,
    /// There is no driver any more.
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers' end. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pipe {
    queue: Arc<Queue>,
}

impl Pipe {
    /// A connection over a stream, and what drives it. No command is answered later than `patience` after it was queued.
    pub(crate) fn new(stream: Box<dyn Stream>, patience: Duration) -> (Self, Driver) {
        let queue = Arc::new(Queue::default());
        let driver = Driver {
            queue: Arc::clone(&queue),
            stream,
            patience,
            output: BytesMut::new(),
            unflushed: false,
            input: BytesMut::new(),
            sent: VecDeque::new(),
            batches: VecDeque::new(),
            timer: None,
            gave_way: false,
        };
        (Self { queue }, driver)
    }

    /// Queues a whole command, as bytes, at once; resolves with its reply.
    pub(crate) fn ask(&self, command: &[u8]) -> impl Future<Output = Result<Reply, Silence>> + Send + use<> {
        self.ask_since(command, Instant::now())
    }

    /// As [`Self::ask`], for who knows what time it is.
    pub(crate) fn ask_since(
        &self,
        command: &[u8],
        since: Instant,
    ) -> impl Future<Output = Result<Reply, Silence>> + Send + use<> {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue(command, since, std::iter::once(reply));
        async move {
            queued?;
            answer.await.unwrap_or(Err(Silence::Lost))
        }
    }

    fn queue(
        &self,
        commands: &[u8],
        since: Instant,
        replies: impl ExactSizeIterator<Item = oneshot::Sender<Result<Reply, Silence>>>,
    ) -> Result<(), Silence> {
        let mut queued = self.queue.lock();
        if queued.closed {
            return Err(Silence::NotSent("the connection was lost"));
        }
        if queued.bytes.len() + commands.len() > MAX_BYTES
            || queued.waiting.len() + queued.taken + replies.len() > MAX_WAITING
        {
            return Err(Silence::NotSent("too many commands wait for an answer"));
        }
        queued.bytes.extend_from_slice(commands);
        queued.waiting.extend(replies.map(|reply| Waiting { since, reply: Some(reply) }));
        let driver = queued.driver.take();
        drop(queued);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(())
    }
}

/// The library's view, for commands that are not on the hot path.
impl ConnectionLike for Pipe {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { self.ask(&cmd.get_packed_command()).await?.value() })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let (replies, answers): (Vec<_>, Vec<_>) = (0..offset + count).map(|_| oneshot::channel()).unzip();
            self.queue(&pipeline.get_packed_pipeline(), Instant::now(), replies.into_iter())?;
            let mut values = Vec::with_capacity(count);
            for (at, answer) in answers.into_iter().enumerate() {
                let reply = answer.await.unwrap_or(Err(Silence::Lost))?;
                if at >= offset {
                    values.push(redis::parse_redis_value(reply.frame())?);
                }
            }
            Ok(values)
        })
    }

    fn get_db(&self) -> i64 {
        // Asked by parts of the library that are not used here.
        0
    }
}

/// The future that moves the bytes; it resolves with why the connection is over. Whoever waits then is told.
pub(crate) struct Driver {
    queue: Arc<Queue>,
    stream: Box<dyn Stream>,
    /// How long a command may wait for its reply.
    patience: Duration,
    /// Taken and not yet written.
    output: BytesMut,
    /// Something was written that may still be in the stream's own buffer.
    unflushed: bool,
    /// Read and not yet a whole reply.
    input: BytesMut,
    /// Who waits for the next replies.
    sent: VecDeque<Waiting>,
    /// How many of them each unanswered write has.
    batches: VecDeque<usize>,
    /// Set while anybody waits: fires when the longest waiting has waited too long.
    timer: Option<Pin<Box<Sleep>>>,
    /// Everything that was ready has run since there are commands.
    gave_way: bool,
}

impl Future for Driver {
    type Output = String;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<String> {
        let this = self.get_mut();
        match this.turn(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(never)) => match never {},
            Poll::Ready(Err(reason)) => Poll::Ready(reason),
        }
    }
}

impl Driver {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<std::convert::Infallible, String>> {
        while let Poll::Ready(read) = self.poll_read(cx) {
            read?;
        }
        loop {
            let written = self.poll_write(cx).map_err(|error| error.to_string())?;
            if written.is_pending() || !self.take(cx) {
                break;
            }
        }
        self.watch_the_clock(cx);
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        self.input.reserve(READ);
        let read = std::pin::pin!(self.stream.read_buf(&mut self.input)).poll(cx);
        match ready!(read) {
            Ok(0) => return Poll::Ready(Err("the server closed the connection".into())),
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(error.to_string())),
        }
        let (mut at, mut answered) = (0, 0);
        while let Some(length) = resp::length(&self.input[at..]).map_err(|violation| violation.to_string())? {
            let Some(mut waiting) = self.sent.pop_front() else {
                return Poll::Ready(Err("the server answers what was not asked".into()));
            };
            waiting.end(Ok(Reply::new(&self.input[at..at + length])));
            at += length;
            answered += 1;
            if let Some(left) = self.batches.front_mut() {
                *left -= 1;
                if *left == 0 {
                    self.batches.pop_front();
                }
            }
        }
        if answered > 0 {
            self.queue.lock().taken -= answered;
            self.input.advance(at);
            if self.input.is_empty() && self.input.capacity() > KEEP {
                self.input = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all of what was taken.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Takes everything that is queued, unless others should run first. Returns whether there is something to write.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        if self.batches.len() >= MAX_BATCHES {
            // The next answer polls this again.
            return false;
        }
        let mut queued = self.queue.lock();
        if queued.waiting.is_empty() {
            if !queued.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
                queued.driver = Some(cx.waker().clone());
            }
            self.gave_way = false;
            return false;
        }
        if !self.gave_way {
            self.gave_way = true;
            drop(queued);
            cx.waker().wake_by_ref();
            return false;
        }
        if self.output.capacity() > KEEP {
            self.output = BytesMut::new();
        }
        std::mem::swap(&mut self.output, &mut queued.bytes);
        queued.taken += queued.waiting.len();
        self.batches.push_back(queued.waiting.len());
        self.sent.extend(queued.waiting.drain(..));
        self.gave_way = false;
        true
    }

    /// Ends the waiting of those who have waited too long, and sets the timer for the next of them.
    fn watch_the_clock(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(timer) = &mut self.timer {
                if timer.as_mut().poll(cx).is_pending() {
                    return;
                }
            } else if self.sent.is_empty() {
                return;
            }
            let overdue = Instant::now().checked_sub(self.patience);
            let late = |waiting: &&mut Waiting| overdue.is_some_and(|overdue| waiting.since <= overdue);
            let mut queued = self.queue.lock();
            let mut all = self.sent.iter_mut().chain(&mut queued.waiting);
            all.by_ref().take_while(late).for_each(|waiting| waiting.end(Err(Silence::Late)));
            drop(all);
            let next = self.sent.iter().chain(&queued.waiting).find(|waiting| waiting.reply.is_some());
            let next = next.map(|waiting| waiting.since + self.patience);
            drop(queued);
            match (next, &mut self.timer) {
                (None, timer) => {
                    *timer = None;
                    return;
                }
                (Some(next), Some(timer)) => timer.as_mut().reset(next),
                (Some(next), timer) => *timer = Some(Box::pin(tokio::time::sleep_until(next))),
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut queued = self.queue.lock();
        queued.closed = true;
        let never_sent = std::mem::take(&mut queued.waiting);
        queued.bytes = BytesMut::new();
        drop(queued);
        for mut waiting in never_sent {
            waiting.end(Err(Silence::NotSent("the connection was lost")));
        }
        for mut waiting in self.sent.drain(..) {
            waiting.end(Err(Silence::Lost));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    const LONG: Duration = Duration::from_secs(60);

    fn pipe(patience: Duration) -> (Pipe, tokio::task::JoinHandle<String>, DuplexStream) {
        let (ours, server) = duplex(1 << 20);
        let (pipe, driver) = Pipe::new(Box::new(ours), patience);
        (pipe, tokio::spawn(driver), server)
    }

    /// What the server reads next, all that is there.
    async fn read(server: &mut DuplexStream) -> String {
        let mut bytes = vec![0; 1 << 16];
        let length = server.read(&mut bytes).await.unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    fn text(reply: Result<Reply, Silence>) -> Result<String, Silence> {
        reply.map(|reply| String::from_utf8(reply.frame().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_queued_together_or_behind_two_writes_leaves_in_one() {
        let (pipe, _driver, mut server) = pipe(LONG);
        let (a, b) = (pipe.ask(b"a"), pipe.ask(b"b"));
        assert_eq!(read(&mut server).await, "ab");
        let c = pipe.ask(b"c");
        assert_eq!(read(&mut server).await, "c", "one that is alone does not wait");
        let (d, e) = (pipe.ask(b"d"), pipe.ask(b"e"));
        server.write_all(b"+A\r\n").await.unwrap();
        assert_eq!(text(a.await), Ok("+A\r\n".to_owned()));
        let f = pipe.ask(b"f");
        // A long one, in pieces.
        let long = format!("$100\r\n{}\r\n", "b".repeat(100));
        server.write_all(&long.as_bytes()[..50]).await.unwrap();
        server.write_all(&long.as_bytes()[50..]).await.unwrap();
        assert_eq!(text(b.await), Ok(long));
        assert_eq!(read(&mut server).await, "def");
        server.write_all(b":3\r\n:4\r\n:5\r\n:6\r\n").await.unwrap();
        for (reply, number) in [(text(c.await), 3), (text(d.await), 4), (text(e.await), 5), (text(f.await), 6)] {
            assert_eq!(reply, Ok(format!(":{number}\r\n")));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_reply_is_nobody_elses() {
        let (pipe, _driver, mut server) = pipe(Duration::from_secs(1));
        assert_eq!(text(pipe.ask(b"a").await), Err(Silence::Late));
        assert_eq!(read(&mut server).await, "a");
        let b = pipe.ask(b"b");
        assert_eq!(read(&mut server).await, "b");
        server.write_all(b"+A\r\n+B\r\n").await.unwrap();
        assert_eq!(text(b.await), Ok("+B\r\n".to_owned()));
    }

    #[tokio::test]
    async fn what_was_never_sent_is_known() {
        let (ours, mut server) = duplex(4);
        let (pipe, driver) = Pipe::new(Box::new(ours), LONG);
        let driver = tokio::spawn(driver);
        let a = pipe.ask(b"a");
        assert_eq!(read(&mut server).await, "a");
        // Longer than the socket takes: what comes after it is not handed over.
        let b = pipe.ask(b"bbbbbbbb");
        assert_eq!(read(&mut server).await, "bbbb");
        let c = pipe.ask(b"c");
        drop(server);
        assert!(driver.await.is_ok());
        assert_eq!((text(a.await), text(b.await)), (Err(Silence::Lost), Err(Silence::Lost)));
        assert!(matches!(text(c.await), Err(Silence::NotSent(_))));
        assert!(matches!(text(pipe.ask(b"d").await), Err(Silence::NotSent(_))));
    }

    #[tokio::test]
    async fn a_server_that_says_what_was_not_asked_is_left() {
        let (pipe, driver, mut server) = pipe(LONG);
        server.write_all(b"+A\r\n").await.unwrap();
        assert!(driver.await.unwrap().contains("not asked"));
        assert!(matches!(text(pipe.ask(b"a").await), Err(Silence::NotSent(_))));
    }
}
