//! A hub over the engine in memory, for unit tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use fanway_broker::{AnyBroker, MemoryBroker};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authorizer::Authorizer;
use crate::{Access, Hub, HubMetrics, Identity, Inbox, Limits, Namespace, Namespaces, Parts};

/// A hub whose channels are open and recoverable, and whose clients are all `alice`.
pub(crate) fn hub(limits: Limits) -> Arc<Hub> {
    let inbox = Inbox::new();
    let namespace = Namespace {
        history_size: 100,
        history_ttl: Duration::from_secs(300),
        meta_ttl: Duration::from_secs(3000),
        recovery: true,
        subscribe: Access::Anyone,
        ..Namespace::closed("default")
    };
    let parts = Parts {
        broker: Arc::new(AnyBroker::Memory(MemoryBroker::new(inbox.clone()))),
        inbox,
        feed: tokio::runtime::Handle::current(),
        namespaces: Arc::new(Namespaces::new(namespace, [])),
        limits,
        quotas: crate::QuotaSettings::unlimited(),
        verify: Box::new(|_, _| Ok(Identity { user: "alice".into(), ..Identity::default() })),
        authorizer: Authorizer::Token,
        allow_anonymous: false,
        max_age: None,
        metrics: HubMetrics::register(&prometheus::Registry::new()).unwrap(),
        trace: None,
        version: "test",
    };
    Hub::start(parts, TaskTracker::new(), CancellationToken::new())
}
