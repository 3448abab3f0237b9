//! What a round of deliveries found, in words and figures.

use std::time::Duration;

use super::super::environment::{Connections, Environment, allowed_memory, fault_rows, per_connection};
use super::{Order, Spent};
use crate::clients::Findings;
use crate::publisher::Published;
use crate::report::{Figure, Table, Unit, bytes, grouped};
use crate::rounds::Measured;
use crate::subject::Usage;

/// Everything that was read.
pub(super) struct Found {
    pub(super) order: Order,
    pub(super) connections: Connections,
    pub(super) findings: Findings,
    pub(super) published: Published,
    /// How many there were to be.
    pub(super) publications: u64,
    /// How many deliveries that makes.
    pub(super) expected: u64,
    pub(super) spent: Spent,
    pub(super) took: Duration,
    /// The server before and after the connections were opened, and at the end.
    pub(super) idle: Usage,
    pub(super) open: Usage,
    pub(super) rested: Usage,
    /// See [`Order::inspect`].
    pub(super) inspected: Vec<Figure>,
}

impl Found {
    fn per_delivery(&self) -> f64 {
        self.spent.server * 1e6 / self.findings.verdict.delivered.max(1) as f64
    }

    fn per_publication(&self, cpu: f64) -> f64 {
        cpu * 1e6 / self.publications.max(1) as f64
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.took.is_zero() { 0.0 } else { count as f64 / self.took.as_secs_f64() }
    }

    fn memory(&self) -> f64 {
        per_connection(self.idle.rss, self.open.rss, self.connections.counts.held())
    }

    /// CPU of accepting a connection and its subscription, at the rate at which they came.
    fn per_connect(&self) -> f64 {
        (self.open.cpu - self.idle.cpu) * 1e6 / self.connections.counts.held().max(1) as f64
    }

    /// For people and programs.
    pub(super) fn tell(self, environment: &Environment<'_>) -> Measured {
        let (table, figures, failures) = (self.table(environment), self.figures(), self.failures(environment));
        let json = self.json(environment, &figures, &failures);
        let latencies =
            vec![("due to received", self.findings.latencies), ("due to confirmed", self.published.confirmed)];
        Measured { figures, latencies, table, json, failures }
    }

    fn table(&self, environment: &Environment<'_>) -> Table {
        let Self { connections, findings, published, spent, .. } = self;
        let (verdict, confirmed) = (findings.verdict, published.attempted.confirmed());
        let mut table = Table::new(self.order.title.clone());
        connections.rows(&mut table);
        let (planned, rate) = (grouped(self.publications), self.per_second(confirmed));
        table.row("published", format!("{} confirmed of {planned}, at {rate:.1}/s", grouped(confirmed)));
        let integrity = if verdict.is_clean() { "every client, every publication, once, in order" } else { "FAILED" };
        table.row("integrity", integrity);
        table.row("delivered", format!("{} of {}", grouped(verdict.delivered), grouped(self.expected)));
        if !verdict.is_clean() {
            table.row("missing", grouped(verdict.missing));
            table.row("duplicates", grouped(verdict.duplicates));
            table.row("reordered", grouped(verdict.reordered));
            table.row("never published", grouped(verdict.unknown));
        }
        table.row("delivered rate", format!("{}/s", grouped(self.per_second(verdict.delivered) as u64)));
        table.row("due to received", findings.latencies.summary());
        table.row("due to confirmed", published.confirmed.summary());
        table.row("due to sent", published.lag.summary());
        let including = if spent.others.is_empty() { ", publishing included" } else { "" };
        let (each, all) = (self.per_delivery(), spent.server);
        table.row("CPU per delivery", format!("{each:.3} us ({all:.2} s in all{including})"));
        for (name, cpu) in &spent.others {
            table.row(&format!("CPU of {name}"), format!("{:.2} us per publication", self.per_publication(*cpu)));
        }
        table.row("load generator", format!("{:.2} s of CPU", spent.own));
        table.row("memory per connection", format!("{} while idle", bytes(self.memory())));
        let [idle, rested] = [self.idle, self.rested].map(|usage| bytes(usage.rss as f64));
        table.row("server memory", format!("{idle} before, {rested} at the end"));
        for Figure { name, unit, value } in &self.inspected {
            table.row(name, unit.show(*value));
        }
        table.row("measured by", environment.subject.gauge.source());
        fault_rows(&mut table, &findings.faults);
        fault_rows(&mut table, &published.faults);
        table
    }

