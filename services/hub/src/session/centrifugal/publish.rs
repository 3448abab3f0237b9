//! Publish, over a client connection.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fanway_broker::trace::Begun;
use fanway_broker::{Broker, BrokerError, Publish as Publishing, Published};
use fanway_protocol::command::PublishRequest;
use fanway_protocol::publication::{json_line, nests_too_deep};
use fanway_protocol::reply::{Outcome, Reply};
use fanway_protocol::{Channel, ClientInfo, ErrorCode, Payload, Publication, Right};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::ClientSession;
use super::authorization::RightCheck;
use super::command::CommandError;
use super::queue::Turned;
use crate::hub::Hub;
use crate::namespace::Namespace;

/// A waiting publish.
pub(super) struct Publish {
    channel: Channel,
    namespace: Arc<Namespace>,
    data: Payload,
    right: RightCheck,
    /// The broker's call, once its turn has come.
    call: Option<BoxFuture<'static, Result<Published, BrokerError>>>,
}

impl Publish {
    pub(super) fn new(session: &ClientSession, request: &PublishRequest<'_>) -> Result<Self, CommandError> {
        let channel = Channel::new(&request.channel)?;
        if let Some(member) = request.unsupported {
            return Err(CommandError::unsupported(member));
        }
        let namespace = session.namespace(&channel)?;
        let data = request.data.filter(|data| !nests_too_deep(data)).ok_or(ErrorCode::BadRequest)?;
        Ok(Self { channel, namespace, data: Payload::Json(json_line(data)?), right: RightCheck::Open, call: None })
    }

    pub(super) fn run(
        &mut self,
        id: u32,
        session: &mut ClientSession,
        cx: &mut Context<'_>,
        sampled: Option<&Begun>,
    ) -> Turned {
        let Self { channel, namespace, data, right, call } = self;
        if call.is_none() {
            ready!(right.poll(session, cx, Right::Publish, channel, namespace))?;
        }
        let call = call.get_or_insert_with(|| {
            let publication = session.publication(data.clone(), sampled);
            publish(session.core.hub.clone(), channel.clone(), namespace.clone(), publication).boxed()
        });
        ready!(call.poll_unpin(cx))?;
        session.reply(&Reply::ok(id, Outcome::Publish));
        Poll::Ready(Ok(()))
    }
}

impl ClientSession {
    /// Publication of this client.
    fn publication(&self, data: Payload, sampled: Option<&Begun>) -> Arc<Publication> {
        let identity = self.identity();
        let info = ClientInfo {
            user: identity.map_or(String::new(), |identity| identity.user.as_ref().to_owned()),
            client: self.id().to_string(),
            conn_info: identity.and_then(|identity| identity.info.clone()),
        };
        Arc::new(Publication {
            data,
            info: Some(Arc::new(info)),
            time: unix_millis(),
            trace: sampled.map(|sampled| Arc::new(sampled.context.to_string())),
            ..Publication::default()
        })
    }
}

async fn publish(
    hub: Arc<Hub>,
    channel: Channel,
    namespace: Arc<Namespace>,
    publication: Arc<Publication>,
) -> Result<Published, BrokerError> {
    let retention = namespace.retention();
    hub.broker.publish(Publishing { channel: &channel, publication, retention, idempotency: None }).await
}

fn unix_millis() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis()
        .try_into()
        .unwrap_or(u64::MAX)
}
