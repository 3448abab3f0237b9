//! Time that pages have until somebody sends them, while they wait for another channel of the same session.
//!
//! Several channels are joined side by side, and what they missed is sent when all of them are joined, or when the turn of
//! a command comes. Pages of those that are done would keep their memory for as long as the slowest log takes.

use std::pin::Pin;
use std::task::Context;

use futures_util::FutureExt;
use tokio::time::Sleep;

use crate::metrics::HubMetrics;
use crate::pages::{PAGE_LIFE, Page};

/// Life of the pages that wait together. Costs nothing while none waits.
#[derive(Debug, Default)]
pub(super) struct PageLife(Option<Pin<Box<Sleep>>>);

impl PageLife {
    /// Drops pages that have waited for [`PAGE_LIFE`], counted from the first of them: they are read again when they can be
    /// sent. To be called with all pages, whenever what they wait for was polled and is not ready.
    pub(super) fn poll<'p>(
        &mut self,
        pages: impl Iterator<Item = &'p mut Page>,
        metrics: &HubMetrics,
        cx: &mut Context<'_>,
    ) {
        let mut held = pages.filter(|page| page.grant.is_some()).peekable();
        if held.peek().is_none() {
            self.0 = None;
            return;
        }
        let life = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAGE_LIFE)));
        if life.poll_unpin(cx).is_ready() {
            held.for_each(Page::forget);
            metrics.pages_dropped_total.inc();
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests;
