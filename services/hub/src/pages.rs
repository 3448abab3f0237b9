//! Pages: parts of what clients have missed, in memory until their sockets take them.
//!
//! A client that is behind is given its missed publications page by page, in order. A page that is dropped is read again
//! from the position that the client has reached, as the log has it then: nothing is lost, and a log that has lost it
//! gives a gap before anything newer.
//!
//! # Grants
//! A page is in memory only with a [`Grant`] of the node's [`PageBudget`], which covers what the page has: of each
//! publication the fixed part ([`cost`]), its bytes, and its bytes again, encoded. Whoever waits longest for one is served
//! first.
//! * A grant is taken when the channel is live and before the log is read, so that a read has room for what it brings. It
//!   shrinks to what the page has after the read. If the channel is not live any more when the grant comes, the grant of a
//!   further page is kept for [`PAGE_LIFE`] while the channel is waited for, and that of a first page is given back.
//! * A first page takes a grant that is free, or none: then the subscription is behind, without a page.
//! * Any other page waits for its grant, with nothing in hand. A session reads one at a time, and none while it holds one.
//! * A view that is kept for others to share has a grant of its own, of the half that nobody needs.
//!
//! # Lifetime
//! Nobody keeps a page for longer than [`PAGE_LIFE`] without sending it, whatever it waits for:
//! * A page that a blocked socket does not take is dropped (`session::catch_up`). The session gets small pages until it
//!   keeps up.
//! * A first page that waits for other channels of its session, or for the turn of its command, is dropped
//!   (`session::page_life`); at once if the socket is blocked.
//! * A page that was read and not fetched by its session is dropped by the task that read it (`session::page_read`).
//!
//! So clients that read slowly do not stop others from resuming. A log that answers slowly can delay them: a read holds its
//! grant while it waits for its turn and for the log, up to `client.command_timeout`, then gives it back and pauses.

use std::sync::Arc;
use std::time::Duration;

use fanway_broker::PageLimit;
use fanway_protocol::{Position, Publication};
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::entry::Entry;
use crate::held::PUBLICATION_BYTES;
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

/// Memory of a publication in a page besides its bytes: as it was published, as an entry (behind an `Arc` of its own), in
/// the lists of the page, and what its encoding adds.
const ENTRY_BYTES: usize = PUBLICATION_BYTES
    + size_of::<Entry>()
    + 2 * size_of::<usize>()
    + size_of::<(Position, Arc<Entry>)>()
    + ENVELOPE_BYTES;

/// Memory of so many publications with so many bytes: as they were published, and encoded.
fn cost(publications: usize, bytes: usize) -> usize {
    publications.saturating_mul(ENTRY_BYTES).saturating_add(bytes.saturating_mul(2))
}

