//! Pages: parts of what clients have missed, in memory until their sockets take them.
//!
//! A client that is behind is given its missed publications page by page. A page holds a grant of the node's budget while
//! it is in memory, and nobody keeps one for long: a page that a blocked socket does not take within
//! [`PAGE_LIFE`] is dropped and read again later, and a session that let that happen gets small pages until it keeps up.
//! So clients that read slowly do not stop others from resuming.

use std::sync::Arc;
use std::time::Duration;

use fanway_broker::PageLimit;
use fanway_protocol::{Position, Publication};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::turn::TURN_BYTES;

/// Bytes of a page. With what encodings add it is less than a connection gathers at once, so that a page leaves in one
/// write.
pub(crate) const PAGE_BYTES: usize = TURN_BYTES / 2;
/// Bytes of a page for a session that is slow: what its socket takes at once.
pub(crate) const SLOW_PAGE_BYTES: usize = 2 * 1024;
/// Most publications of a page.
const PAGE_ENTRIES: usize = 512;
/// What the shared encodings add to a publication: channel, position, time, framing.
const ENVELOPE_BYTES: usize = 160;
/// Time that a blocked socket has to take a page.
pub(crate) const PAGE_LIFE: Duration = Duration::from_secs(1);

/// A page of at most so many bytes.
pub(crate) const fn page(bytes: usize) -> PageLimit {
    PageLimit::new(PAGE_ENTRIES, bytes)
}

/// The same for a connection that writes so many bytes of its own with each publication.
pub(crate) fn page_with(bytes: usize, own_bytes: usize) -> PageLimit {
    let entries = (TURN_BYTES - PAGE_BYTES) / (ENVELOPE_BYTES + own_bytes);
    PageLimit::new(entries.clamp(1, PAGE_ENTRIES), bytes)
}

/// Memory of publications of so many bytes: as they were published, and encoded.
fn cost(bytes: usize) -> usize {
    2 * bytes
}

/// Memory for pages on this node.
#[derive(Debug)]
pub(crate) struct PageBudget {
    /// Bytes that are free, one permit each; whoever waits longest is served first.
    free: Arc<Semaphore>,
    capacity: u32,
    held: IntGauge,
}

impl PageBudget {
    pub(crate) fn new(held: IntGauge, bytes: u64) -> Self {
        let capacity = u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(capacity as usize)), capacity, held }
    }

    /// Memory for publications of so many bytes, as soon as there is some. `None` if the node is stopping.
    pub(crate) async fn grant(&self, bytes: usize) -> Option<Grant> {
        let permit = self.free.clone().acquire_many_owned(self.permits(bytes)).await.ok()?;
        Some(self.granted(permit))
    }

    /// The same if there is some now.
    pub(crate) fn try_grant(&self, bytes: usize) -> Option<Grant> {
        let permit = self.free.clone().try_acquire_many_owned(self.permits(bytes)).ok()?;
        Some(self.granted(permit))
    }

    /// The same if that leaves half of the memory free: for what is useful, but nobody waits for.
    pub(crate) fn try_spare(&self, bytes: usize) -> Option<Grant> {
        let left = self.free.available_permits().saturating_sub(self.permits(bytes) as usize);
        (left >= self.capacity as usize / 2).then(|| self.try_grant(bytes)).flatten()
    }

    /// A page larger than the budget takes all of it.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(cost(bytes)).unwrap_or(u32::MAX).min(self.capacity)
    }

    fn granted(&self, permit: OwnedSemaphorePermit) -> Grant {
        self.held.add(permit.num_permits() as i64);
        Grant { permit, held: self.held.clone() }
    }

    /// Makes a grant one for publications of so many bytes. False if there is not enough memory.
    fn resize(&self, grant: &mut Grant, bytes: usize) -> bool {
        let (has, needs) = (grant.permit.num_permits(), self.permits(bytes) as usize);
        if needs > has {
            let Ok(more) = self.free.clone().try_acquire_many_owned((needs - has) as u32) else { return false };
            grant.permit.merge(more);
        } else {
            drop(grant.permit.split(has - needs));
        }
        self.held.add(needs as i64 - has as i64);
        true
    }
}

