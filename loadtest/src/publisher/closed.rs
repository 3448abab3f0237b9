//! Publishing as fast as it is answered, with so many requests on their way at once, each on a connection of its own: the
//! closed loop, for what a publish costs.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, bail};
use mio::net::TcpStream as Stream;
use mio::{Events, Interest, Poll, Token};

use super::{Plan, Published, TIMEOUT, data};
use crate::clock;
use crate::http::{self, Client};

/// One connection.
struct Lane {
    stream: Stream,
    /// Sent and not answered: channel, sequence, when.
    under_way: (u32, u64, u64),
    input: Vec<u8>,
}

/// Publishes so many, to the channels in turn.
pub fn run(plan: &Plan, in_flight: u32, publications: u64, stop: &AtomicBool) -> anyhow::Result<Published> {
    let mut poll = Poll::new()?;
    let client = Client::new(&plan.target, TIMEOUT);
    let mut lanes = Vec::new();
    for number in 0..in_flight as usize {
        let stream = TcpStream::connect_timeout(&plan.target.address, TIMEOUT).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = Stream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        lanes.push(Lane { stream, under_way: (0, 0, 0), input: Vec::new() });
    }
    let mut published = Published::new(plan);
    let begun = Instant::now();
    let (mut sent, mut answered) = (0, 0);
    let before = published.attempted.total();
    for lane in lanes.iter_mut().take(usize::try_from(publications).unwrap_or(usize::MAX)) {
        lane.send(plan, &client, before + sent, &mut published)?;
        sent += 1;
    }
    let mut events = Events::with_capacity(1024);
    while answered < sent {
        poll.poll(&mut events, Some(TIMEOUT))?;
        if events.is_empty() {
            bail!("no answer within {TIMEOUT:?}");
        }
        for event in &events {
            let lane = &mut lanes[event.token().0];
            if !lane.receive(plan, &mut published)? {
                continue;
            }
            answered += 1;
            if sent < publications && !stop.load(Ordering::Relaxed) && !published.is_hopeless() {
                lane.send(plan, &client, before + sent, &mut published)?;
                sent += 1;
            }
        }
    }
    published.span = begun.elapsed();
    Ok(published)
}

impl Lane {
    fn send(&mut self, plan: &Plan, client: &Client, turn: u64, published: &mut Published) -> anyhow::Result<()> {
        let channel = (turn % u64::from(plan.channels.count)) as u32;
        let (sequence, now) = (published.attempted.next(channel), clock::now());
        let text = data(plan.run, sequence, now, plan.payload_bytes);
        let (path, headers, body) = plan.api.publish(&plan.channels.name(channel), &text);
        let mut request = Vec::new();
        client.encode("POST", &path, &headers, body.as_bytes(), &mut request);
        self.under_way = (channel, sequence, now);
        // The request before it was answered, so that there is room for this one.
        self.stream.write_all(&request).context("cannot send the request")
    }

    /// Takes what has come. Returns whether the answer is whole.
    fn receive(&mut self, plan: &Plan, published: &mut Published) -> anyhow::Result<bool> {
        let mut piece = [0; 16 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => bail!("the connection ended before the response"),
                Ok(length) => self.input.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("no response"),
            }
        }
        let Some((response, length, keep)) = http::parse(&self.input)? else { return Ok(false) };
        if !keep {
            bail!("the server ends the connection");
        }
        self.input.drain(..length);
        let (channel, sequence, sent) = self.under_way;
        published.note(channel, sequence, sent, plan.api.outcome(&response));
        Ok(true)
    }
}
