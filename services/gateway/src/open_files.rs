//! The limit of open files, of which every connection needs one.
//!
//! A node that has none left can accept nobody, not even who asks after its health, and would be restarted with all its
//! clients for it. So the limit is raised as far as the process may, and clients are let in only as far as it reaches.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for everything but clients: back ends, health checks, Prometheus, Redis, the collector, the process's own.
const RESERVED: usize = 200;

/// How many connections of clients there can be, where so many are wanted.
pub(crate) fn allow(wanted: usize) -> usize {
    let files = raise();
    let possible = files.saturating_sub(RESERVED).max(1);
    if possible < wanted {
        tracing::warn!(
            limit = files,
            connections = possible,
            "open files are limited: not as many clients as server.max_connections says. Raise the hard limit (ulimit -Hn)"
        );
    }
    wanted.min(possible)
}

/// Raises the limit to the most that the process may have, as nothing here counts on a lower one, and returns it.
fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = if raised.is_ok() { maximum } else { current };
    files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_leave_files_for_others() {
        assert_eq!(allow(1), 1);
        let most = allow(usize::MAX);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum, "raised");
        assert!(current.is_none_or(|files| most as u64 == files - RESERVED as u64));
    }
}
