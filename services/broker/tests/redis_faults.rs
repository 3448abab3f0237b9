//! What the Redis engine does when Redis, or the way to it, is not well. Real servers, a real proxy.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "redis_faults/access.rs"]
mod access;
#[path = "redis_faults/cut.rs"]
mod cut;
#[path = "redis_faults/damage.rs"]
mod damage;
#[path = "redis_faults/life.rs"]
mod life;
#[path = "redis_faults/outage.rs"]
mod outage;
#[path = "redis_faults/refusals.rs"]
mod refusals;
#[path = "redis_faults/reign.rs"]
mod reign;
#[path = "redis_faults/rights.rs"]
mod rights;
#[path = "redis_faults/servers.rs"]
mod servers;
mod support;
