//! Allocations of a node in this process, which does nothing else meanwhile.
#![allow(clippy::unwrap_used)]

mod cost;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use dhat::HeapStats;
use fanway_gateway::app;
use fanway_gateway::cli::Mode;
use fanway_gateway::config::{Settings, Sources};
use fanway_gateway::telemetry::Telemetry;
use fanway_testkit::node::{API_KEY, SECRET};

use cost::assert_below;
use cost::clients::{Publisher, Subscriber};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const CLIENTS: usize = 200;
const PUBLICATIONS: usize = 200;

#[test]
fn an_idle_client_and_a_publication() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let settings = settings(port);
    let _counting = dhat::Profiler::builder().testing().build();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let feed = runtime.handle().clone();
        let telemetry = Telemetry::start(&settings.telemetry).unwrap();
        runtime.block_on(app::run(settings, Mode::Serve, feed, telemetry)).unwrap();
    });
    let patience = Instant::now() + Duration::from_secs(60);
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(Instant::now() < patience, "the node does not start");
        std::thread::yield_now();
    }
    let mut publisher = Publisher::connect(port, "other");
    // What is made once is made now.
    let mut clients = Vec::with_capacity(CLIENTS + 20);
    clients.extend((0..20).map(|_| Subscriber::connect(port, "news")));
    (0..20).for_each(|_| publisher.publish());

    let before = HeapStats::get();
    clients.extend((0..CLIENTS).map(|_| Subscriber::connect(port, "news")));
    let connected = HeapStats::get();
    (0..PUBLICATIONS).for_each(|_| publisher.publish());
    let published = HeapStats::get();

    let bytes = (connected.curr_bytes - before.curr_bytes) as f64 / CLIENTS as f64;
    assert_below("bytes of an idle client", bytes, 1_600.0);
    let allocations = (connected.total_blocks - before.total_blocks) as f64 / CLIENTS as f64;
    assert_below("allocations per connect and subscribe", allocations, 100.0);
    let allocations = (published.total_blocks - connected.total_blocks) as f64 / PUBLICATIONS as f64;
    assert_below("allocations per publication", allocations, 38.0);
}

fn settings(port: u16) -> Settings {
    let text = format!(
        "server.listen = \"127.0.0.1:{port}\"\n\
         auth.keys = [{{ algorithm = \"HS256\", secret = \"{SECRET}\" }}]\n\
         api.keys = [{{ id = \"guard\", key = \"{API_KEY}\" }}]\n\
         broker.engine = \"memory\"\n\
         limits.user.connections = 0\n\
         limits.user.connect_rate = 0\n\
         [default_namespace]\nhistory_size = 100\nhistory_ttl = \"5m\"\nrecovery = true\n\
         subscribe = \"authenticated\"\n"
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("fanway.toml");
    std::fs::write(&file, text).unwrap();
    Settings::load(&Sources { file: Some(file), ..Sources::default() }).unwrap()
}
