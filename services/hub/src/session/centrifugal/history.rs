//! History: a page of a channel's log.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fanway_broker::{Broker, BrokerError, HISTORY_BYTES, History as Page, HistoryQuery, PageLimit};
use fanway_protocol::command::{HistoryRequest, StreamPosition};
use fanway_protocol::reply::{HistoryResult, Outcome, Reply};
use fanway_protocol::{Channel, Epoch, ErrorCode, Position, Right};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::ClientSession;
use super::authorization::RightCheck;
use super::command::CommandError;
use super::queue::Turned;
use crate::namespace::Namespace;

/// A waiting read of history.
pub(super) struct History {
    channel: Channel,
    namespace: Arc<Namespace>,
    /// The query, or the error of its position, which comes after the right.
    query: Result<HistoryQuery, ErrorCode>,
    right: RightCheck,
    /// The broker's call, once its turn has come.
    call: Option<BoxFuture<'static, Result<Page, BrokerError>>>,
}

impl History {
    pub(super) fn new(session: &ClientSession, request: &HistoryRequest<'_>) -> Result<Self, CommandError> {
        let channel = Channel::new(&request.channel)?;
        let namespace = session.namespace(&channel)?;
        let most = session.core.hub.limits.history_limit;
        let limit = usize::try_from(request.limit).map_or(most, |limit| limit.min(most));
        let since = request.since.as_ref().map_or(Ok(None), position);
        let limit = PageLimit::new(limit, HISTORY_BYTES);
        let query = since.map(|since| HistoryQuery { since, limit, reverse: request.reverse });
        Ok(Self { channel, namespace, query, right: RightCheck::Open, call: None })
    }

    pub(super) fn run(&mut self, id: u32, session: &mut ClientSession, cx: &mut Context<'_>) -> Turned {
        let Self { channel, namespace, query, right, call } = self;
        if call.is_none() {
            ready!(right.poll(session, cx, Right::History, channel, namespace))?;
            if !namespace.retention().keeps_log() {
                return Poll::Ready(Err(ErrorCode::NotAvailable.into()));
            }
        }
        let query = (*query)?;
        if call.is_none() {
            // A log that does not exist is begun, so that its position can be told.
            session.core.hub.open(channel, session.payer()).map_err(|_| ErrorCode::TooManyRequests)?;
        }
        let call = call.get_or_insert_with(|| {
            let (hub, channel, retention) = (session.core.hub.clone(), channel.clone(), namespace.retention());
            async move { hub.broker.history(&channel, query, retention).await }.boxed()
        });
        let Page { publications, top, since_valid } = ready!(call.poll_unpin(cx))?;
        if !since_valid {
            return Poll::Ready(Err(ErrorCode::UnrecoverablePosition.into()));
        }
        session.reply(&Reply::ok(id, Outcome::History(HistoryResult { publications, top })));
        Poll::Ready(Ok(()))
    }
}

/// `{offset: 0}` without an epoch is how SDKs say "from the start"; any other text that is no epoch lies on no timeline.
fn position(position: &StreamPosition<'_>) -> Result<Option<Position>, ErrorCode> {
    if position.epoch.is_empty() && position.offset == 0 {
        return Ok(None);
    }
    let epoch = Epoch::parse(&position.epoch).ok_or(ErrorCode::UnrecoverablePosition)?;
    Ok(Some(Position { epoch, offset: position.offset }))
}
