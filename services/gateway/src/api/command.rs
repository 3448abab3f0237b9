//! `POST /api`: methods called by name, one or several in a request.
//!
//! The body is a command, `{"method": "publish", "params": {...}}`, or several with line breaks between them, as gocent v3
//! sends them. One command is answered exactly as at the path of its method. The replies of several come in the order of
//! the commands, one to a line and each with its own `result` or `error`; the status is 200, because libraries read no
//! replies from any other, unless the broker failed every command.
//!
//! Commands run one after the other: the order of publications to a channel is that of the commands. All are read before
//! the first runs, so a malformed request does nothing.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use fanway_broker::trace::Begun;
use http::request::Parts;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Api;
use super::body::{Call, Manner, parse, read_authorised, values};
use super::broadcast::{DEADLINE, common_failure};
use super::content::Marks;
use super::error::{ApiAuthError, ApiError, BrokerFailure};
use super::method::{ApiMethod, Context};
use super::metrics::{OK, Observed};
use super::openapi::Failures;
use crate::auth::Scope;
use crate::telemetry::Traces;
use crate::telemetry::traces::ended;

/// The most commands of one request.
const MAX_COMMANDS: usize = 1000;

/// Once the replies of a request are larger than this, no further command is begun. A single reply may exceed it.
const MAX_REPLIES: usize = 4 * 1024 * 1024;

/// A method and its parameters.
#[derive(Deserialize, ToSchema)]
pub(super) struct Command<'a> {
    /// `publish`, `broadcast`, `history` or `info`.
    #[serde(borrow)]
    #[schema(value_type = String)]
    method: Cow<'a, str>,
    /// The body of a request to the method's own path.
    #[serde(borrow)]
    #[schema(value_type = Option<serde_json::Value>)]
    params: Option<&'a RawValue>,
}

/// Calls methods by name.
///
/// One command is answered as at the path of its method. Several, with line breaks between them, are answered by one reply
/// to a line in the same order, each with its own `result` or `error`.
#[utoipa::path(
    post,
    path = "/api",
    operation_id = "command",
    tag = "server",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "For a single command: the same as `idempotency_key` among its parameters."),
        ("X-Centrifugo-Error-Mode" = Option<String>, Header, description = "`transport`: application errors of a single command as HTTP statuses."),
    ),
    request_body = Command<'_>,
    responses((status = 200, description = "The reply of the method, or one to a line.", body = serde_json::Value), Failures),
    security(("api_key" = []), ("authorization" = [])),
)]
pub(super) async fn handle(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let manner = Manner::of(&api.state, &head.headers, head.version);
    let call = Call::answered(manner, &api.command);
    let mut sampled = None;
    let response = match admit(&api, &head, body, &mut sampled).await {
        Err(error) => call.end_written(Err(error)),
        Ok((caller, body)) => match read(&body, &caller) {
            Err(error) => call.end_written(Err(error)),
            Ok(commands) => {
                call.hand_over();
                manner.respond(run_all(&api, &caller, &commands).await)
            }
        },
    };
    ended(sampled, response.status());
    response
}

/// Who calls, and what holds for all of their commands.
struct Caller {
    /// What the API key allows, scope by scope: which are needed is known when the body is read.
    rights: [(Scope, Result<(), ApiAuthError>); ApiMethod::SCOPES.len()],
    context: Context,
}

impl Caller {
    fn check(&self, scope: Scope) -> Result<(), ApiError> {
        let right = self.rights.iter().find_map(|(known, right)| (*known == scope).then_some(*right));
        Ok(right.unwrap_or(Err(ApiAuthError::Forbidden))?)
    }
}

/// Lets in who may call at least one method, and reads the body.
async fn admit(api: &Api, head: &Parts, body: Body, sampled: &mut Option<Begun>) -> Result<(Caller, Bytes), ApiError> {
    let state = &api.state;
    let rights = ApiMethod::SCOPES.map(|scope| (scope, (state.authorize)(head, scope)));
    if let Some((_, Err(refused))) = rights.first().filter(|_| rights.iter().all(|(_, right)| right.is_err())) {
        return Err((*refused).into());
    }
    let limit = ApiMethod::Publish.limit(&state.settings).max(ApiMethod::Broadcast.limit(&state.settings));
    let body = read_authorised(state, head, body, limit)?;
    let Marks { key, trace } = Marks::of(&head.headers);
    let key = key?;
    let trace = {
        let (trace, span) = Traces::request(state.traces.as_ref(), "POST /api", trace);
        *sampled = span;
        trace
    };
    Ok((Caller { rights, context: Context { key, trace } }, body.await?))
}

/// All commands of a body.
fn read<'a>(body: &'a [u8], caller: &Caller) -> Result<Vec<Command<'a>>, ApiError> {
    let texts = values(body, MAX_COMMANDS + 1)?;
    if texts.len() > MAX_COMMANDS {
        return Err(ApiError::TooManyCommands { limit: MAX_COMMANDS });
    }
    if texts.is_empty() {
        return Err(ApiError::BadJson("the body has no command".to_owned()));
    }
    if texts.len() > 1 && caller.context.key.is_some() {
        let rule = "Idempotency-Key is for a single command; give each of several its own idempotency_key";
        return Err(ApiError::InvalidIdempotencyKey(rule));
    }
    texts.into_iter().map(|text| parse(text.as_bytes())).collect()
}

/// Runs the commands, and joins the replies if there are several.
async fn run_all(api: &Api, caller: &Caller, commands: &[Command<'_>]) -> Result<Vec<u8>, ApiError> {
    if let [command] = commands {
        return run(api, caller, command).await;
    }
    let deadline = Instant::now() + DEADLINE;
    let mut results = Vec::with_capacity(commands.len());
    let mut bytes = 0;
    for command in commands {
        let result = if bytes > MAX_REPLIES {
            Err(ApiError::RepliesTooLarge { limit: MAX_REPLIES })
        } else if Instant::now() >= deadline {
            Err(ApiError::Broker(BrokerFailure::Unavailable))
        } else {
            run(api, caller, command).await
        };
        bytes += result.as_ref().map_or(0, Vec::len);
        results.push(result);
    }
    if let Some(failure) = common_failure(&results) {
        return Err(ApiError::Broker(failure));
    }
    let reply = |result: Result<Vec<u8>, ApiError>| result.unwrap_or_else(|error| error.body().text());
    let replies: Vec<_> = results.into_iter().map(reply).collect();
    Ok(replies.join(&b'\n'))
}

/// Runs one command, and counts it for its method.
async fn run(api: &Api, caller: &Caller, command: &Command<'_>) -> Result<Vec<u8>, ApiError> {
    let method = ApiMethod::of(&command.method);
    let observed = Observed::begin(method.map_or(&api.command, |method| api.meter(method)));
    let outcome = async {
        let method = method.ok_or(ApiError::UnknownMethod)?;
        caller.check(method.scope())?;
        let params = command.params.map_or("{}", RawValue::get).as_bytes();
        let limit = method.limit(&api.state.settings);
        if params.len() as u64 > limit {
            return Err(ApiError::TooLarge { limit });
        }
        api.call(method, params, caller.context.clone()).await
    }
    .await;
    observed.end(outcome.as_ref().map_or_else(ApiError::reason, |_| OK));
    outcome
}
