//! Running out of files does not end the accept loop. (A process of its own, because the limit is the process's.)
#![allow(clippy::unwrap_used)]

use std::net::{Ipv4Addr, TcpStream as Client};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use fanway_gateway::server::{Ending, Endpoint, ServerMetrics, Settings, bind, serve};
use prometheus::Registry;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn running_out_of_files_delays_but_does_not_end_accepting() {
    let settings = Settings::default();
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into(), &settings).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = ServerMetrics::register(&Registry::new()).unwrap();
    let ending = Ending::default();
    // Connected before anybody accepts: after that the process may open nothing more.
    let client = Client::connect(address).unwrap();
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum }).unwrap();

    let serving = ending.tracker.spawn(serve(Endpoint {
        name: "public",
        listener,
        router: Router::new().route("/", get(|| async { "hello" })),
        express: None,
        cors: None,
        settings: Arc::new(settings),
        clients: None,
        tls: None,
        metrics: metrics.clone(),
        ending: ending.clone(),
    }));
    let errors = metrics.accept_errors_total.with_label_values(&["public"]);
    let twice = async {
        while errors.get() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, twice).await.expect("accepting fails and is tried again");

    setrlimit(Resource::Nofile, before).unwrap();
    client.set_nonblocking(true).unwrap();
    let mut client = tokio::net::TcpStream::from_std(client).unwrap();
    client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    ending.stop_accepting.cancel();
    tokio::time::timeout(PATIENCE, serving).await.expect("the loop ends when told to").unwrap();
}
