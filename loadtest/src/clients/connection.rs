//! One client connection: its socket, the transport's state, what it has received.

use std::io;

use super::link::Link;
use crate::check::Checker;
use crate::clock;
use crate::transport::{Fault, Memo, Signal, Wire};

/// A connection of a worker.
pub(super) struct Connection {
    link: Link,
    wire: Wire,
    /// Received and not yet used; empty unless something is incomplete.
    input: Vec<u8>,
    /// Not yet written; empty unless the socket is full or not connected yet.
    output: Vec<u8>,
    /// Whether it is subscribed.
    pub(super) ready: bool,
    /// One for each of its channels.
    pub(super) checkers: Box<[Checker]>,
    /// When it began to connect (see [`clock`]).
    pub(super) begun: u64,
}

impl Connection {
    pub(super) fn new(link: Link, wire: Wire, output: Vec<u8>, checkers: Box<[Checker]>) -> Self {
        Self { link, wire, input: Vec::new(), output, ready: false, checkers, begun: clock::now() }
    }

    /// Reads what there is and gives each signal, with the time of the read, to `take`.
    ///
    /// `peer_closed` says that the end of the stream is known to have come, so a short read is not the last one.
    pub(super) fn read(
        &mut self,
        scratch: &mut [u8],
        peer_closed: bool,
        memo: &mut Memo,
        mut take: impl FnMut(&mut [Checker], Signal, u64),
    ) -> Result<(), Fault> {
        loop {
            let length = match self.link.read(scratch) {
                Ok(0) => return Err(Fault::Ended),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Fault::Io(error.kind())),
            };
            let now = clock::now();
            let (ready, checkers) = (&mut self.ready, &mut self.checkers);
            let mut signal = |signal| {
                *ready |= signal == Signal::Ready;
                take(checkers, signal, now);
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
            if length < scratch.len() && !peer_closed && self.link.short_reads_are_last() {
                return Ok(());
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn write(&mut self) -> Result<(), Fault> {
        self.link.flush().map_err(|error| Fault::Io(error.kind()))?;
        while !self.output.is_empty() {
            match self.link.write(&self.output) {
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
