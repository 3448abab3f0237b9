//! Instructions of a delivery, a publication and a connection: runs of the binary that differ in one thing each, counted
//! by valgrind.
#![allow(clippy::unwrap_used)]

mod cost;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use fanway_testkit::node::{Builder, Node, Setting};
use fanway_testkit::wait;

use cost::assert_below;
use cost::clients::{Publisher, Subscriber};

const SUBSCRIBERS: usize = 100;
const PUBLICATIONS: usize = 300;
/// Counts of one and the same load.
const ROUNDS: usize = 3;

#[test]
fn a_delivery_a_publication_and_a_connection() {
    let cost = Cost::of(|builder| builder);
    assert_below("instructions per connect, subscribe and close", cost.connection, 175_000.0);
    assert_below("instructions per publication to one subscriber", cost.publication, 100_000.0);
    assert_below("instructions per delivery", cost.delivery, 2_300.0);

    // Traces that nothing is sampled for.
    let traced = Cost::of(|builder| {
        builder
            .set("telemetry.traces.endpoint", "http://127.0.0.1:9")
            .set("telemetry.traces.sample_ratio", Setting::toml("0.0"))
    });
    assert_below("connecting with traces on, of that without", traced.connection / cost.connection, 1.1);
    assert_below("publishing with traces on, of that without", traced.publication / cost.publication, 1.1);
    assert_below("delivering with traces on, of that without", traced.delivery / cost.delivery, 1.05);
}

/// Instructions of a node, each more than what it does without.
struct Cost {
    /// For a client that connects, subscribes and goes.
    connection: f64,
    /// For a publication to one subscriber.
    publication: f64,
    /// For a further subscriber of a publication.
    delivery: f64,
}

impl Cost {
    fn of(settings: impl Fn(Builder) -> Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // Timers only ever add to a count, the more the longer a run takes: the least of several counts is the nearest.
        let least = |subscribers, publications| {
            let counts = (0..ROUNDS).map(|_| run(&runtime, &settings, subscribers, publications));
            counts.fold(f64::INFINITY, f64::min)
        };
        let idle = least(1, 0);
        let connected = least(SUBSCRIBERS, 0);
        let published = least(1, PUBLICATIONS);
        let delivered = least(SUBSCRIBERS, PUBLICATIONS);
        let subscribers = (SUBSCRIBERS - 1) as f64;
        let connection = (connected - idle) / subscribers;
        let publication = (published - idle) / PUBLICATIONS as f64;
        let delivery = (delivered - published - connection * subscribers) / (subscribers * PUBLICATIONS as f64);
        Self { connection, publication, delivery }
    }
}

/// Runs a node for so many subscribers and publications and counts its instructions.
fn run(
    runtime: &tokio::runtime::Runtime,
    settings: impl Fn(Builder) -> Builder,
    subscribers: usize,
    publications: usize,
) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let counts = directory.path().join("counts");
    let binary = counted(directory.path(), &counts);
    let builder = settings(Node::builder(binary)).set("drain.propagation_delay", "0s").set("drain.window", "1ms");
    // One thread: threads that wait for each other count differently each time.
    let mut node = runtime.block_on(builder.env("TOKIO_WORKER_THREADS", "1").start());
    let idle = open_files(&node);
    let mut clients: Vec<_> = (0..subscribers).map(|_| Subscriber::connect(node.port(), "news")).collect();
    let mut publisher = Publisher::connect(node.port(), "news");
    for n in 1..=publications {
        publisher.publish();
        // They are read one by one, so that the number is not taken for the beginning of another.
        let offset = format!("\"offset\":{n}");
        clients.iter_mut().for_each(|client| client.read_until(offset.as_bytes()));
    }
    drop((clients, publisher));
    runtime.block_on(async {
        // Not by its metrics: a page of them costs as much as ten clients, and how often they were asked for would differ.
        wait::until("the node has closed what they had open", || (open_files(&node) <= idle).then_some(())).await;
        node.term();
        node.exited(Duration::from_secs(60)).await;
    });
    let text = std::fs::read_to_string(&counts).unwrap();
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ")).expect("valgrind says what it counted");
    collected.1.trim().parse().unwrap()
}

/// How many files and sockets a node has open.
fn open_files(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

/// Keeps jemalloc from collecting its caches every 10 ms: a run that takes longer, on a busy machine, would count more.
const ALLOCATOR: &str = "_RJEM_MALLOC_CONF=tcache_gc_incr_bytes:1073741824";

/// A program that runs the node under valgrind's counter.
fn counted(directory: &Path, counts: &Path) -> std::path::PathBuf {
    let program = directory.join("fanway");
    let script = format!(
        "#!/bin/sh\n{ALLOCATOR} exec valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file={} {} \"$@\"\n",
        counts.display(),
        env!("CARGO_BIN_EXE_fanway")
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}
