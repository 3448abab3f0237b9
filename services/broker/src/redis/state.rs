//! What the parts of the engine know about its health, in one place.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanway_protocol::{Publication, envelope};

use super::refusals::{Kind, Refusals};
use crate::{BrokerMetrics, Health, Refusal};

/// Health and metrics, shared by the engine's tasks and calls.
pub(crate) struct State {
    facts: Mutex<Facts>,
    refusals: Refusals,
    pub(crate) metrics: BrokerMetrics,
    /// An echo older than this counts as none.
    echo_fresh: Duration,
    /// Newest envelope that the fleet reads.
    envelope: AtomicU32,
}

#[derive(Default)]
struct Facts {
    /// The self-test passed at least once.
    started: bool,
    /// There is a connection for commands, and its self-test passed.
    commands: bool,
    /// Why there is none.
    commands_trouble: Option<String>,
    /// Why nothing can be heard.
    subscriber_trouble: Option<String>,
    /// What works now but will hurt.
    warning: Option<String>,
    /// The newest self-test that could write found that functions cannot be used.
    functions_refused: bool,
    /// Commands are answered, but the last probe's echo did not come back.
    deaf: bool,
    /// Connections lead to different servers, and what they are called.
    split: Option<String>,
    /// When the newest echo came back.
    echo: Option<Instant>,
}

impl State {
    pub(crate) fn new(metrics: BrokerMetrics, echo_fresh: Duration) -> Self {
        metrics.broker_echo_age_seconds.set(-1.0);
        metrics.broker_up.set(0);
        for cause in Refusal::ALL {
            metrics.broker_publishes_refused.with_label_values(&[cause.label()]).set(0);
        }
        let facts = Facts { commands_trouble: Some("no contact yet".into()), ..Facts::default() };
        let envelope = AtomicU32::new(envelope::OLDEST.into());
        Self { facts: Mutex::new(facts), refusals: Refusals::default(), metrics, echo_fresh, envelope }
    }

    /// The fleet reads envelopes up to this version.
    pub(crate) fn limit_envelope(&self, version: u32) {
        self.envelope.store(version, Ordering::Relaxed);
    }

