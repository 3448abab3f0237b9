//! One client connection: its socket, the transport's state, what it has received.

use std::io::{self, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use crate::check::Checker;
use crate::transport::{Fault, Memo, Signal, Wire};

/// A connection of a worker.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    wire: Wire,
    /// Received and not yet used; empty unless something is incomplete.
    input: Vec<u8>,
    /// Not yet written; empty unless the socket is full or not connected yet.
    output: Vec<u8>,
    /// Whether it is subscribed.
    pub(super) ready: bool,
    pub(super) checker: Checker,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, wire: Wire, output: Vec<u8>) -> Self {
        Self { stream, wire, input: Vec::new(), output, ready: false, checker: Checker::default() }
    }

    /// Reads what there is and gives each signal, with the time of the read, to `take`.
    ///
    /// `peer_closed` says that the end of the stream is known to have come, so a short read is not the last one.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        peer_closed: bool,
        memo: &mut Memo,
        mut take: impl FnMut(&mut Checker, Signal, Instant),
    ) -> Result<(), Fault> {
        loop {
            let length = match self.stream.read(scratch) {
                Ok(0) => return Err(Fault::Ended),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::Io(error.kind())),
            };
            let now = Instant::now();
            let (ready, checker) = (&mut self.ready, &mut self.checker);
            let mut signal = |signal| {
                *ready |= signal == Signal::Ready;
                take(checker, signal, now);
            };
            if self.input.is_empty() {
                let bytes = &scratch[..length];
                let used = self.wire.receive(bytes, memo, &mut self.output, &mut signal)?;
                self.input.extend_from_slice(&bytes[used..]);
            } else {
                self.input.extend_from_slice(&scratch[..length]);
                let used = self.wire.receive(&self.input, memo, &mut self.output, &mut signal)?;
                self.input.drain(..used);
                if self.input.is_empty() {
                    self.input = Vec::new();
                }
            }
            if !self.output.is_empty() {
                self.write()?;
            }
            // The notification is for an edge: after a short read a further one comes with the next bytes or the end.
            if length < scratch.len() && !peer_closed {
                return Ok(());
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn write(&mut self) -> Result<(), Fault> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error.kind())),
            }
        }
        self.output = Vec::new();
        Ok(())
    }
}
