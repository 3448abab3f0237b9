//! What a run found: a table for people, JSON for programs.

mod bars;
pub mod builds;
pub mod comparison;
mod figure;
pub mod html;
mod interval;
mod latencies;
mod plot;

use std::fmt;

pub use figure::{Figure, Spread, Unit};
pub use latencies::{Latencies, Summary};

/// A table of two columns under a title.
#[derive(Clone, Debug)]
pub struct Table {
    title: String,
    rows: Vec<(String, String)>,
}

impl Table {
    /// An empty one.
    pub fn new(title: String) -> Self {
        Self { title, rows: Vec::new() }
    }

    /// Title and rows.
    pub fn parts(&self) -> (&str, &[(String, String)]) {
        (&self.title, &self.rows)
    }

    /// Adds a row.
    pub fn row(&mut self, name: &str, value: impl fmt::Display) {
        self.rows.push((name.to_owned(), value.to_string()));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        writeln!(f, "\n{}\n", self.title)?;
        for (name, value) in &self.rows {
            writeln!(f, "  {name:width$}   {value}")?;
        }
        Ok(())
    }
}

/// A number with its thousands parted.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that suits them.
pub fn bytes(bytes: f64) -> String {
    match bytes.abs() {
        0.0..1024.0 => format!("{bytes:.0} B"),
        1024.0..1_048_576.0 => format!("{:.2} KiB", bytes / 1024.0),
        _ => format!("{:.1} MiB", bytes / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!([0, 12, 999, 1_000, 1_234_567].map(grouped), ["0", "12", "999", "1,000", "1,234,567"]);
        assert_eq!([512.0, 2048.0, -2048.0, 3e6].map(bytes), ["512 B", "2.00 KiB", "-2.00 KiB", "2.9 MiB"]);
        let mut table = Table::new("title".into());
        table.row("a", 1);
        table.row("long", "x");
        assert_eq!(table.to_string(), "\ntitle\n\n  a      1\n  long   x\n");
    }
}
