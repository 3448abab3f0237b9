//! Options of `compare`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{Common, Delivery};
use crate::peers::Peer;

/// Options of `compare`. The floor is always measured; `--slices` has all contestants open at once.
#[derive(Debug, Args)]
pub struct Compare {
    /// Those of every scenario.
    #[command(flatten)]
    pub common: Common,
    /// The peers, separated by commas; without it all that are quickly had
    #[arg(long, value_enum, value_delimiter = ',', conflicts_with = "all")]
    pub peers: Option<Vec<Peer>>,
    /// All peers, those that have to be built included
    #[arg(long)]
    pub all: bool,
    /// What is measured, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Comparable::Fanout, Comparable::Burst])]
    pub scenario: Vec<Comparable>,
    /// How many publications one at a time (fanout)
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub publications: u64,
    /// How many bursts (burst)
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub bursts: u64,
    /// Publications at once in each burst
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub in_flight: u32,
    /// What is common to those that deliver.
    #[command(flatten)]
    pub delivery: Delivery,
    /// Where peers are kept from one run to the next
    #[arg(long, value_name = "FOLDER", default_value = "target/peers")]
    pub peers_dir: PathBuf,
    /// Also write the table as Markdown, and the plot beside it as SVG
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
}

impl Compare {
    /// The peers that are wanted, each once.
    pub fn wanted(&self) -> Vec<Peer> {
        let mut wanted = match (&self.peers, self.all) {
            (Some(peers), _) => peers.clone(),
            (None, true) => Peer::ALL.to_vec(),
            (None, false) => Peer::QUICK.to_vec(),
        };
        let mut seen = Vec::new();
        wanted.retain(|peer| {
            !seen.contains(peer) && {
                seen.push(*peer);
                true
            }
        });
        wanted
    }
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Comparable {
    /// One publication at a time to all.
    Fanout,
    /// Several at once.
    Burst,
}