    fn figures(&self) -> Vec<Figure> {
        let figure = |name, unit, value| Figure { name, unit, value };
        let millis = |latency: Duration| latency.as_secs_f64() * 1e3;
        let (latencies, delivered) = (self.findings.latencies.summary(), self.findings.verdict.delivered);
        let mut figures = vec![
            figure("CPU per delivery", Unit::Micros, self.per_delivery()),
            figure("deliveries per CPU second", Unit::PerSecond, delivered as f64 / self.spent.server),
            figure("latency p50", Unit::Millis, millis(latencies.p50)),
            figure("latency p99", Unit::Millis, millis(latencies.p99)),
            figure("delivered rate", Unit::PerSecond, self.per_second(delivered)),
            figure("CPU per publication", Unit::Micros, self.per_publication(self.spent.server)),
            figure("memory per connection", Unit::Bytes, self.memory()),
            figure("CPU per connect", Unit::Micros, self.per_connect()),
            figure("memory with connections", Unit::Bytes, self.open.rss as f64),
            figure("memory at the end", Unit::Bytes, self.rested.rss as f64),
            figure("memory at the end / allowed", Unit::Plain, self.rested.rss as f64 / allowed_memory(self.open)),
        ];
        figures.extend(&self.inspected);
        for (name, cpu) in &self.spent.others {
            let name = if *name == "Redis" { "Redis CPU per publication" } else { "publishing CPU per publication" };
            figures.push(figure(name, Unit::Micros, self.per_publication(*cpu)));
        }
        figures
    }

    fn failures(&self, environment: &Environment<'_>) -> Vec<String> {
        let Self { findings, published, publications, .. } = self;
        let mut failures = Vec::new();
        self.connections.failures(&mut failures);
        if !findings.verdict.is_clean() {
            failures.push("not every client received every publication once and in order".to_owned());
        }
        let confirmed = published.attempted.confirmed();
        if confirmed < *publications {
            failures.push(format!("{} publications were not confirmed", grouped(publications - confirmed)));
        }
        if failures.is_empty() && !(findings.faults.is_empty() && published.faults.is_empty()) {
            failures.push("errors on connections".to_owned());
        }
        if environment.is_interrupted() {
            failures.push("interrupted".to_owned());
        }
        failures
    }

    fn json(&self, environment: &Environment<'_>, figures: &[Figure], failures: &[String]) -> serde_json::Value {
        let Self { order, findings, published, spent, .. } = self;
        let confirmed = published.attempted.confirmed();
        serde_json::json!({
            "scenario": order.scenario,
            "transport": order.transports.to_string(),
            "tls": environment.subject.doors.iter().any(|door| door.tls),
            "connections": self.connections,
            "channels": order.channels.count,
            "channels_per_connection": order.channels.per_connection,
            "publications": self.publications,
            "confirmed": confirmed,
            "payload_bytes": order.delivery.payload_bytes,
            "integrity": findings.verdict,
            "expected": self.expected,
            "delivered_per_second": self.per_second(findings.verdict.delivered),
            "received": findings.latencies.summary(),
            "confirmations": published.confirmed.summary(),
            "send_lag": published.lag.summary(),
            "published_per_second": self.per_second(confirmed),
            "load_generator_cpu_seconds": spent.own,
            "cpu_seconds": spent.server,
            "cpu_us_per_delivery": self.per_delivery(),
            "rss_idle": self.idle.rss,
            "rss_before": self.open.rss,
            "rss_after": self.rested.rss,
            "rss_per_connection": self.memory(),
            "measured_by": environment.subject.gauge.source(),
            "figures": figures,
            "faults": findings.faults,
            "publish_faults": published.faults,
            "failures": failures,
        })
    }
}
