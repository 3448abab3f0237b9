//! `compare-builds` with real servers: equal builds pass, a dearer one is found.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Run, loadtest};

/// The server's binary: `FANWAY_BIN`, or the one beside the load generator's.
fn binary() -> PathBuf {
    let beside = || Path::new(env!("CARGO_BIN_EXE_fanway-loadtest")).with_file_name("fanway");
    let binary = std::env::var_os("FANWAY_BIN").map_or_else(beside, PathBuf::from);
    assert!(binary.exists(), "{} is missing: cargo build -p fanway-gateway, with the same profile", binary.display());
    binary
}

async fn compare(after: &Path, options: &str) -> Run {
    loadtest(format!("compare-builds {} {} --quiet {options}", binary().display(), after.display())).await
}

/// A check of a result.
fn check<'a>(json: &'a Value, row: &str, figure: &str) -> &'a Value {
    let rows = json["rows"].as_array().unwrap();
    let row = rows.iter().find(|other| other["row"] == row).unwrap();
    row["checks"].as_array().unwrap().iter().find(|check| check["figure"] == figure).unwrap()
}

const SMALL: &str = "-- --connections 20 --slices 2";

#[tokio::test]
async fn a_build_is_compared_with_itself_in_every_sliced_row() {
    for (rows, figure, more) in [
        ("fanout,sse", "CPU per delivery", "--publications 20"),
        ("burst", "CPU per delivery", "--bursts 4"),
        ("connect", "CPU per connect", "--storms 2"),
        ("publish", "CPU per publication", "--publications 400"),
        ("idle,idle-sse", "memory per connection", "--duration 200ms"),
    ] {
        let Run { code, stdout, stderr, json } =
            compare(&binary(), &format!("--rows {rows} --pairs 2 {SMALL} {more}")).await;
        // The machine may be busy: whether bounds hold is not asserted here, but what is compared.
        assert!(matches!(code, Some(0 | 1)), "{rows}: {stdout}{stderr}");
        for row in rows.split(',') {
            let check = check(&json, row, figure);
            assert_eq!(check["pairs"].as_array().unwrap().len(), 2, "{json}");
            assert!(check["before"].as_f64().unwrap() > 0.0, "{json}");
            assert_eq!(check["interval"]["coverage"], 0.5);
            assert!(stdout.contains("2 pairs, 50.0 %"), "{stdout}");
        }
        // Whatever failed is a bound, and not a measurement.
        let failures = json["failures"].as_array().unwrap();
        assert!(failures.iter().all(|failure| failure.as_str().unwrap().contains("upper end may be")), "{json}");
    }
}

#[tokio::test]
async fn a_slower_build_fails() {
    let directory = tempfile::tempdir().unwrap();
    let slower = directory.path().join("fanway");
    std::fs::write(&slower, format!("#!/bin/sh\nexec valgrind -q --tool=none {} \"$@\"\n", binary().display()))
        .unwrap();
    std::fs::set_permissions(&slower, std::fs::Permissions::from_mode(0o755)).unwrap();
    let Run { code, stdout, stderr, json } =
        compare(&slower, &format!("--rows fanout --pairs 2 {SMALL} --publications 10")).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("fanout: CPU per delivery: after / before is "), "{stderr}");
    let check = check(&json, "fanout", "CPU per delivery");
    assert!(check["interval"]["low"].as_f64().unwrap() > 2.0, "{json}");
    assert_eq!(check["within"], false);
    assert!(stdout.contains("FAILED, at most 1.050"), "{stdout}");
}

#[tokio::test]
async fn instructions_of_equal_builds_are_equal() {
    // With the whole load: a count differs by up to 300,000 from run to run, which is nearly 1 % of it.
    let Run { code, stdout, stderr, json } = compare(&binary(), "--rows instructions --pairs 1").await;
    assert!(matches!(code, Some(0 | 1)), "{stdout}{stderr}");
    for figure in ["instructions per delivery", "instructions per publication", "instructions per connect"] {
        let check = check(&json, "instructions", figure);
        assert!(check["after"].as_f64().unwrap() > 500.0, "{json}");
        assert!((check["interval"]["median"].as_f64().unwrap() - 1.0).abs() < 0.05, "{json}");
    }
}

#[tokio::test]
async fn instructions_of_a_build_with_more_to_do_are_found() {
    let more = "--set-after telemetry.traces.endpoint=http://127.0.0.1:9 --set-after telemetry.traces.sample_ratio=1.0";
    let few = "--rows instructions --pairs 1 -- --connects 100 --publications 100 --subscribers 20";
    let Run { code, stdout, stderr, .. } = compare(&binary(), &format!("{more} {few}")).await;
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("instructions: instructions per publication: after / before is "), "{stderr}");
}

#[tokio::test]
async fn what_is_no_build_is_refused() {
    let Run { code, stderr, .. } = compare(Path::new("/bin/false"), "--rows idle").await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("AFTER: /bin/false ended with"), "{stderr}");
    let Run { code, stderr, .. } = compare(&binary(), "--rows idle -- --publications 3").await;
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("row idle: ") && stderr.contains("--publications"), "{stderr}");
}
