//! `slow-consumers`: clients that read nothing, beside others that do.

use std::process::Command;

use anyhow::Context;

use super::Stage;
use super::delivery::{Order, Pace, deliver};
use super::environment::Environment;
use crate::options::{Delivery, SlowConsumers};
use crate::report::{Figure, Unit, grouped};
use crate::rounds::{Case, Outcome};
use crate::subject::{Layout, Spec};

/// Measures with and without them.
pub(super) fn run(stage: &Stage<'_>, options: &SlowConsumers) -> anyhow::Result<Outcome> {
    let spec = Spec::new(&options.common, Layout::ALONE);
    let case = |label: &str, base, parameters| Case {
        label: label.to_owned(),
        spec: spec.clone(),
        base,
        point: None,
        parameters,
    };
    let cases = vec![case("some stalled", Some(1), options.stalled), case("all reading", None, 0)];
    let title = format!(
        "slow consumers over {}: {} clients that read, {} that do not, {} B at {}/s for {:?}",
        options.common.transport,
        grouped(options.common.connections.into()),
        grouped(options.stalled.into()),
        options.payload_bytes,
        options.rate,
        options.duration
    );
    stage.cases(title.clone(), &cases, |environment, stalled| {
        let publications = ((options.duration.as_secs_f64() * options.rate) as u64).max(1);
        let order = Order {
            scenario: "slow-consumers",
            title: title.clone(),
            channels: environment.channels(1, 1)?,
            connections: (options.common.connections + stalled) as usize,
            transports: environment.transports(),
            stalled: *stalled as usize,
            pace: Pace::Rate(options.rate, publications),
            delivery: Delivery {
                payload_bytes: options.payload_bytes,
                settle: options.settle,
                rest: std::time::Duration::ZERO,
            },
            inspect: (*stalled > 0).then_some(inspect),
        };
        deliver(environment, order)
    })
}

/// What the stalled ones hold: memory of the server's process, and of the kernel for its ends of their connections.
fn inspect(environment: &Environment<'_>, gained: f64) -> anyhow::Result<Vec<Figure>> {
    let ports: Vec<u16> = environment.subject.doors.iter().map(|door| door.address.port()).collect();
    let mut held = Vec::new();
    for port in ports {
        held.extend(kernel_memory(port)?);
    }
    // Nothing waits for those that read: all that is held is held for the others.
    let stalled: Vec<f64> = held.into_iter().filter(|bytes| *bytes > 0.0).collect();
    let count = stalled.len().max(1) as f64;
    let kernel = stalled.iter().sum::<f64>() / count;
    let figure = |name, unit, value| Figure { name, unit, value };
    Ok(vec![
        figure("kernel memory per stalled client", Unit::Bytes, kernel),
        figure("server memory gained per stalled client", Unit::Bytes, gained / count),
        figure("memory per stalled client", Unit::Bytes, kernel + gained / count),
        figure("clients with unsent bytes", Unit::Plain, stalled.len() as f64),
    ])
}

/// What the kernel holds for each connection of a port, as `ss` tells it.
fn kernel_memory(port: u16) -> anyhow::Result<Vec<f64>> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-tmnH", "state", "established", &filter]).output();
    let output = output.context("ss (of iproute2) is needed to see the kernel's buffers")?;
    Ok(socket_memory(&String::from_utf8_lossy(&output.stdout)))
}

/// Received and not read, queued to be sent, and held ahead: the members r, w and f of each `skmem:(...)`. What has
/// nothing queued counts as nothing.
fn socket_memory(text: &str) -> Vec<f64> {
    let sockets = text.split("skmem:(").skip(1).filter_map(|rest| rest.split(')').next());
    sockets
        .map(|members| {
            let member = |name: &str| {
                let value = members.split(',').find_map(|member| member.strip_prefix(name)?.parse::<f64>().ok());
                value.unwrap_or(0.0)
            };
            let queued = member("w");
            if queued > 0.0 { queued + member("r") + member("f") } else { 0.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_queued_is_added_up() {
        let text = "0 0 127.0.0.1:80 127.0.1.1:5000\n\t skmem:(r0,rb131072,t0,tb2626560,f4096,w0,o0,bl0,d0)\n\
                    0 9 127.0.0.1:80 127.0.1.1:5001\n\t skmem:(r100,rb131072,t0,tb2626560,f1000,w20000,o0,bl0,d0)\n";
        assert_eq!(socket_memory(text), [0.0, 21_100.0]);
    }
}
