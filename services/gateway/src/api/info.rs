//! `POST /api/info`: what this node is and how busy.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{Call, parse, read_optional};
use super::error::ApiError;
use super::method::ApiMethod;
use super::openapi::Failures;
use super::{Api, ApiState};

/// No members.
#[derive(Deserialize, ToSchema)]
pub(super) struct InfoRequest {}

/// What info answers.
#[derive(Serialize, ToSchema)]
pub(super) struct InfoAnswer {
    result: InfoResult,
}

/// The nodes.
#[derive(Serialize, ToSchema)]
pub(super) struct InfoResult {
    /// The node that answers.
    nodes: Vec<NodeInfo>,
}

/// One node's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeInfo {
    /// Different for every start of every node.
    pub uid: String,
    /// The node's name from the settings.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// Open client sessions.
    pub num_clients: u64,
    /// Distinct users among them; absent where nobody counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_users: Option<u64>,
    /// Channels with at least one subscriber.
    pub num_channels: u64,
    /// Subscriptions of all sessions.
    pub num_subs: u64,
    /// Seconds since the node started.
    pub uptime: u64,
}

/// Tells the figures of the node that answers.
#[utoipa::path(
    post,
    path = "/api/info",
    operation_id = "info",
    tag = "server",
    request_body(content = InfoRequest, description = "`{}` or nothing."),
    responses((status = 200, description = "The figures.", body = InfoAnswer), Failures),
    security(("api_key" = []), ("authorization" = [])),
)]
pub(super) async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let call = Call::begin(&api.state, &api.info, &request);
    call.end(answer(&api.state, request).await)
}

async fn answer(state: &ApiState, request: Request) -> Result<InfoResult, ApiError> {
    let body = read_optional(state, request, ApiMethod::Info).await?;
    call(state, &body)
}

/// The figures; the parameters are an object or nothing.
pub(super) fn call(state: &ApiState, params: &[u8]) -> Result<InfoResult, ApiError> {
    if !params.is_empty() {
        let InfoRequest {} = parse(params)?;
    }
    Ok(InfoResult { nodes: vec![(state.info)()] })
}
