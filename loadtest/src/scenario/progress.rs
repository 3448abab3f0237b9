//! What a run says while it runs: bars on a terminal, nothing but a line now and then elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::grouped;

/// How often a line is written where there is no terminal.
const LINES: Duration = Duration::from_secs(5);

/// Where progress is told.
pub(super) struct Progress {
    quiet: bool,
    terminal: bool,
}

impl Progress {
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, terminal: stderr().is_terminal() }
    }

    /// A line.
    pub(super) fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Something that grows up to a length.
    pub(super) fn bar(&self, name: &'static str, length: u64) -> Bar {
        let bar = (!self.quiet && self.terminal).then(|| {
            let style = ProgressStyle::with_template("  {msg:12} {wide_bar} {human_pos}/{human_len} {eta}");
            let bar = ProgressBar::new(length).with_message(name);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Bar { bar, name, length, quiet: self.quiet, told: Instant::now() }
    }
}

/// A bar; gone when dropped.
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    name: &'static str,
    length: u64,
    quiet: bool,
    told: Instant,
}

impl Bar {
    pub(super) fn set(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        }
    }

    /// The same, with a line now and then where there is no terminal.
    pub(super) fn tell(&mut self, position: u64) {
        self.set(position);
        if self.bar.is_none() && !self.quiet && self.told.elapsed() > LINES {
            self.told = Instant::now();
            eprintln!("  {}: {} of {}", self.name, grouped(position), grouped(self.length));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
