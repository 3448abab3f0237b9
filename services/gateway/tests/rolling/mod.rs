//! What a rolling restart needs besides nodes.

pub(crate) mod balancer;
pub(crate) mod crowd;
pub(crate) mod prometheus;
pub(crate) mod publisher;

use std::process::Child;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Channels that the clients are spread over.
pub(crate) const CHANNELS: usize = 30;

/// Raises the limit of open files as far as it may be; the processes that are started inherit it.
pub(crate) fn allow_many_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    assert!(maximum.is_none_or(|files| files >= 10_000), "open files are limited to {maximum:?}");
}

pub(crate) fn channel(number: usize) -> String {
    format!("c{}", number % CHANNELS)
}

/// A process that ends with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
