//! `latency`: from publishing on one node to receiving on another, to one subscriber each, at a rate; and in turn with it
//! the same through bare pub/sub of the same Redis, which is the least that it can take.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use super::delivery::{Order, Pace, Round};
use super::environment::Environment;
use super::slices::Sliced;
use crate::channels::Channels;
use crate::clock;
use crate::options::Latency;
use crate::publisher::data;
use crate::report::{Figure, Latencies, Unit, grouped};
use crate::rounds::Measured;
use crate::schedule::Schedule;
use crate::subject::Pipeline;
use crate::subject::affinity::stay_on;

/// Channels in one SUBSCRIBE.
const AT_ONCE: usize = 500;
/// So long is waited for what does not come.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn title(options: &Latency) -> String {
    let connections = grouped(options.common.connections.into());
    let rate = grouped(options.rate as u64);
    format!("latency over {}: {connections} connections, {rate} publications per second", options.common.transport)
}

pub(super) fn measure(environment: &mut Environment<'_>, options: &Latency) -> anyhow::Result<Measured> {
    // Channels are dealt out to lanes, so that each has its order.
    let connections = options.common.connections.next_multiple_of(options.lanes);
    let publications = (options.rate * options.duration.as_secs_f64()).ceil() as u64;
    let order = Order {
        scenario: "latency",
        title: title(options),
        channels: environment.channels(connections, 1)?,
        connections: connections as usize,
        transports: environment.transports(),
        stalled: 0,
        pace: Pace::Lanes(options.rate, publications, options.lanes),
        delivery: options.delivery,
        inspect: None,
    };
    let pace = order.pace;
    let address = environment.subject.redis.as_ref().context("latency needs --spawn")?.address;
    let channels = Channels { prefix: format!("bare-{:08x}", environment.run), ..order.channels.clone() };
    let mut bare = Bare { address, channels, payload_bytes: options.delivery.payload_bytes as usize };
    let mut round = Round::open(environment, order)?;
    let mut latencies = Latencies::new();
    for turn in 0..options.turns {
        round.publish(environment, pace.slice(turn, options.turns))?;
        let count = publications / options.turns;
        latencies.merge(&bare.run(options.rate, count, environment.common.pin_clients)?);
        if environment.is_interrupted() {
            break;
        }
    }
    let mut measured = round.finish(environment)?;
    let summary = latencies.summary();
    let value =
        |name: &str| measured.figures.iter().find(|figure| figure.name == name).map_or(0.0, |figure| figure.value);
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let (p50, p99) = (value("latency p50"), value("latency p99"));
    let figure = |name, unit, value| Figure { name, unit, value };
    let figures = [
        figure("latency p99", Unit::Millis, p99),
        figure("bare pub/sub latency p99", Unit::Millis, millis(summary.p99)),
        figure("latency p99 / bare pub/sub", Unit::Plain, p99 / millis(summary.p99)),
        figure("latency p50", Unit::Millis, p50),
        figure("bare pub/sub latency p50", Unit::Millis, millis(summary.p50)),
    ];
    for Figure { name, unit, value } in &figures[1..] {
        measured.table.row(name, unit.show(*value));
        measured.json[*name] = (*value).into();
    }
    measured.figures.retain(|figure| !figures.iter().any(|other| other.name == figure.name));
    measured.figures.splice(0..0, figures);
    measured.latencies.push(("due to heard, bare pub/sub", latencies));
    Ok(measured)
}

/// Pub/sub without anything around it: one connection that publishes and one that hears.
struct Bare {
    address: SocketAddr,
    channels: Channels,
    payload_bytes: usize,
}

impl Bare {
    /// Publishes so many to the channels in turn, each when it is due, and hears them.
    fn run(&mut self, rate: f64, count: u64, core: Option<usize>) -> anyhow::Result<Latencies> {
        let connect = || -> anyhow::Result<TcpStream> {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let (mut subscriber, mut publisher, mut answers) = (connect()?, connect()?, Vec::new());
        let names: Vec<String> = (0..self.channels.count).map(|number| self.channels.name(number)).collect();
        for chunk in names.chunks(AT_ONCE) {
            let mut subscribe = Pipeline::default();
            let words: Vec<&str> = std::iter::once("SUBSCRIBE").chain(chunk.iter().map(String::as_str)).collect();
            subscribe.add(&words);
            subscriber.write_all(subscribe.bytes())?;
            // The last channel's confirmation says it all.
            let last = format!("{}\r\n:", chunk.last().map_or("", String::as_str));
            read_until(&mut subscriber, &mut answers, |answers| find(answers, last.as_bytes()).is_some())?;
            answers.clear();
        }
        std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                stay_on(core)?;
                hear(&mut subscriber, count)
            });
            let mut drain = publisher.try_clone()?;
            // Answers are not looked at, but must not pile up.
            scope.spawn(move || while drain.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {});
            let published = self.publish(&mut publisher, rate, count, &names, core);
            let heard = reader.join().map_err(|_| anyhow!("the subscriber panicked"));
            let _ = publisher.shutdown(Shutdown::Both);
            published?;
            heard?
        })
    }

    fn publish(
        &self,
        stream: &mut TcpStream,
        rate: f64,
        count: u64,
        names: &[String],
        core: Option<usize>,
    ) -> anyhow::Result<()> {
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1_000));
        crate::subject::affinity::on_core(core, || {
            let schedule = Schedule::new(Instant::now() + Duration::from_millis(20), rate);
            for number in 0..count {
                let wait = schedule.wait(number, Instant::now());
                if !wait.is_zero() {
                    std::thread::sleep(wait);
                }
                let name = &names[(number % names.len() as u64) as usize];
                let text = data(0, number, clock::at(schedule.due(number)), self.payload_bytes);
                let mut publish = Pipeline::default();
                publish.add(&["PUBLISH", name, &text]);
                stream.write_all(publish.bytes())?;
            }
            Ok(())
        })
    }
}

/// Hears so many publications and notes how late each is.
fn hear(stream: &mut TcpStream, count: u64) -> anyhow::Result<Latencies> {
    const MARK: &[u8] = b"\"at\":";
    let (mut latencies, mut heard, mut input) = (Latencies::new(), 0, Vec::new());
    while heard < count {
        let mut at = 0;
        let before = input.len();
        read_until(stream, &mut input, |input| input.len() > before)?;
        let now = clock::now();
        // Whole from the mark to the comma behind the number.
        while let Some(mark) = find(&input[at..], MARK) {
            let begin = at + mark + MARK.len();
            let Some(length) = input[begin..].iter().position(|byte| *byte == b',') else { break };
            let due = std::str::from_utf8(&input[begin..begin + length])?.parse()?;
            latencies.note(clock::since(due, now));
            heard += 1;
            at = begin + length;
        }
        input.drain(..at);
    }
    Ok(latencies)
}

fn read_until(stream: &mut TcpStream, input: &mut Vec<u8>, done: impl Fn(&[u8]) -> bool) -> anyhow::Result<()> {
    let mut piece = [0; 64 * 1024];
    while !done(input) {
        match stream.read(&mut piece).context("bare pub/sub")? {
            0 => return Err(anyhow!("redis closed the connection")),
            length => input.extend_from_slice(&piece[..length]),
        }
    }
    Ok(())
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
