//! What is under load: started for the run or running already, Fanway or something to compare it with.
//!
//! A further product is a variant of [`Product`] and a branch of [`Subject::start`] that fills a [`Subject`] in; its wire
//! is a [`crate::transport::Transport`], its way to publish an [`Api`].

pub mod affinity;
mod certificate;
mod counter;
mod endpoint;
mod fanway;
mod floor;
mod gauge;
mod peer;
mod process;
mod redis;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::{Context, bail};

use crate::options::Common;
use crate::peers::Installed;
use crate::publisher::Api;
use crate::target::Target;
use crate::token::Tokens;
use crate::transport::Transport;
use certificate::Certificate;
use endpoint::Endpoint;
pub use fanway::Node;
use floor::Floor;
pub use gauge::{Gauge, Usage};
pub use process::Process;
pub use redis::{Pipeline, Redis, Replay};

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Product {
    /// The server that is started from [`Spec::binary`], or the one at `--url`.
    Fanway,
    /// The bare exchange.
    Floor,
    /// Another product.
    Peer(Installed),
    /// The endpoint that only parses what is published.
    Endpoint,
}

/// How nodes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Nodes that clients connect to, in turn.
    pub nodes: u8,
    /// A further node that nobody connects to and everything is published on.
    pub publisher: bool,
    /// Redis between them; always with more than one.
    pub redis: bool,
}

impl Layout {
    /// One node and nothing else.
    pub const ALONE: Self = Self { nodes: 1, publisher: false, redis: false };
    /// Clients on one node, publications on another: the delivering node's cost is its own.
    pub const APART: Self = Self { nodes: 1, publisher: true, redis: true };
}

/// What to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which.
    pub product: Product,
    /// How many and how joined. The floor is always one: it needs no Redis to hear of a publication.
    pub layout: Layout,
    /// Whether clients speak TLS.
    pub tls: bool,
    /// Threads that serve connections.
    pub worker_threads: Option<u8>,
    /// Further settings of Fanway: path and value.
    pub settings: Vec<(String, String)>,
    /// The `fanway` binary; `None` loads the running server at `--url`.
    pub binary: Option<PathBuf>,
    /// Runs the nodes under valgrind, which counts their instructions and slows them down fifty times.
    pub counted: bool,
}

impl Spec {
    /// What the options ask for, laid out as a scenario needs it.
    pub fn new(common: &Common, layout: Layout) -> Self {
        let nodes = layout.nodes.max(common.nodes);
        let redis = layout.redis || common.redis || nodes > 1 || layout.publisher;
        Self {
            product: Product::Fanway,
            layout: Layout { nodes, redis, ..layout },
            tls: common.tls,
            worker_threads: common.server_workers,
            settings: common.set.clone(),
            binary: common.spawn.clone(),
            counted: false,
        }
    }

    /// The endpoint that only parses, beside it.
    pub fn endpoint(&self) -> Self {
        Self { product: Product::Endpoint, layout: Layout::ALONE, tls: false, ..self.clone() }
    }

    /// The floor under it.
    pub fn floor(&self) -> Self {
        Self { product: Product::Floor, layout: Layout::ALONE, tls: false, ..self.clone() }
    }

    /// A peer of it: one node, with the Redis that it would have.
    pub fn peer(&self, installed: Installed) -> Self {
        let layout = Layout { redis: self.layout.redis, ..Layout::ALONE };
        Self { product: Product::Peer(installed), layout, tls: false, ..self.clone() }
    }
}

/// A server under load.
pub struct Subject {
    /// Where clients connect, in turn.
    pub doors: Vec<Target>,
    /// Where publications go.
    pub publish: Target,
    /// How they go there.
    pub api: Api,
    /// The clients' tokens.
    pub tokens: Tokens,
    /// How they receive.
    pub transport: Transport,
    /// What the nodes that clients are connected to use.
    pub gauge: Gauge,
    /// What the others use, by name.
    pub others: Vec<(&'static str, Gauge)>,
    /// The nodes of this run, those for clients first; empty unless it started them.
    pub nodes: Vec<Node>,
    /// The Redis of this run.
    pub redis: Option<Redis>,
    _floor: Option<Floor>,
    _peer: Option<peer::Running>,
    _endpoint: Option<Endpoint>,
    _certificate: Option<Certificate>,
}

impl Subject {
    /// Starts what is to be started.
    pub fn start(spec: &Spec, common: &Common, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let is_own = common.transport.is_own();
        match (&spec.product, &spec.binary) {
            (Product::Peer(installed), _) => Self::peer(spec, installed, common, interrupted),
            (Product::Floor, _) | (_, Some(_)) if !is_own => {
                bail!("{} is for servers that run already (--url), without --floor", common.transport)
            }
            (Product::Floor, _) => Self::floor(common),
            (Product::Endpoint, _) => Self::endpoint(spec, common),
            (Product::Fanway, Some(binary)) => Self::spawn(spec, binary, common, interrupted),
            (Product::Fanway, None) => Self::running(common),
        }
    }

    fn floor(common: &Common) -> anyhow::Result<Self> {
        let secret = random_secret();
        let floor = Floor::start(&secret, common.pin_server)?;
        Ok(Self {
            doors: vec![Target::local(floor.place.door, false)],
            publish: Target::local(floor.place.front, false),
            api: Api::Centrifugal { key: String::new() },
            tokens: Tokens::mint(&secret)?,
            transport: common.transport,
            gauge: Gauge::Thread(floor.id(), floor.place.thread),
            others: Vec::new(),
            nodes: Vec::new(),
            redis: None,
            _floor: Some(floor),
            _peer: None,
            _endpoint: None,
            _certificate: None,
        })
    }

