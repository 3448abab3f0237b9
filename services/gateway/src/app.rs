//! A node: its parts assembled, run, and stopped.
//!
//! Start: settings, metrics, broker, hub, endpoints. Stop (SIGTERM or SIGINT): not ready, wait until the load balancers
//! have heard it, stop accepting, close the sessions evenly over the window, cut what is left. SIGUSR1 does the same, but
//! the process stays, drained, until it is told to stop: for those who want to know when that is (`fanway drain`).
//! The API, health and metrics are served to the end on a listener of their own. Back ends are told to go with each
//! answer from the beginning of the drain, so that none is left that would lose one; who asks at the very end is answered.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use fanway_broker::{AnyBroker, BrokerMetrics, MemoryBroker, RedisBroker, log_limited};
use fanway_hub::authorizer::Authorizer;
use fanway_hub::{Hub, HubMetrics, Inbox, Parts};
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::future::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, ApiAuthError, ApiMetrics, ApiState, NodeInfo};
use crate::auth::{ApiKeys, install_crypto};
use crate::cli::{Mode, dev_token, welcome};
use crate::config::{Engine, Settings, Validated};
use crate::health::{self, HealthState, Stage};
use crate::rebalance::{FleetMetrics, Rebalance};
use crate::server::{self, Clients, Ending, Endpoint, ServerMetrics, tls};
use crate::telemetry::{Telemetry, Traces};
use crate::transport::admission::Admission;
use crate::transport::{self, ClientState};
use crate::{console, open_files, telemetry};

/// Runs a node until it is told to stop. What other nodes publish is heard and put in order on the runtime `feed`.
pub async fn run(mut settings: Settings, mode: Mode, feed: Handle, telemetry: Telemetry) -> anyhow::Result<()> {
    install_crypto();
    settings.server.max_connections = open_files::allow(settings.server.max_connections);
    let mut signals = Signals::new()?;
    let node = Node::start(settings, mode, feed, telemetry).await?;
    tracing::info!(listen = %node.address, "serving");
    if mode == Mode::Dev {
        let program = std::env::args().next().unwrap_or_else(|| "fanway".to_owned());
        // A terminal that is gone is no reason to stop.
        let _ = write!(std::io::stdout(), "{}", welcome(&node.settings, node.address, &program));
    }
    let mut stops = u32::from(signals.next().await == Wish::Stop);
    {
        let mut drain = std::pin::pin!(node.drain());
        loop {
            tokio::select! {
                () = &mut drain => break,
                wish = signals.next() => stops += u32::from(wish == Wish::Stop),
            }
            if stops == 2 {
                tracing::warn!("second signal, stopping at once");
                break;
            }
        }
    }
    if stops == 0 {
        tokio::select! {
            () = node.stay() => {}
            () = signals.stop() => {}
        }
    }
    node.stop().await;
    Ok(())
}

/// Paths that, with all below them, are not for clients, by what is served on their listener: the server API, health,
/// metrics. Metrics are never there without health.
fn others(api: bool, health: bool, metrics: bool) -> &'static [&'static str] {
    const ALL: [&str; 3] = ["/api", "/health", "/metrics"];
    let from = usize::from(!api);
    let to = 1 + usize::from(health) + usize::from(metrics);
    &ALL[from..to]
}

/// How long the last answers of the listener apart may take: those to requests that it has when the drain ends.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// A running node.
struct Node {
    settings: Settings,
    /// Where clients connect to.
    address: SocketAddr,
    hub: Arc<Hub>,
    /// How far it is on its way out. Set first of all when the node stops: it is not ready any more.
    stage: watch::Sender<Stage>,
    /// Of the connections of clients, and of everything else on their listener.
    clients: Ending,
    /// Of the listener apart. It comes last: while the node drains, it is looked at more than ever.
    operations: Ending,
    /// Everything else.
    background: TaskTracker,
    stop_background: CancellationToken,
}

