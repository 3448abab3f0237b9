//! Guards of what an idle connection costs: a session is as small as it was when this was measured, and grows only by
//! intent.

use super::centrifugal::ClientSession;
use super::core::Core;
use super::events::EventSession;
use crate::handle::{ByTask, Handle};
use crate::identity::Identity;

#[test]
fn sessions_are_small() {
    let sizes = [
        size_of::<Core>(),
        size_of::<ClientSession>(),
        size_of::<EventSession>(),
        size_of::<Handle<ByTask>>(),
        size_of::<Identity>(),
    ];
    let limits = [288, 408, 432, 40, 112];
    assert!(sizes.iter().zip(limits).all(|(size, limit)| *size <= limit), "{sizes:?} above {limits:?}");
}