    fn peer(spec: &Spec, installed: &Installed, common: &Common, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let redis = if spec.layout.redis { Some(Redis::start(common.pin_others, interrupted)?) } else { None };
        let address = redis.as_ref().map(|redis| redis.address);
        let running = peer::Running::start(installed, address, common.pin_server, interrupted)?;
        let (api, token) = peer::access(installed.peer)?;
        let target = Target::local(running.address, false);
        let redis_gauge = redis.as_ref().map(|redis| ("Redis", Gauge::Processes(vec![redis.process.id()])));
        Ok(Self {
            doors: vec![target.clone()],
            publish: target,
            api,
            tokens: Tokens::one(token),
            transport: installed.peer.transport(),
            gauge: Gauge::Processes(running.ids()),
            others: redis_gauge.into_iter().collect(),
            nodes: Vec::new(),
            redis,
            _floor: None,
            _peer: Some(running),
            _endpoint: None,
            _certificate: None,
        })
    }

    fn endpoint(spec: &Spec, common: &Common) -> anyhow::Result<Self> {
        let endpoint = Endpoint::start(spec.worker_threads, common.pin_server)?;
        let target = Target::local(endpoint.address, false);
        Ok(Self {
            doors: vec![target.clone()],
            publish: target,
            api: Api::Centrifugal { key: random_secret() },
            tokens: Tokens::one(String::new()),
            transport: common.transport,
            gauge: Gauge::Processes(vec![endpoint.id()]),
            others: Vec::new(),
            nodes: Vec::new(),
            redis: None,
            _floor: None,
            _peer: None,
            _endpoint: Some(endpoint),
            _certificate: None,
        })
    }

    fn spawn(spec: &Spec, binary: &Path, common: &Common, interrupted: &AtomicBool) -> anyhow::Result<Self> {
        let (secret, api_key) = (random_secret(), random_secret());
        let certificate = if spec.tls { Some(Certificate::make()?) } else { None };
        let redis = if spec.layout.redis { Some(Redis::start(common.pin_others, interrupted)?) } else { None };
        let count = spec.layout.nodes + u8::from(spec.layout.publisher);
        let mut settings_of_nodes = spec.settings.clone();
        if common.transport == Transport::Poll {
            // Its clients poll as fast as they are answered, which no page does.
            let unlimited = ["poll_rate", "connections"].map(|limit| (format!("limits.user.{limit}"), "0".to_owned()));
            settings_of_nodes.extend(unlimited);
        }
        let mut nodes = Vec::new();
        for number in 0..count {
            let delivers = number < spec.layout.nodes;
            let settings = fanway::Settings {
                binary,
                secret: &secret,
                api_key: &api_key,
                redis: redis.as_ref().map(|redis| redis.address),
                tls: certificate.as_ref().map(|made| (made.certificate.as_path(), made.key.as_path())),
                worker_threads: spec.worker_threads,
                more: &settings_of_nodes,
                core: if delivers { common.pin_server } else { common.pin_others },
                counted: spec.counted,
            };
            nodes.push(Node::start(&settings, interrupted)?);
        }
        let (delivering, publishing) = nodes.split_at(usize::from(spec.layout.nodes));
        let id = |node: &Node| node.process.id();
        let mut others = Vec::new();
        if let Some(node) = publishing.first() {
            others.push(("publishing node", Gauge::Processes(vec![id(node)])));
        }
        if let Some(redis) = &redis {
            others.push(("Redis", Gauge::Processes(vec![redis.process.id()])));
        }
        let publish = publishing.first().or(delivering.first()).context("no nodes")?.internal.clone();
        Ok(Self {
            doors: delivering.iter().map(|node| node.door.clone()).collect(),
            publish,
            api: Api::Centrifugal { key: api_key },
            tokens: Tokens::mint(&secret)?,
            transport: common.transport,
            gauge: Gauge::Processes(delivering.iter().map(id).collect()),
            others,
            nodes,
            redis,
            _floor: None,
            _peer: None,
            _endpoint: None,
            _certificate: certificate,
        })
    }

    fn running(common: &Common) -> anyhow::Result<Self> {
        if common.tls || common.redis || common.nodes > 1 || !common.set.is_empty() || common.server_workers.is_some() {
            bail!("--tls, --redis, --nodes, --set and --server-workers are for servers that --spawn starts");
        }
        let target = Target::parse(&common.url, common.allow_remote)?;
        let tokens = match (&common.token, &common.secret) {
            (Some(token), _) => Tokens::one(token.clone()),
            (None, Some(secret)) => Tokens::mint(secret)?,
            (None, None) => Tokens::one(String::new()),
        };
        let publish = match &common.api_url {
            Some(url) => Target::parse(url, common.allow_remote)?,
            None => target.clone(),
        };
        Ok(Self {
            gauge: Gauge::new(common.server_pid, &publish),
            doors: vec![target],
            publish,
            api: Api::of(common.transport, &common.api_key)?,
            tokens,
            transport: common.transport,
            others: Vec::new(),
            nodes: Vec::new(),
            redis: None,
            _floor: None,
            _peer: None,
            _endpoint: None,
            _certificate: None,
        })
    }
}

fn random_secret() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}
