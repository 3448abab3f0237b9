//! The methods of the API apart from HTTP: a name and the text of the parameters in, the text of the answer out.
//!
//! A method checks its own parameters and nothing else. Whoever calls it has checked the API key against
//! [`ApiMethod::scope`] and the length of the parameters against [`ApiMethod::limit`].

use std::sync::Arc;

use serde::Serialize;

use super::body::Answer;
use super::error::ApiError;
use super::metrics::Meter;
use super::settings::ApiSettings;
use super::{Api, broadcast, history, info, publish};
use crate::auth::Scope;
use crate::error_body::text;

/// The names, for error messages.
pub(super) const NAMES: &str = "publish, broadcast, history and info";

/// A method of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiMethod {
    Publish,
    Broadcast,
    History,
    Info,
}

/// What a caller knows besides the parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Context {
    /// The idempotency key, if it is not among the parameters.
    pub(super) key: Option<String>,
    /// The trace context of what is done, if it is sampled.
    pub(super) trace: Option<Arc<str>>,
}

impl ApiMethod {
    /// The method of this name, if there is one.
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "publish" => Some(Self::Publish),
            "broadcast" => Some(Self::Broadcast),
            "history" => Some(Self::History),
            "info" => Some(Self::Info),
            _ => None,
        }
    }

    /// The rights that methods need.
    pub(super) const SCOPES: [Scope; 2] = [Scope::Publish, Scope::Read];

    /// The right that it needs; one of [`Self::SCOPES`].
    pub(super) fn scope(self) -> Scope {
        match self {
            Self::Publish | Self::Broadcast => Scope::Publish,
            Self::History | Self::Info => Scope::Read,
        }
    }

    /// The most bytes of its parameters.
    pub(super) fn limit(self, settings: &ApiSettings) -> u64 {
        match self {
            Self::Broadcast => settings.broadcast_body_limit.as_u64(),
            Self::Publish | Self::History | Self::Info => settings.publish_body_limit.as_u64(),
        }
    }
}

impl Api {
    /// What counts the calls of a method.
    pub(super) fn meter(&self, method: ApiMethod) -> &Meter {
        match method {
            ApiMethod::Publish => &self.publish,
            ApiMethod::Broadcast => &self.broadcast,
            ApiMethod::History => &self.history,
            ApiMethod::Info => &self.info,
        }
    }

    /// Calls a method. The answer is the JSON text of `{"result":..}`.
    pub(super) async fn call(&self, method: ApiMethod, params: &[u8], context: Context) -> Result<Vec<u8>, ApiError> {
        let state = &self.state;
        match method {
            ApiMethod::Publish => publish::call(state, params, context).await,
            ApiMethod::Broadcast => broadcast::call(state, params, context).await.map(answer),
            ApiMethod::History => history::call(state, params).await.map(answer),
            ApiMethod::Info => info::call(state, params).map(answer),
        }
    }
}

/// The answer of a method that was done, as JSON.
fn answer(result: impl Serialize) -> Vec<u8> {
    text(&Answer { result })
}