/// A part of the node's memory for pages, given back on drop.
#[derive(Debug)]
pub(crate) struct Grant {
    permit: OwnedSemaphorePermit,
    held: IntGauge,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.held.sub(self.permit.num_permits() as i64);
    }
}

/// The oldest publications that a client has missed: all of them, or as many as fit.
#[derive(Debug)]
pub struct Page {
    /// Oldest first.
    pub(crate) publications: Vec<(Position, Arc<Publication>)>,
    /// They reach the place in the stream at which the client was attached. If not, it resumes again from the last of
    /// them before it gets anything of the stream.
    pub(crate) whole: bool,
    pub(crate) grant: Option<Grant>,
}

impl Page {
    /// As many of all missed publications as fit; `whole` if these are all.
    pub(crate) fn of(mut missed: Vec<(Position, Arc<Publication>)>, whole: bool, limit: PageLimit) -> Self {
        let fit = limit.fit(missed.iter().map(|(_, publication)| publication.size()));
        let whole = whole && fit == missed.len();
        missed.truncate(fit);
        missed.shrink_to_fit();
        Self { publications: missed, whole, grant: None }
    }

    fn bytes(&self) -> usize {
        self.publications.iter().map(|(_, publication)| publication.size()).sum()
    }

    /// Holds what is left of a grant after the publications. False if it is not enough.
    pub(crate) fn charge(&mut self, budget: &PageBudget, mut grant: Grant) -> Result<(), usize> {
        let bytes = self.bytes();
        if !budget.resize(&mut grant, bytes) {
            return Err(bytes);
        }
        self.grant = Some(grant).filter(|_| bytes > 0);
        Ok(())
    }

    /// Lets go of the publications, to be read again when they can be sent.
    pub(crate) fn forget(&mut self) {
        self.whole &= self.publications.is_empty();
        self.publications = Vec::new();
        self.grant = None;
    }
}

#[cfg(test)]
mod tests {
    use fanway_protocol::{Epoch, Payload};
    use futures_util::FutureExt;

    use super::*;

    fn missed(sizes: &[usize]) -> Vec<(Position, Arc<Publication>)> {
        let epoch = Epoch::parse("abcdefgh0123456789ab").unwrap();
        let publication =
            |size| Arc::new(Publication { data: Payload::Json(vec![b'1'; size].into()), ..Publication::default() });
        (1..).zip(sizes).map(|(offset, size)| (Position { epoch, offset }, publication(*size))).collect()
    }

    #[test]
    fn a_page_is_whole_only_if_all_fit() {
        let of = |limit, whole| {
            let page = Page::of(missed(&[100, 100, 100]), whole, limit);
            (page.publications.len(), page.whole)
        };
        assert_eq!(of(page(300), true), (3, true));
        assert_eq!(of(page(300), false), (3, false));
        assert_eq!(of(page(299), true), (2, false));
        assert_eq!(of(page(0), true), (1, false));
        assert_eq!(of(page(0).strict(), true), (0, false));
        let mut page = Page::of(Vec::new(), true, page(0));
        page.forget();
        assert!(page.whole, "nothing was missed");
        let mut page = Page::of(missed(&[1]), true, super::page(100));
        page.forget();
        assert!(!page.whole && page.publications.is_empty());
    }

    #[test]
    fn memory_is_granted_in_turn_and_given_back() {
        let held = IntGauge::new("held", "h").unwrap();
        let budget = PageBudget::new(held.clone(), 3900);
        let first = budget.try_grant(1500).unwrap();
        assert_eq!(held.get(), 3000);
        assert!(budget.try_grant(501).is_none());
        let mut second = Box::pin(budget.grant(501));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(budget.try_grant(100).is_none(), "somebody waits");
        let mut page = Page::of(missed(&[1000]), true, page(1500));
        page.charge(&budget, first).unwrap();
        assert_eq!(held.get(), 2000);
        let second = second.now_or_never().unwrap().unwrap();
        assert_eq!(held.get(), 3002);
        let mut large = Page::of(missed(&[1000]), true, super::page(501));
        assert_eq!(large.charge(&budget, second), Err(1000));
        drop(page);
        assert_eq!(held.get(), 0);
        // Larger than all there is.
        assert!(budget.try_grant(1_000_000).is_some());
        assert_eq!(held.get(), 0);
    }
}
