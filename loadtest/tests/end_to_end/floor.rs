//! The floor, driven as any server is: it must deliver as well as one, or it measures nothing.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::{Run, loadtest};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// Runs until dropped.
struct Floor {
    child: Child,
    place: Value,
}

impl Floor {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanway-loadtest"));
        command.arg("floor").env("FANWAY_SECRET", SECRET).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        Self { child, place: serde_json::from_str(&line).unwrap() }
    }

    async fn run(&self, scenario: &str) -> Run {
        let place = |name: &str| self.place[name].as_str().unwrap().to_owned();
        let (door, front, pid) = (place("door"), place("front"), self.child.id());
        let token = fanway_loadtest::token::mint(SECRET).unwrap();
        loadtest(format!("{scenario} --url http://{door} --api-url http://{front} --server-pid {pid} --token {token}"))
            .await
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_delivers_over_every_transport_and_in_every_pace() {
    let floor = Floor::start();
    for (scenario, delivered) in [
        ("fanout --connections 20 --publications 30 --rate 300", 600),
        ("fanout --connections 20 --publications 30 --one-at-a-time --processes 3", 600),
        ("fanout --connections 20 --publications 30 --rate 300 --transport sse", 600),
        ("fanout --connections 20 --publications 30 --rate 300 --transport poll", 600),
        ("burst --connections 20 --bursts 5 --in-flight 6 --workers 2", 600),
        ("burst --connections 20 --bursts 5 --in-flight 6 --transport poll", 600),
        ("many-channels --channels 6 --connections 20 --ticks 5", 600),
        ("many-channels --channels 6 --connections 20 --ticks 5 --transport sse", 600),
        ("many-channels --channels own --connections 20 --in-flight 4 --publications 40", 40),
        ("many-channels --channels own --connections 20 --in-flight 4 --publications 40 --apart", 40),
    ] {
        let Run { code, stdout, stderr, json } = floor.run(scenario).await;
        assert_eq!(code, Some(0), "{scenario}: {stdout}{stderr}");
        assert_eq!(json["integrity"]["delivered"], delivered, "{scenario}: {json}");
        assert!(json["cpu_us_per_delivery"].as_f64().unwrap() > 0.0, "{scenario}: {json}");
    }
}

#[tokio::test]
async fn it_wants_a_good_token() {
    let floor = Floor::start();
    for transport in ["websocket", "sse", "poll"] {
        let place = |name: &str| floor.place[name].as_str().unwrap().to_owned();
        let arguments = format!(
            "idle --url http://{} --api-url http://{} --server-pid {} --token wrong --connections 3 --transport {transport}",
            place("door"),
            place("front"),
            floor.child.id()
        );
        let Run { code, stderr, .. } = loadtest(arguments).await;
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("no connection was subscribed: 3 x the stream ended"), "{stderr}");
    }
}

#[tokio::test]
async fn it_runs_beside_the_server_and_what_is_found_is_compared() {
    let floor = Floor::start();
    let scenario = "fanout --connections 10 --publications 10 --one-at-a-time --floor --rounds 2";
    let Run { code, stdout, stderr, json } = floor.run(scenario).await;
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    let cost = &json["summary"][0];
    assert_eq!(
        (&cost["figure"], &cost["case"], &cost["base"]),
        (&"CPU per delivery".into(), &"fanway".into(), &"floor".into())
    );
    assert_eq!(cost["ratios"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["cases"][1]["rounds"][1]["integrity"]["delivered"], 100, "{json}");
    assert!(stdout.contains(" x floor ("), "{stdout}");
    let Run { code, json, stderr, .. } = floor
        .run("many-channels --channels own --connections 10 --in-flight 3 --publications 45 --floor --slices 4")
        .await;
    assert_eq!(code, Some(0), "{stderr}");
    for case in [0, 1] {
        let found = &json["cases"][case]["rounds"][0];
        assert_eq!(
            (&found["integrity"]["missing"], &found["confirmed"]),
            (&0.into(), &found["publications"]),
            "{json}"
        );
        assert!(found["confirmed"].as_u64().unwrap() > 30, "{json}");
    }
    let Run { code, json, stderr, .. } = floor.run("connect-storm --connections 50 --storms 2 --rest 0s").await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(json["cpu_us_per_connect"].as_array().unwrap().len(), 2, "{json}");
}
