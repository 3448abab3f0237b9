//! The engine for one node: logs in memory.
//! (skeleton)
use std::sync::Arc;
use crate::Sink;
/// Logs in this process's memory.
pub struct MemoryBroker { _sink: Arc<dyn Sink> }
impl MemoryBroker {
    /// An empty broker that hands what is published to `sink`.
    pub fn new(sink: Arc<dyn Sink>) -> Self { Self { _sink: sink } }
}
