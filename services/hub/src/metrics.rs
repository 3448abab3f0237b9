//! Metrics of the hub.

use std::sync::{Arc, OnceLock};

use fanway_broker::Refusal;
use fanway_protocol::GapReason;

use crate::session::Transport;

const LATENCY: [f64; 12] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

fanway_broker::metrics! {
    /// What the hub counts.
    pub struct HubMetrics {
        /// Sessions that are open, by transport.
        connections: IntGaugeVec["transport"],
        /// Sessions opened since start, by transport.
        connections_opened_total: IntCounterVec["transport"],
        /// Sessions closed since start, by transport and reason.
        connections_closed_total: IntCounterVec["transport", "reason"],
        /// Age of sessions when they closed, in seconds, by transport.
        connection_age_seconds: HistogramVec["transport"] = [1.0, 10.0, 60.0, 300.0, 1800.0, 7200.0, 28800.0, 86400.0],
        /// 1 while this node gives its sessions away before it stops, else 0.
        draining: IntGauge,
        /// Subscriptions of all sessions.
        subscriptions: IntGauge,
        /// Channels with at least one subscriber on this node.
        channels: IntGauge,
        /// Publications that reached this node's sequencers, by namespace.
        publications_in_total: IntCounterVec["namespace"],
        /// Publications handed to sockets, by transport.
        deliveries_total: IntCounterVec["transport"],
        /// Seconds from receiving a publication on this node to handing it to a socket, one sample per batch written.
        delivery_latency_seconds: HistogramVec["transport"] = LATENCY,
        /// Resumes by outcome: `recovered`, or the reason of the gap.
        recoveries_total: IntCounterVec["outcome"],
        /// Gaps announced to a channel's subscribers, by reason.
        gaps_total: IntCounterVec["reason"],
        /// Losses of publications that logs were found to have suffered, and that this node recorded in them.
        losses_recorded_total: IntCounter,
        /// Failed attempts to record a loss of publications in a log, by reason.
        losses_unrecorded_total: IntCounterVec["reason"],
        /// Gaps for subscriptions that had passed over a loss before it was recorded: "first", or "second" if the subscription had a gap on this node before.
        loss_notices_total: IntCounterVec["notice"],
        /// Reads of the log to repair a channel.
        repair_reads_total: IntCounter,
        /// Reads of the log for resumes; clients that come back together share one.
        resume_reads_total: IntCounter,
        /// Slow consumers by what was done: `catch_up` (from the log), `gap` (told of a loss), `closed`.
        slow_consumers_total: IntCounterVec["action"],
        /// Times that a connection was not read from for a while, because it was ahead of `client.command_rate`.
        command_rate_waits_total: IntCounter,
        /// Bytes of publications from the broker that this node has not put in order yet.
        inbox_bytes: IntGauge,
        /// Publications dropped because too many waited to be put in order; their channels are repaired from the log.
        inbox_dropped_total: IntCounter,
        /// Bytes held by rings of recent publications.
        ring_bytes: IntGauge,
        /// Evictions from the rings because they held more than `client.node_ring_bytes`.
        ring_evictions_total: IntCounter,
        /// Bytes held by publications that were read for clients that are behind, until their sockets take them.
        page_bytes: IntGauge,
        /// Times that a session's pages were dropped, to be read again later, because they were not sent in time.
        pages_dropped_total: IntCounter,
        /// Bytes of answers to polls above 16 KiB, from when they are collected until the transport has let go of them.
        poll_answer_bytes: IntGauge,
        /// Bytes held by unfinished messages of connections that have not connected.
        unfinished_bytes: IntGauge,
        /// Bytes waiting in outboxes of slow connections.
        outbox_bytes: IntGauge,
        /// Refused credentials, by reason.
        auth_failures_total: IntCounterVec["reason"],
        /// Actions that a limit of what one client may cost refused or delayed, by limit.
        limited_total: IntCounterVec["limit"],
        /// Users and client addresses of which a token bucket is not full.
        limited_subjects: IntGauge,
    }
}

impl HubMetrics {
    /// Makes the series that alerts look at exist before the first time they count anything.
    pub(crate) fn show_from_the_start(&self) {
        self.recoveries_total.with_label_values(&["recovered"]);
        for reason in GapReason::ALL {
            self.gaps_total.with_label_values(&[reason.as_str()]);
            self.recoveries_total.with_label_values(&[reason.as_str()]);
        }
        for action in ["catch_up", "gap", "closed"] {
            self.slow_consumers_total.with_label_values(&[action]);
        }
        for limit in crate::quota::LABELS {
            self.limited_total.with_label_values(&[limit]);
        }
        for notice in ["first", "second"] {
            self.loss_notices_total.with_label_values(&[notice]);
        }
        for reason in Refusal::ALL.map(Refusal::label).into_iter().chain(["unavailable"]) {
            self.losses_unrecorded_total.with_label_values(&[reason]);
        }
    }
}

/// Most transports of a node.
pub(crate) const MAX_TRANSPORTS: usize = 16;

/// The node has 16 transports already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has {MAX_TRANSPORTS} transports already")]
pub struct TooManyTransports;

/// Metrics of each transport, by its number. Transports are never removed.
#[derive(Debug)]
pub(crate) struct Transports {
    metrics: Arc<HubMetrics>,
    slots: [OnceLock<TransportMetrics>; MAX_TRANSPORTS],
}

impl Transports {
    /// The transports that every node has.
    pub(crate) fn new(metrics: Arc<HubMetrics>) -> Self {
        let slots = [const { OnceLock::new() }; MAX_TRANSPORTS];
        for (slot, name) in slots.iter().zip(Transport::BUILT_IN) {
            slot.get_or_init(|| TransportMetrics::new(&metrics, name));
        }
        Self { metrics, slots }
    }

    /// Number of a transport, which is added if it is new.
    pub(crate) fn intern(&self, name: &'static str) -> Result<Transport, TooManyTransports> {
        let found = (0..).zip(&self.slots).find(|(_, slot)| {
            let at = slot.get_or_init(|| TransportMetrics::new(&self.metrics, name));
            at.name == name
        });
        found.map(|(number, _)| Transport(number)).ok_or(TooManyTransports)
    }

    /// Metrics of a transport.
    pub(crate) fn of(&self, transport: Transport) -> &TransportMetrics {
        self.slots[usize::from(transport.0)].get_or_init(|| TransportMetrics::new(&self.metrics, "unknown"))
    }
}

/// Metrics of one transport, looked up once so that deliveries need not.
#[derive(Debug)]
pub(crate) struct TransportMetrics {
    /// Value of the label.
    pub(crate) name: &'static str,
    pub(crate) connections: prometheus::IntGauge,
    pub(crate) opened: prometheus::IntCounter,
    pub(crate) deliveries: prometheus::IntCounter,
    pub(crate) latency: prometheus::Histogram,
    pub(crate) age: prometheus::Histogram,
}

impl TransportMetrics {
    fn new(metrics: &HubMetrics, transport: &'static str) -> Self {
        Self {
            name: transport,
            connections: metrics.connections.with_label_values(&[transport]),
            opened: metrics.connections_opened_total.with_label_values(&[transport]),
            deliveries: metrics.deliveries_total.with_label_values(&[transport]),
            latency: metrics.delivery_latency_seconds.with_label_values(&[transport]),
            age: metrics.connection_age_seconds.with_label_values(&[transport]),
        }
    }
}
