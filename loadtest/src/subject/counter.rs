//! Instruction counter of a process: valgrind's callgrind around it.
//!
//! The count hardly depends on the machine's load and speed. It covers the program and its libraries, not the kernel.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use tempfile::NamedTempFile;

/// Settings of the server's allocator, jemalloc: its cache is never collected. It is collected every 10 ms otherwise, which
/// made half of the difference between two counts of one build.
const ALLOCATOR: (&str, &str) = ("_RJEM_MALLOC_CONF", "tcache_gc_incr_bytes:1073741824");

/// The file that valgrind writes its summary to when the process ends.
pub(super) struct Counter(NamedTempFile);

impl Counter {
    pub(super) fn new() -> anyhow::Result<Self> {
        NamedTempFile::new().map(Self).context("cannot create a file for the count of instructions")
    }

    /// A command that runs the program under the counter; its arguments are still to be added.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).env(ALLOCATOR.0, ALLOCATOR.1);
        command.arg(format!("--log-file={}", self.0.path().display())).arg(program);
        command
    }

    /// The count of a process that has ended.
    pub(super) fn read(&self) -> anyhow::Result<f64> {
        let text = std::fs::read_to_string(self.0.path())?;
        count(&text).with_context(|| format!("valgrind reports no count:\n{text}"))
    }
}

fn count(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_the_one_of_callgrind() {
        let text = "==7== Events    : Ir\n==7== Collected : 123456\n==7== \n==7== I   refs:      123,456\n";
        assert_eq!(count(text), Some(123_456.0));
        assert_eq!(count("==7== Process terminating"), None);
    }
}
