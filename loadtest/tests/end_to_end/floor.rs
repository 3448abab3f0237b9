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
        let token = fanway_loadtest::token::mint(SECRET, "ann").unwrap();
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

#[tokio::test]
async fn a_comparison_tells_of_peers_that_cannot_be_had() {
    let floor = Floor::start();
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("table.md");
    // No folder can be made there, so that nothing is fetched.
    let scenario = format!(
        "compare --peers ws,nchan,ws --peers-dir /dev/null/peers --connections 10 --publications 4 --bursts 2 --quiet --markdown {}",
        table.display()
    );
    for (how, expected) in [("--slices 2", &[40, 320][..]), ("--scenario fanout", &[40])] {
        let Run { code, stdout, stderr, json } = floor.run(&format!("{scenario} {how}")).await;
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        let names: Vec<&str> =
            json["contestants"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Fanway", "floor", "ws", "nchan"]);
        assert!(json["contestants"][3]["absent"].as_str().unwrap().contains("/dev/null/peers"), "{json}");
        let results = json["results"].as_array().unwrap().iter();
        let delivered: Vec<u64> =
            results.map(|result| result["cases"][0]["rounds"][0]["integrity"]["delivered"].as_u64().unwrap()).collect();
        assert_eq!(delivered, expected, "{json}");
        let table = std::fs::read_to_string(&table).unwrap();
        assert!(table.contains("| nchan | not there: cannot make /dev/null/peers/nchan"), "{table}");
        assert!(directory.path().join("table.svg").exists());
    }
}
