//! Rights of commands, decided in their turn.

use std::task::{Context, Poll, ready};

use fanway_protocol::{Channel, ErrorCode, Right};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::ClientSession;
use crate::authorizer::{Authorization, Decision};
use crate::namespace::Namespace;

/// Check of the right that a waiting command needs.
#[derive(Default)]
pub(super) enum RightCheck {
    /// Nothing was asked: token and namespace decide, each time anew.
    #[default]
    Open,
    /// A back end decides.
    Asked(BoxFuture<'static, Decision>),
    /// A back end has granted the right.
    Granted,
}

impl RightCheck {
    /// Whether a back end has granted the right.
    pub(super) fn by_back_end(&self) -> bool {
        matches!(self, Self::Granted)
    }

    /// Decides on the right, as things are now.
    pub(super) fn poll(
        &mut self,
        session: &ClientSession,
        cx: &mut Context<'_>,
        right: Right,
        channel: &Channel,
        namespace: &Namespace,
    ) -> Poll<Result<(), ErrorCode>> {
        if let Self::Open = self {
            match session.authorize(right, channel, namespace) {
                Authorization::Ready(decision) => return Poll::Ready(outcome(decision)),
                Authorization::Waiting(answer) => {
                    let in_time = tokio::time::timeout(session.core.hub.limits.command_timeout, answer);
                    *self = Self::Asked(in_time.map(|answer| answer.unwrap_or(Decision::Unavailable)).boxed());
                }
            }
        }
        if let Self::Asked(answer) = self {
            outcome(ready!(answer.poll_unpin(cx)))?;
            *self = Self::Granted;
        }
        Poll::Ready(Ok(()))
    }
}

fn outcome(decision: Decision) -> Result<(), ErrorCode> {
    match decision {
        Decision::Granted => Ok(()),
        Decision::Denied => Err(ErrorCode::PermissionDenied),
        Decision::Unavailable => Err(ErrorCode::Internal),
    }
}

impl ClientSession {
    fn authorize(&self, right: Right, channel: &Channel, namespace: &Namespace) -> Authorization {
        let Some(identity) = self.identity() else { return Authorization::Ready(Decision::Denied) };
        let subscribed = self.core.sub(channel.as_str()).is_some();
        self.core.hub.authorizer.authorize(right, channel, namespace, identity, subscribed)
    }
}