    /// True if the fleet reads the envelope that a publication needs.
    pub(crate) fn is_readable(&self, publication: &Publication) -> bool {
        let needed = envelope::version(publication);
        needed == envelope::OLDEST || u32::from(needed) <= self.envelope.load(Ordering::Relaxed)
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commands are answered; perhaps not writes.
    pub(crate) fn commands_up(&self, warning: Option<String>) {
        let mut facts = self.facts();
        (facts.started, facts.commands, facts.commands_trouble) = (true, true, None);
        facts.warning = warning;
        self.metrics.broker_up.set(1);
        self.refusals.answered(true, &self.metrics);
    }

    /// Commands are not answered. Returns whether that is news.
    pub(crate) fn commands_down(&self, why: String) -> bool {
        let mut facts = self.facts();
        let news = facts.commands || facts.commands_trouble.as_ref() != Some(&why);
        (facts.commands, facts.deaf) = (false, false);
        // An outage that all nodes share leaves them ready, whatever was found before it.
        facts.split.take_if(|split| *split != why);
        facts.commands_trouble = Some(why);
        self.metrics.broker_up.set(0);
        self.refusals.answered(false, &self.metrics);
        news
    }

    /// Why commands are not answered.
    pub(crate) fn commands_trouble(&self) -> String {
        self.facts().commands_trouble.clone().unwrap_or_else(|| "the connection was lost".into())
    }

    /// The server answered a publish with a refusal.
    pub(crate) fn publish_refused(&self, kind: Kind, cause: Refusal, reason: String) {
        self.refusals.refused(kind, cause, reason, &self.metrics, Instant::now());
    }

    /// A publish was done.
    pub(crate) fn publish_done(&self, kinds: &[Kind]) {
        self.refusals.done(kinds, &self.metrics);
    }

    /// The self-test that began at a time has written.
    pub(crate) fn writes_tested(&self, began: Instant) {
        self.refusals.disproved(began, &self.metrics);
    }

    pub(crate) fn publishes_refused(&self) -> bool {
        self.refusals.any()
    }

    /// Functions cannot be used, or can. Returns whether a refusal is news: the self-test repeats while anything is refused.
    pub(crate) fn functions(&self, refused: bool) -> bool {
        let before = std::mem::replace(&mut self.facts().functions_refused, refused);
        refused && !before
    }

    /// Nothing can be heard (or, with `None`, can again). Returns whether that is news.
    pub(crate) fn subscriber(&self, trouble: Option<String>) -> bool {
        let mut facts = self.facts();
        let news = facts.subscriber_trouble != trouble;
        facts.subscriber_trouble = trouble;
        news
    }

    /// A probe's echo came back, or did not. Returns whether the node has become deaf by it.
    pub(crate) fn echo(&self, came: bool) -> bool {
        let mut facts = self.facts();
        let was_deaf = facts.deaf;
        facts.deaf = !came && facts.commands;
        if came {
            facts.echo = Some(Instant::now());
        }
        let newly_deaf = facts.deaf && !was_deaf;
        drop(facts);
        self.show_echo_age();
        newly_deaf
    }

    /// Connections were found to lead to different servers. Returns whether that is news.
    pub(crate) fn split(&self, reason: &str) -> bool {
        self.metrics.broker_split_total.inc();
        self.facts().split.replace(reason.to_owned()).is_none()
    }

    /// All connections lead to one server.
    pub(crate) fn whole(&self) {
        if self.facts().split.take().is_some() {
            tracing::info!("this node's connections to redis lead to one server again");
        }
    }

    /// Brings the gauge of the echo's age up to date.
    pub(crate) fn show_echo_age(&self) {
        let age = self.facts().echo.map_or(-1.0, |echo| echo.elapsed().as_secs_f64());
        self.metrics.broker_echo_age_seconds.set(age);
    }

    pub(crate) fn health(&self) -> Health {
        let facts = self.facts();
        let echo_age = facts.echo.map(|echo| echo.elapsed());
        let deaf = facts.deaf.then(|| "commands are answered, but this node's own echo does not come back".to_owned());
        let refusal = self.refusals.newest();
        let refused = refusal.as_ref().map(|(_, reason)| format!("publishes are refused: {reason}"));
        // While commands are away because of it, it stands there.
        let split = facts.split.clone().filter(|_| facts.commands);
        let troubles = [&facts.commands_trouble, &split, &refused, &facts.subscriber_trouble, &deaf, &facts.warning];
        let details: Vec<_> = troubles.into_iter().flatten().map(String::as_str).collect();
        Health {
            started: facts.started,
            commands: facts.commands,
            hears: facts.subscriber_trouble.is_none(),
            echo: echo_age.is_some_and(|age| age < self.echo_fresh),
            deaf: facts.deaf,
            split: facts.split.is_some(),
            refused: refusal.map(|(cause, _)| cause),
            echo_age,
            detail: (!details.is_empty()).then(|| details.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let metrics = BrokerMetrics::register(&prometheus::Registry::new()).unwrap();
        State::new(metrics, Duration::from_secs(5))
    }

    #[test]
    fn an_outage_is_no_refusal_and_its_end_restores_one() {
        let state = state();
        let shown = || {
            let gauge = state.metrics.broker_publishes_refused.with_label_values(&["full"]).get();
            (gauge, state.health().refused)
        };
        state.commands_up(None);
        state.publish_refused(Kind::Log, Refusal::Full, "OOM".to_owned());
        assert_eq!(shown(), (1, Some(Refusal::Full)));
        state.commands_down("the connection was lost".to_owned());
        assert_eq!(shown(), (0, None));
        // An answer that was under way.
        state.publish_refused(Kind::Log, Refusal::Full, "OOM".to_owned());
        assert_eq!(shown(), (0, None));
        state.commands_up(None);
        assert_eq!(shown(), (1, Some(Refusal::Full)));
    }

    /// Readiness must not depend on what was found before an outage that all nodes share.
    #[test]
    fn an_outage_ends_a_split_that_is_not_its_cause() {
        let state = state();
        state.commands_up(None);
        assert!(state.split("two servers") && !state.split("two servers") && state.health().split);
        state.commands_down("the connection was lost".to_owned());
        assert!(!state.health().split);
        state.commands_down("two servers".to_owned());
        assert!(state.split("two servers"));
        state.commands_down("two servers".to_owned());
        assert!(state.health().split, "connections are made anew because of it");
        state.commands_up(None);
        state.whole();
        assert!(!state.health().split);
    }

    #[test]
    fn only_a_change_to_scripts_is_news() {
        let state = state();
        let news = [true, true, false, false, true].map(|refused| state.functions(refused));
        assert_eq!(news, [true, false, false, false, true]);
    }
}
