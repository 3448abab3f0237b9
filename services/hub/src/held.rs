//! Account of the publications that the channels of a node hold while their logs are read.
//!
//! Each channel has a bound of its own ([`crate::sequencer::HoldLimit`]), but after an outage a node reads the logs of all
//! its channels. Beyond the bound of the node a publication is dropped like one beyond the bound of its channel: the log is
//! read once more.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use fanway_protocol::Publication;
use prometheus::IntGauge;

use crate::sequencer::Incoming;

/// Bytes of publications that all channels hold, give or take what is added at the same time.
pub(crate) const NODE_BYTES: usize = 32 * 1024 * 1024;

/// Memory of a publication besides its bytes, while anything refers to it: its fields and the counters of its `Arc`.
pub(crate) const PUBLICATION_BYTES: usize = size_of::<Publication>() + 2 * size_of::<usize>();

/// Memory of a publication in the list of a channel that holds it. Without the fixed part, publications without bytes
/// would be held for free.
pub(crate) fn cost(publication: &Publication) -> usize {
    PUBLICATION_BYTES + size_of::<Incoming<Arc<Publication>>>() + publication.size()
}

/// Bytes of publications that the channels of a node hold.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    bytes: AtomicUsize,
    /// Publications that are not put in order yet, those in the inbox included.
    shown: IntGauge,
}

impl HeldBytes {
    pub(crate) fn new(shown: IntGauge) -> Self {
        Self { bytes: AtomicUsize::new(0), shown }
    }

    /// Whether the node has room for so many bytes more.
    pub(crate) fn fit(&self, bytes: usize) -> bool {
        self.bytes.load(Relaxed).saturating_add(bytes) <= NODE_BYTES
    }

    /// A channel holds so many bytes after it held so many before.
    pub(crate) fn changed(&self, before: usize, after: usize) {
        if before == after {
            return;
        }
        self.bytes.fetch_add(after.wrapping_sub(before), Relaxed);
        self.shown.add(after as i64 - before as i64);
    }
}
