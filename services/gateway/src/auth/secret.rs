//! A text that must not show up in logs, and what editors and shells add to one unseen.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A secret of the settings. Neither `Debug` nor serialization shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the one place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

/// A secret without the one line break that editors, `echo` and `base64` leave at its end: wherever it comes from, it is
/// what was meant.
pub fn without_line_break(text: &str) -> &str {
    let line = text.strip_suffix('\n').unwrap_or(text);
    if line.len() < text.len() { line.strip_suffix('\r').unwrap_or(line) } else { line }
}

/// What nobody means to be part of a secret and nobody sees, if there is such in it. To guess what was meant would be
/// wrong for one side of those who share it.
pub fn unseen(text: &str) -> Option<&'static str> {
    if text.starts_with('\u{feff}') {
        Some("begins with a byte order mark (BOM); save it as UTF-8 without one")
    } else if text.ends_with(|last: char| last.is_whitespace() || last.is_control()) {
        Some("ends with a blank or more than one line break; remove them (printf %s writes none)")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_break_goes_and_no_more() {
        for (text, secret) in [
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            ("a \n", "a "),
            ("\na", "\na"),
            ("\n", ""),
            ("", ""),
        ] {
            assert_eq!(without_line_break(text), secret, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_found() {
        for bad in ["a ", "a\t", "a\n", "a\r", "a\u{a0}", "a\0"] {
            assert!(unseen(bad).is_some_and(|fault| fault.starts_with("ends with a blank")), "{bad:?}");
        }
        assert!(unseen("\u{feff}a").is_some_and(|fault| fault.contains("byte order mark")));
        for good in ["", "a", " a", "a b", "a\nb"] {
            assert_eq!(unseen(good), None, "{good:?}");
        }
    }
}
