//! Namespaces: what a channel keeps, and who may do what with it without a grant of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fanway_broker::Retention;
use fanway_protocol::{Channel, Right};

use crate::identity::Identity;

/// Who may do a thing, beyond those whose token grants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Access {
    /// Nobody else. The default: everything is closed until opened.
    #[default]
    Granted,
    /// Any client subscribed to the channel (for publish and history).
    Subscriber,
    /// Any client with a valid token.
    Authenticated,
    /// Any client, anonymous ones included.
    Anyone,
}

impl Access {
    fn allows(self, identity: &Identity, subscribed: bool) -> bool {
        match self {
            Self::Granted => false,
            Self::Subscriber => subscribed,
            Self::Authenticated => !identity.is_anonymous(),
            Self::Anyone => true,
        }
    }
}

/// The options of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Label for metrics; `default` for channels without a namespace.
    pub name: String,
    /// Publications kept per channel; 0 keeps no history and gives no positions.
    pub history_size: u32,
    /// How long history is kept after the last publication.
    pub history_ttl: Duration,
    /// How long epoch and offset are kept after the last publication or refresh.
    pub meta_ttl: Duration,
    /// Whether clients can resume from a position. Needs history.
    pub recovery: bool,
    /// Who may subscribe.
    pub subscribe: Access,
    /// Who may publish over a client connection.
    pub publish: Access,
    /// Who may read history over a client connection.
    pub history: Access,
}

impl Namespace {
    /// A closed namespace without history.
    pub fn closed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            history_size: 0,
            history_ttl: Duration::ZERO,
            meta_ttl: Duration::ZERO,
            recovery: false,
            subscribe: Access::Granted,
            publish: Access::Granted,
            history: Access::Granted,
        }
    }

    /// What a channel of this namespace keeps.
    pub fn retention(&self) -> Retention {
        Retention { count: self.history_size, ttl: self.history_ttl, meta_ttl: self.meta_ttl }
    }

    /// Whether a client may use a right on a channel of this namespace.
    pub fn allows(&self, right: Right, channel: &Channel, identity: &Identity, subscribed: bool) -> bool {
        let open = match right {
            Right::Subscribe => self.subscribe.allows(identity, false),
            Right::Publish => self.publish.allows(identity, subscribed),
            Right::History => self.history.allows(identity, subscribed),
            Right::Presence => false,
        };
        open || identity.grants.allows(right, channel)
    }
}

/// All namespaces of a node.
#[derive(Clone, Debug)]
pub struct Namespaces {
    default: Arc<Namespace>,
    named: HashMap<String, Arc<Namespace>>,
}

impl Namespaces {
    /// From the options for channels without a namespace, and those of the named ones.
    pub fn new(default: Namespace, named: impl IntoIterator<Item = Namespace>) -> Self {
        Self {
            default: Arc::new(default),
            named: named.into_iter().map(|namespace| (namespace.name.clone(), Arc::new(namespace))).collect(),
        }
    }

    /// The namespace of a channel; `None` when its name has a prefix that nobody configured.
    pub fn of(&self, channel: &Channel) -> Option<&Arc<Namespace>> {
        match channel.namespace() {
            None => Some(&self.default),
            Some(name) => self.named.get(name),
        }
    }

    /// Every namespace, the default one first.
    pub fn iter(&self) -> impl Iterator<Item = &Namespace> {
        std::iter::once(&self.default).chain(self.named.values()).map(|namespace| &**namespace)
    }
}
