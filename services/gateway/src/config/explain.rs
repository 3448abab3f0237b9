//! Errors of reading settings, in words that hold no value and no line of a source: those may be secrets.

use std::error::Error;
use std::fmt;

use config::ConfigError;

/// Why a source is no TOML: where, and what is wrong there.
#[derive(Debug)]
struct Syntax {
    /// Line and column, from 1.
    position: Option<(usize, usize)>,
    /// In words of the parser that hold nothing of its input.
    message: String,
}

impl Syntax {
    fn of(cause: &(dyn Error + Send + Sync + 'static)) -> Self {
        match cause.downcast_ref::<toml::de::Error>() {
            Some(error) => Self { position: position(&error.to_string()), message: error.message().to_owned() },
            // A number that is too large, for example.
            None => Self { position: None, message: "a value cannot be read".to_owned() },
        }
    }
}

impl fmt::Display for Syntax {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        write!(f, "{}", self.message)
    }
}

impl Error for Syntax {}

/// The parser tells the position in the first line of its report only; the line itself is in the others.
fn position(report: &str) -> Option<(usize, usize)> {
    let (line, column) = report.lines().next()?.strip_prefix("TOML parse error at line ")?.split_once(", column ")?;
    Some((line.parse().ok()?, column.parse().ok()?))
}

/// An error in the text of this origin, which was parsed with so many characters before it.
pub(super) fn relocated(error: ConfigError, origin: &str, before: usize) -> ConfigError {
    let ConfigError::FileParse { cause, .. } = error else { return error };
    let Syntax { position, message } = Syntax::of(&*cause);
    let position =
        position.map(|(line, column)| (line, if line == 1 { column.saturating_sub(before) } else { column }));
    ConfigError::FileParse { uri: Some(origin.to_owned()), cause: Box::new(Syntax { position, message }) }
}

/// The error's text; for an unknown key with the key that was probably meant.
pub(super) fn explain(error: &ConfigError) -> String {
    let text = describe(error);
    match nearest(error) {
        Some(known) => format!("{text}; did you mean `{known}`?"),
        None => text,
    }
}

fn describe(error: &ConfigError) -> String {
    match error {
        ConfigError::At { error, key: Some(key), .. } => format!("{}: {}", dotted(key), describe(error)),
        ConfigError::At { error, .. } => describe(error),
        ConfigError::Type { unexpected, expected, key, origin } => {
            let key = key.as_ref().map(|key| format!("{}: ", dotted(key))).unwrap_or_default();
            let origin = origin.as_ref().map(|origin| format!(" (in {origin})")).unwrap_or_default();
            format!("{key}a {}, but {expected} is needed{origin}", kind(&unexpected.to_string()))
        }
        ConfigError::FileParse { uri, cause } => {
            let syntax =
                cause.downcast_ref::<Syntax>().map_or_else(|| Syntax::of(&**cause).to_string(), Syntax::to_string);
            uri.as_ref().map_or_else(|| syntax.clone(), |uri| format!("{uri}: {syntax}"))
        }
        ConfigError::Message(text) => without_value(text),
        ConfigError::Foreign(_) => "a value cannot be read".to_owned(),
        // They know names only.
        _ => error.to_string(),
    }
}

/// What a value is, without itself: `string "x"` is a string.
fn kind(value: &str) -> &str {
    value.split(['`', '"']).next().unwrap_or_default().trim_end()
}

/// A text of serde, or of a type that reads itself from a string, without the value. Names of settings and of known values
/// stay.
fn without_value(text: &str) -> String {
    const EXPECTED: &str = ", expected ";
    if text.starts_with("unknown variant `") {
        let known = text.rfind("`, expected ").map_or("", |end| &text[end + 1..]);
        return format!("unknown value{known}");
    }
    for fault in ["invalid type: ", "invalid value: "] {
        let Some((value, expected)) = text.strip_prefix(fault).and_then(|rest| rest.rsplit_once(EXPECTED)) else {
            continue;
        };
        return format!("{fault}{}{EXPECTED}{expected}", kind(value));
    }
    match (text.find('"'), text.rfind('"')) {
        (Some(begin), Some(end)) if begin < end => format!("{}\"...\"{}", &text[..begin], &text[end + 1..]),
        _ => text.to_owned(),
    }
}

/// The `config` crate writes `keys[0]secret` for `keys[0].secret`, and a dot too many at the end.
fn dotted(path: &str) -> String {
    path.replace(']', "].").replace(".[", "[").trim_end_matches('.').to_owned()
}

/// The known key or word that is most like the unknown one. Serde names the unknown one first, each in backquotes.
fn nearest(error: &ConfigError) -> Option<&str> {
    let text = match error {
        ConfigError::At { error, .. } => return nearest(error),
        ConfigError::Message(text) => text,
        _ => return None,
    };
    let names = text.strip_prefix("unknown field `").or_else(|| text.strip_prefix("unknown variant `"))?;
    let (unknown, known) = names.rsplit_once("`, expected ")?;
    let likeness = |known: &&str| strsim::jaro_winkler(unknown, known);
    let best = known.split('`').skip(1).step_by(2).max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(&best) > 0.75).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_libraries_lose_the_value_and_nothing_else() {
        for (text, shown) in [
            ("unknown variant `a`, expected `b`, expected `c` or `d`", "unknown value, expected `c` or `d`"),
            ("unknown variant `a`, there are no variants", "unknown value"),
            (
                "invalid value: string \"a, expected \\\"b\", expected a duration",
                "invalid value: string, expected a duration",
            ),
            ("invalid type: integer `5`, expected a string", "invalid type: integer, expected a string"),
            ("cannot parse \"a\" as \"b\" c\", too large", "cannot parse \"...\", too large"),
            ("unknown field `a`, expected `b`", "unknown field `a`, expected `b`"),
            ("invalid socket address syntax", "invalid socket address syntax"),
        ] {
            assert_eq!(without_value(text), shown);
        }
    }
}
