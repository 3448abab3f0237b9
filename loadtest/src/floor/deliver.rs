//! The delivering thread: a bare epoll loop.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;

use jsonwebtoken::DecodingKey;
use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use super::exchange::{self, Form};

const DOOR: Token = Token(usize::MAX);
const WAKE: Token = Token(usize::MAX - 1);
/// Larger requests are no load client's.
const MAX_REQUEST: usize = 64 * 1024;

/// Publications kept for polls, at least.
const LOG: usize = 1024;

/// Publications on their way from the front: channel and data. Bounded by the publishers, who wait for deliveries.
#[derive(Default)]
pub(super) struct Queue(pub(super) Mutex<Vec<(String, String)>>);

/// One client.
struct Connection {
    stream: TcpStream,
    /// Incomplete input; empty unless something is.
    input: Vec<u8>,
    /// Refused by a full socket; empty unless a client is behind.
    output: Vec<u8>,
    stage: Stage,
    /// The channels it is in, by index.
    channels: Vec<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    /// A WebSocket whose commands are still to come.
    Commands,
    Receiving(Form),
    /// A poll that is not waiting: it has been answered.
    Answered,
}

/// One channel.
#[derive(Default)]
struct Channel {
    name: String,
    offset: u64,
    /// In the order in which they were accepted.
    members: Vec<usize>,
    /// What polls have not asked for yet. Only filled once there is one.
    log: Vec<Vec<u8>>,
    polled: bool,
}

/// The thread's state.
pub(super) struct Deliverer {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    channels: Vec<Channel>,
    names: HashMap<String, usize>,
    key: DecodingKey,
    queue: Arc<Queue>,
}