impl Node {
    async fn start(settings: Settings, mode: Mode, feed: Handle, telemetry: Telemetry) -> anyhow::Result<Self> {
        let Telemetry { node, registry, traces } = telemetry;
        let Validated { authenticator, origins, credentials, api_keys, namespaces } =
            settings.validate().map_err(|problems| anyhow::anyhow!("{problems}"))?;
        if authenticator.accepts_endless_tokens() && mode == Mode::Serve {
            tracing::warn!(
                "tokens without exp are accepted and never expire; set auth.max_token_lifetime to refuse them"
            );
        }
        let (clients, operations) = (Ending::default(), Ending::default());
        let (background, stop_background) = (TaskTracker::new(), CancellationToken::new());
        let stage = watch::Sender::new(Stage::Serving);
        let inbox = Inbox::new();
        let trace = traces.as_ref().map(Traces::hook);
        let broker = match broker(&settings, &inbox, &registry, &feed, &background, &stop_background)? {
            AnyBroker::Redis(redis) => AnyBroker::Redis(redis.traced(trace.clone())),
            memory => memory,
        };
        let broker = Arc::new(broker);
        let namespaces = Arc::new(namespaces);
        let parts = Parts {
            broker: broker.clone(),
            inbox,
            feed,
            namespaces: namespaces.clone(),
            limits: settings.client.clone(),
            quotas: settings.limits.clone(),
            authorizer: Authorizer::Token,
            allow_anonymous: settings.auth.allow_anonymous,
            max_age: settings.rebalance.max_age(),
            verify: Box::new(move |token, now| authenticator.verify(token, now)),
            metrics: HubMetrics::register(&registry)?,
            trace,
            version: telemetry::metrics::VERSION,
        };
        let hub = Hub::start(parts, background.clone(), stop_background.clone());
        let tls = settings.server.tls.as_ref().map(tls::load).transpose()?;

        let metrics = ServerMetrics::register(&registry)?;
        let max_head = settings.server.head_bytes();
        let admission = Arc::new(Admission { origins, credentials, secure: tls.is_some(), max_head });
        let cors = admission.cors();
        let client = ClientState {
            hub: hub.clone(),
            admission,
            rejections: metrics.connections_rejected_total.clone(),
            traces: traces.clone(),
        };
        let rebalance = Rebalance {
            broker: broker.clone(),
            hub: hub.clone(),
            settings: settings.rebalance.clone(),
            node: node.clone(),
            limit: settings.server.max_connections,
            sockets_open: metrics.sockets_open.with_label_values(&["public"]),
            stage: stage.subscribe(),
            metrics: FleetMetrics::register(&registry)?,
        };
        background.spawn(rebalance.run().with_cancellation_token_owned(stop_background.clone()));
        let health = HealthState {
            broker: broker.clone(),
            stage: stage.subscribe(),
            settings: settings.health.clone(),
            details: true,
        };
        let api = ApiState {
            broker,
            namespaces,
            authorize: authorize(api_keys),
            info: info(hub.clone(), node),
            metrics: ApiMetrics::register(&registry)?,
            traces,
            settings: Arc::new(settings.api.clone()),
        };
        let (api, publish) = api::routes(api);
        let mut internal = health::router(health.clone()).merge(scrape(registry));
        let mut public = transport::router(client);
        let (mut api_is_public, mut health_is_public) = (false, false);
        let public_metrics = settings.server.public_metrics;
        if public_metrics {
            (public, health_is_public) = (public.merge(internal.clone()), true);
        } else if settings.server.internal_listen.is_none() {
            (public, health_is_public) = (public.merge(health::router(HealthState { details: false, ..health })), true);
        }
        if settings.console.enabled {
            public = public.merge(console::router(&console_defaults(&settings, mode)));
        }
        let endpoint = |name, listener, router: Router, express| Endpoint {
            name,
            listener,
            router: router.fallback(api::not_found),
            express,
            cors: None,
            settings: Arc::new(settings.server.clone()),
            clients: None,
            tls: None,
            metrics: metrics.clone(),
            ending: operations.clone(),
        };
        // First: a node that says that it is ready, on the other listener, can be connected to.
        let listener = bind("server.listen", settings.server.listen, &settings)?;
        let address = listener.local_addr()?;
        let mut express = Some(publish);
        // These listeners speak plain HTTP: they are for the cluster's own network.
        match settings.server.api_listen {
            Some(apart) => {
                let listener = bind("server.api_listen", apart, &settings)?;
                background.spawn(server::serve(endpoint("api", listener, api, express.take())));
            }
            None if settings.server.internal_listen.is_some() => internal = internal.merge(api),
            None => (public, api_is_public) = (public.merge(api), true),
        }
        let mut metrics_at = Vec::from_iter(public_metrics.then_some(address));
        if let Some(apart) = settings.server.internal_listen {
            let listener = bind("server.internal_listen", apart, &settings)?;
            metrics_at.push(listener.local_addr()?);
            background.spawn(server::serve(endpoint("internal", listener, internal, express.take())));
        }
        say_where_metrics_are(&metrics_at);
        let others = others(api_is_public, health_is_public, public_metrics);
        background.spawn(server::serve(Endpoint {
            clients: Some(Clients { others }),
            cors: Some(cors),
            tls,
            ending: clients.clone(),
            ..endpoint("public", listener, public, express)
        }));
        Ok(Self { settings, address, hub, stage, clients, operations, background, stop_background })
    }