/// Memory for pages on this node; another one is for answers to polls ([`crate::session::PollAnswer`]).
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

    /// Memory for a publication of so many bytes, as soon as there is some. `None` if the node is stopping.
    pub(crate) async fn grant(&self, bytes: usize) -> Option<Grant> {
        self.wait_for(cost(1, bytes)).await
    }

    /// So much memory, as soon as there is some. `None` if the node is stopping.
    pub(crate) fn wait_for(&self, cost: usize) -> impl Future<Output = Option<Grant>> + Send + use<> {
        let (free, permits, held) = (self.free.clone(), self.permits(cost), self.held.clone());
        async move {
            let permit = free.acquire_many_owned(permits).await.ok()?;
            held.add(i64::from(permits));
            Some(Grant { permit, held })
        }
    }

    /// The same if there is some now.
    pub(crate) fn try_grant(&self, bytes: usize) -> Option<Grant> {
        self.try_cost(cost(1, bytes))
    }

    /// Memory for so many publications with so many bytes, if that leaves half of the memory free: for what is useful, but
    /// nobody waits for.
    pub(crate) fn try_spare(&self, publications: usize, bytes: usize) -> Option<Grant> {
        let cost = cost(publications, bytes);
        let left = self.free.available_permits().saturating_sub(self.permits(cost) as usize);
        (left >= self.capacity as usize / 2).then(|| self.try_cost(cost)).flatten()
    }

    /// So much memory, if there is some now.
    pub(crate) fn try_cost(&self, cost: usize) -> Option<Grant> {
        let permit = self.free.clone().try_acquire_many_owned(self.permits(cost)).ok()?;
        self.held.add(permit.num_permits() as i64);
        Some(Grant { permit, held: self.held.clone() })
    }

    /// Whether a grant is one of so much memory.
    pub(crate) fn covers(&self, grant: &Grant, cost: usize) -> bool {
        self.permits(cost) as usize <= grant.permit.num_permits()
    }

    /// A page larger than the budget takes all of it.
    fn permits(&self, cost: usize) -> u32 {
        u32::try_from(cost).unwrap_or(u32::MAX).min(self.capacity)
    }

    /// Number of the first publications of these sizes that a grant covers.
    fn covered(&self, grant: &Grant, sizes: impl Iterator<Item = usize>) -> usize {
        let mut bytes = 0;
        let covers = |(count, size): &(usize, usize)| {
            bytes += size;
            self.covers(grant, cost(*count, bytes))
        };
        (1..).zip(sizes).take_while(covers).count()
    }

    /// Makes a grant one of so much memory. False if there is not enough.
    pub(crate) fn resize(&self, grant: &mut Grant, cost: usize) -> bool {
        let (has, needs) = (grant.permit.num_permits(), self.permits(cost) as usize);
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

/// A part of the node's memory for pages or answers, given back on drop.
#[derive(Debug)]
pub struct Grant {
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
    pub(crate) fn of(missed: Vec<(Position, Arc<Publication>)>, whole: bool, limit: PageLimit) -> Self {
        let fit = limit.fit(missed.iter().map(|(_, publication)| publication.size()));
        let mut page = Self { publications: missed, whole, grant: None };
        page.truncate(fit);
        page
    }

    /// Leaves all but the first publications for the next page.
    fn truncate(&mut self, fit: usize) {
        self.whole &= fit == self.publications.len();
        self.publications.truncate(fit);
        self.publications.shrink_to_fit();
    }

    fn sizes(&self) -> impl Iterator<Item = usize> {
        self.publications.iter().map(|(_, publication)| publication.size())
    }

    fn cost(&self) -> usize {
        cost(self.publications.len(), self.sizes().sum())
    }

    /// Holds as much of a grant as the publications need. Where memory is short, those that the grant does not cover are
    /// left for the next page; if it covers none, returns the bytes of the first.
    pub(crate) fn charge(&mut self, budget: &PageBudget, mut grant: Grant) -> Result<(), usize> {
        if !budget.resize(&mut grant, self.cost()) {
            let covered = budget.covered(&grant, self.sizes());
            if covered == 0 {
                return Err(self.sizes().next().unwrap_or_default());
            }
            self.truncate(covered);
            budget.resize(&mut grant, self.cost());
        }
        self.grant = Some(grant).filter(|_| !self.publications.is_empty());
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
        let capacity = cost(1, 1500) + cost(1, 400);
        let budget = PageBudget::new(held.clone(), capacity as u64);
        let first = budget.try_grant(1500).unwrap();
        assert_eq!(held.get(), cost(1, 1500) as i64);
        assert!(budget.try_grant(401).is_none());
        let mut second = Box::pin(budget.grant(401));
        assert!(second.as_mut().now_or_never().is_none());
        assert!(budget.try_grant(100).is_none(), "somebody waits");
        let mut page = Page::of(missed(&[1000]), true, page(1500));
        page.charge(&budget, first).unwrap();
        assert_eq!(held.get(), cost(1, 1000) as i64);
        let second = second.now_or_never().unwrap().unwrap();
        assert_eq!(held.get(), (cost(1, 1000) + cost(1, 401)) as i64);
        let mut large = Page::of(missed(&[1000]), true, super::page(401));
        assert_eq!(large.charge(&budget, second), Err(1000));
        drop(page);
        assert_eq!(held.get(), 0);
        // Larger than all there is.
        assert!(budget.try_grant(1_000_000).is_some());
        assert_eq!(held.get(), 0);
    }

    /// The bytes of a page of tiny publications are the least of what it holds.
    #[test]
    fn a_page_of_tiny_publications_is_charged_for_each_of_them() {
        let held = IntGauge::new("held", "h").unwrap();
        let one = cost(1, 1);
        let budget = PageBudget::new(held.clone(), 10 * one as u64);
        for (count, by_others, charged) in [(3, 0, 3), (10, 0, 10), (9, 1, 9), (9, 2, 2), (1, 8, 1)] {
            let others = budget.try_cost(by_others * one);
            let mut page = Page::of(missed(&vec![1; count]), true, page(PAGE_BYTES));
            page.charge(&budget, budget.try_cost(2 * one).unwrap()).unwrap();
            assert_eq!((page.publications.len(), page.whole), (charged, charged == count), "{count} {by_others}");
            assert_eq!(held.get(), ((charged + by_others) * one) as i64, "{count} {by_others}");
            drop((page, others));
        }
        assert_eq!(held.get(), 0);
    }
}