impl Deliverer {
    pub(super) fn bind(key: DecodingKey, queue: Arc<Queue>) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        // Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(4096)?;
        let (poll, mut listener) = (Poll::new()?, TcpListener::from_std(socket.into()));
        poll.registry().register(&mut listener, DOOR, Interest::READABLE)?;
        let (connections, free, channels, names) = Default::default();
        Ok(Self { poll, listener, connections, free, channels, names, key, queue })
    }

    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub(super) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKE)
    }

    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 16 * 1024];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                match event.token() {
                    DOOR => self.accept()?,
                    WAKE => self.deliver_all(),
                    Token(index) => self.serve(index, event, &mut scratch),
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The client is gone again.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            let index = self.free.pop().unwrap_or(self.connections.len());
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            let connection =
                Connection { stream, input: Vec::new(), output: Vec::new(), stage: Stage::Head, channels: Vec::new() };
            match self.connections.get_mut(index) {
                Some(place) => *place = Some(connection),
                None => self.connections.push(Some(connection)),
            }
        }
    }

    fn serve(&mut self, index: usize, event: &Event, scratch: &mut [u8]) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        if !connection.output.is_empty() && !flush(connection) {
            return self.end(index);
        }
        if !event.is_readable() {
            return;
        }
        loop {
            let Some(Some(connection)) = self.connections.get_mut(index) else { return };
            match connection.stream.read(scratch) {
                Ok(0) => return self.end(index),
                Ok(length) => {
                    // Whatever a client says once it receives is an answer to a ping, which is never sent.
                    if !matches!(connection.stage, Stage::Receiving(Form::WebSocket | Form::EventStream)) {
                        connection.input.extend_from_slice(&scratch[..length]);
                        if connection.input.len() > MAX_REQUEST || !self.understand(index) {
                            return self.end(index);
                        }
                    }
                    if length < scratch.len() && !event.is_read_closed() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => return self.end(index),
            }
        }
    }

    /// Takes a request or the commands from the input. False ends the connection.
    fn understand(&mut self, index: usize) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return false };
        if connection.stage == Stage::Commands {
            let Some((text, length)) = exchange::unmask(&connection.input) else { return true };
            connection.input.drain(..length);
            let Some((token, channels)) = exchange::commands(&text) else { return false };
            if !exchange::verify(&token, &self.key) {
                return false;
            }
            let said = say(connection, &exchange::replies(channels.len()));
            return said && self.join(index, Form::WebSocket, &channels);
        }
        let Some(end) = connection.input.windows(4).position(|window| window == b"\r\n\r\n") else { return true };
        let Ok(head) = String::from_utf8(connection.input.drain(..end + 4).collect()) else { return false };
        let Some((form, channels, from)) = exchange::request(&head) else { return false };
        match form {
            Form::WebSocket => {
                connection.stage = Stage::Commands;
                say(connection, &exchange::upgrade(exchange::header(&head, "Sec-WebSocket-Key").unwrap_or_default()))
                    && (connection.input.is_empty() || self.understand(index))
            }
            _ if !exchange::header(&head, "Authorization")
                .and_then(|value| value.strip_prefix("Bearer "))
                .is_some_and(|token| exchange::verify(token, &self.key)) =>
            {
                false
            }
            Form::EventStream => say(connection, &exchange::stream_open()) && self.join(index, form, &channels),
            Form::Poll => self.poll_from(index, &channels, from),
        }
    }

    fn channel(&mut self, name: &str) -> usize {
        if let Some(index) = self.names.get(name) {
            return *index;
        }
        self.channels.push(Channel { name: name.to_owned(), ..Channel::default() });
        self.names.insert(name.to_owned(), self.channels.len() - 1);
        self.channels.len() - 1
    }

    fn join(&mut self, index: usize, form: Form, channels: &[String]) -> bool {
        for name in channels {
            let channel = self.channel(name);
            self.channels[channel].members.push(index);
            self.channels[channel].polled |= form == Form::Poll;
            if let Some(Some(connection)) = self.connections.get_mut(index) {
                connection.channels.push(channel);
                connection.stage = Stage::Receiving(form);
            }
        }
        true
    }

    /// Answers a poll, or lets it wait. Only its first channel counts.
    fn poll_from(&mut self, index: usize, channels: &[String], from: Option<u64>) -> bool {
        let Some(name) = channels.first() else { return false };
        let known = matches!(&self.connections[index], Some(connection) if !connection.channels.is_empty());
        if !known {
            self.join(index, Form::Poll, &channels[..1]);
        }
        let at = self.channel(name);
        let channel = &self.channels[at];
        let Some(Some(connection)) = self.connections.get_mut(index) else { return false };
        let missed = from.map_or(0, |from| channel.offset.saturating_sub(from) as usize).min(channel.log.len());
        if from.is_some() && missed == 0 {
            connection.stage = Stage::Receiving(Form::Poll);
            return true;
        }
        connection.stage = Stage::Answered;
        say(connection, &exchange::answer(&channel.log[channel.log.len() - missed..], channel.offset))
    }

    fn deliver_all(&mut self) {
        let publications = std::mem::take(&mut *self.queue.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
        for (name, data) in publications {
            let at = self.channel(&name);
            self.channels[at].offset += 1;
            self.deliver(at, &data);
        }
    }

    fn deliver(&mut self, at: usize, data: &str) {
        let Self { channels, connections, .. } = self;
        let channel = &mut channels[at];
        let mut made: [Option<Vec<u8>>; 3] = [None, None, None];
        let mut broken = Vec::new();
        if channel.polled {
            channel.log.push(exchange::publication(Form::Poll, &channel.name, channel.offset, data));
            if channel.log.len() > 2 * LOG {
                channel.log.drain(..LOG);
            }
        }
        for index in &channel.members {
            let Some(Some(connection)) = connections.get_mut(*index) else { continue };
            let Stage::Receiving(form) = connection.stage else { continue };
            let bytes = made[form as usize].get_or_insert_with(|| match form {
                Form::Poll => exchange::answer(&channel.log[channel.log.len() - 1..], channel.offset),
                _ => exchange::publication(form, &channel.name, channel.offset, data),
            });
            if form == Form::Poll {
                connection.stage = Stage::Answered;
            }
            if !say(connection, bytes) {
                broken.push(*index);
            }
        }
        broken.into_iter().for_each(|index| self.end(index));
    }

    fn end(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::take) else { return };
        for channel in connection.channels {
            self.channels[channel].members.retain(|member| *member != index);
        }
        self.free.push(index);
    }
}

/// One `send()`. What a full socket does not take waits. False says that the connection is broken.
fn say(connection: &mut Connection, bytes: &[u8]) -> bool {
    if connection.output.is_empty() {
        match connection.stream.write(bytes) {
            Ok(length) => connection.output.extend_from_slice(&bytes[length..]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.output.extend_from_slice(bytes),
            Err(_) => return false,
        }
    } else {
        connection.output.extend_from_slice(bytes);
    }
    true
}

fn flush(connection: &mut Connection) -> bool {
    match connection.stream.write(&connection.output) {
        Ok(length) => drop(connection.output.drain(..length)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => return false,
    }
    if connection.output.is_empty() {
        connection.output = Vec::new();
    }
    true
}
