//! Drain: a stopping node closes its sessions gradually.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;

use super::Hub;
use crate::close_reason::CloseReason;

impl Hub {
    /// Whether the node is on its way out.
    pub fn is_draining(&self) -> bool {
        self.registry.is_draining()
    }

    /// Closes every session, evenly over the window in random order. Sessions that begin meanwhile close by themselves.
    pub async fn drain(&self, window: Duration) {
        self.metrics.draining.set(1);
        let mut slots = self.registry.begin_drain();
        slots.shuffle(&mut rand::rng());
        let began = Instant::now();
        let count = slots.len();
        for (closed, slot) in slots.into_iter().enumerate() {
            let due = window.mul_f64(closed as f64 / count.max(1) as f64);
            if let Some(wait) = due.checked_sub(began.elapsed()).filter(|wait| *wait >= Duration::from_millis(10)) {
                tokio::time::sleep(wait).await;
            }
            self.registry.close(slot, CloseReason::Shutdown);
        }
    }
}
