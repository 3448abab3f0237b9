//! Options of `compare-builds`.

use std::path::PathBuf;

use clap::Args;

use super::setting;
use crate::rows::{self, Row};

/// Options of `compare-builds`.
#[derive(Debug, Args)]
pub struct CompareBuilds {
    /// The `fanway` binary to compare with
    pub before: PathBuf,
    /// The `fanway` binary to judge
    pub after: PathBuf,
    /// Rows to measure, separated by commas; the guards of every change by default
    #[arg(long, value_delimiter = ',', value_parser = row)]
    pub rows: Vec<&'static Row>,
    /// Pairs of each row; 15 by default, 3 where instructions are counted. Six are the fewest with a 95 % interval
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub pairs: Option<u32>,
    /// A setting of both builds; may be repeated
    #[arg(long, value_name = "PATH=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// A setting of BEFORE alone, such as one that AFTER knows by another name; may be repeated
    #[arg(long, value_name = "PATH=VALUE", value_parser = setting)]
    pub set_before: Vec<(String, String)>,
    /// A setting of AFTER alone; may be repeated
    #[arg(long, value_name = "PATH=VALUE", value_parser = setting)]
    pub set_after: Vec<(String, String)>,
    /// Also write the result as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Do not report progress
    #[arg(long, short)]
    pub quiet: bool,
    /// Options of the rows' scenarios that override those of the rows, such as `-- --connections 50`
    #[arg(last = true, value_name = "OPTION")]
    pub overrides: Vec<String>,
}

impl CompareBuilds {
    /// The rows to measure, in the order of the command line.
    pub fn rows(&self) -> Vec<&'static Row> {
        if self.rows.is_empty() { rows::ROWS.iter().filter(|row| row.guard).collect() } else { self.rows.clone() }
    }
}

fn row(name: &str) -> Result<&'static Row, String> {
    rows::find(name).ok_or_else(|| {
        let names: Vec<&str> = rows::ROWS.iter().map(|row| row.name).collect();
        format!("no such row; the rows are {}", names.join(", "))
    })
}