    /// Gives the connections of clients away, and cuts those of HTTP that are left.
    async fn drain(&self) {
        let drain = &self.settings.drain;
        tracing::info!(connections = self.hub.connections(), window = ?drain.window, "draining");
        self.stage.send_replace(Stage::Draining);
        for ending in [&self.clients, &self.operations] {
            ending.draining.store(true, Ordering::Relaxed);
        }
        tokio::time::sleep(drain.propagation_delay).await;
        self.clients.stop_accepting.cancel();
        self.hub.drain(drain.window).await;
        self.clients.tracker.close();
        if tokio::time::timeout(drain.close_timeout, self.clients.tracker.wait()).await.is_err() {
            tracing::warn!(connections = self.clients.tracker.len(), "connections cut at the end of the drain");
        }
        self.clients.close_now.cancel();
    }

    /// After the drain: waits until no connection of a client is left, says so, and stays. What was closed and is not cut
    /// are the transports' connections; they have deadlines of their own, and there is time until the process is to end.
    async fn stay(&self) {
        self.clients.tracker.wait().await;
        self.stage.send_replace(Stage::Drained);
        tracing::info!("drained");
        std::future::pending().await
    }

    /// Takes down what is left of the node.
    async fn stop(self) {
        self.clients.stop_accepting.cancel();
        self.clients.close_now.cancel();
        // What an API request needs, as the broker, is there until its answer is.
        self.operations.stop_accepting.cancel();
        self.operations.tracker.close();
        if tokio::time::timeout(LAST_ANSWERS, self.operations.tracker.wait()).await.is_err() {
            tracing::warn!(connections = self.operations.tracker.len(), "connections of the internal listener cut");
        }
        self.operations.close_now.cancel();
        self.stop_background.cancel();
        self.background.close();
        if tokio::time::timeout(Duration::from_secs(1), self.background.wait()).await.is_err() {
            tracing::warn!("some tasks did not end in time");
        }
        tracing::info!("stopped");
    }
}

/// The engine that the settings name.
fn broker(
    settings: &Settings,
    inbox: &Arc<Inbox>,
    registry: &Registry,
    feed: &Handle,
    tracker: &TaskTracker,
    cancel: &CancellationToken,
) -> anyhow::Result<AnyBroker> {
    let metrics = BrokerMetrics::register(registry)?;
    Ok(match settings.broker.engine {
        Engine::Memory => AnyBroker::Memory(MemoryBroker::new(inbox.clone())),
        Engine::Redis => {
            let (settings, cancel) = (settings.redis.clone(), cancel.clone());
            AnyBroker::Redis(RedisBroker::connect(settings, inbox.clone(), metrics, feed, tracker, cancel)?)
        }
    })
}

/// One line for those who set up a scraper, which otherwise would find out by 404.
fn say_where_metrics_are(listeners: &[SocketAddr]) {
    if listeners.is_empty() {
        let remedy = "set server.internal_listen, or server.public_metrics where only operators reach server.listen";
        tracing::warn!(remedy, "metrics served nowhere");
    } else {
        tracing::info!(?listeners, path = "/metrics", "metrics served");
    }
}

fn bind(setting: &str, address: SocketAddr, settings: &Settings) -> anyhow::Result<tokio::net::TcpListener> {
    let options = server::Settings { user_timeout: Some(settings.user_timeout()), ..settings.server.clone() };
    server::bind(address, &options)
        .with_context(|| format!("{setting}: cannot listen on {address}; choose another address or free this one"))
}

fn authorize(keys: ApiKeys) -> api::Authorize {
    Arc::new(move |parts, scope| match keys.verify(&parts.headers, &parts.uri, std::time::SystemTime::now) {
        Ok(key) if key.allows(scope) => Ok(()),
        Ok(_) => Err(ApiAuthError::Forbidden),
        Err(failure) => {
            log_limited!(DEBUG, reason = %failure, "API key refused");
            Err(ApiAuthError::Unauthorized)
        }
    })
}

fn info(hub: Arc<Hub>, uid: String) -> Arc<dyn Fn() -> NodeInfo + Send + Sync> {
    let started = Instant::now();
    let name = std::env::var("HOSTNAME").unwrap_or_else(|_| "fanway".to_owned());
    Arc::new(move || NodeInfo {
        uid: uid.clone(),
        name: name.clone(),
        version: telemetry::metrics::VERSION.to_owned(),
        num_clients: hub.connections() as u64,
        num_users: None,
        num_channels: hub.channels() as u64,
        num_subs: hub.subscriptions(),
        uptime: started.elapsed().as_secs(),
    })
}

/// What the console's fields hold at first: in development the secrets that make it work at once.
fn console_defaults(settings: &Settings, mode: Mode) -> console::Defaults {
    let token_parameter = settings.auth.query_parameter.clone();
    if mode != Mode::Dev {
        return console::Defaults { token_parameter, ..console::Defaults::default() };
    }
    let token = dev_token(settings);
    let api_key = settings.api.keys.first().and_then(|key| key.key.as_ref()).map(|key| key.expose().to_owned());
    console::Defaults { token, api_key, channels: vec!["news".to_owned()], token_parameter }
}

/// `/metrics`.
fn scrape(registry: Registry) -> Router {
    let handler = move || {
        let (content_type, text) = telemetry::metrics::encode(&registry);
        std::future::ready(([(http::header::CONTENT_TYPE, content_type)], text))
    };
    Router::new().route("/metrics", axum::routing::get(handler))
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// Drain, and stay.
    Drain,
    /// Drain, and end.
    Stop,
}

/// What makes a node drain and stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    drain: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            drain: signal(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.drain.recv() => Wish::Drain,
        }
    }

    async fn stop(&mut self) {
        while self.next().await != Wish::Stop {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_served_is_not_for_clients() {
        assert_eq!(others(true, true, true), ["/api", "/health", "/metrics"]);
        assert_eq!(others(true, true, false), ["/api", "/health"]);
        assert_eq!(others(false, true, true), ["/health", "/metrics"]);
        assert_eq!(others(false, true, false), ["/health"]);
        assert!(others(false, false, false).is_empty());
    }
}
