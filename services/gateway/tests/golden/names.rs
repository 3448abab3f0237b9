//! Placeholders: stable names for values that differ from run to run.

/// Bytes that repeat more often than this are written as `<x*65536>`.
const LONGEST_RUN: usize = 40;
/// Characters of an epoch.
const EPOCH: usize = 20;
/// Values that are numbered in the order of their first appearance: what stands before one, and its name.
const NUMBERED: [(&str, &str); 3] = [("\"epoch\":\"", "epoch"), ("\"uid\":\"", "node"), ("\"node\":\"", "node")];
/// Characters of the id of a client, a UUID, and where it has hyphens.
const CLIENT: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// Numbers that differ from run to run: what stands before one, and its name.
const NUMBERS: [(&str, &str); 8] = [
    ("\"time\":", "<time>"),
    ("\"ttl\":", "<seconds>"),
    ("\"expires_at\":", "<time>"),
    ("\"uptime\":", "<seconds>"),
    ("\"echo_age_ms\":", "<ms>"),
    ("\"retry\":", "<retry>"),
    ("retry: ", "<retry>"),
    ("retry-after: ", "<seconds>"),
];

/// The values of one recording and their names.
#[derive(Default)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    /// Gives a value a name: `alice` is written `<alice>`.
    pub(crate) fn give(&mut self, name: &str, value: &str) {
        self.0.push((format!("<{name}>"), value.to_owned()));
    }

    /// Names a value with the next number of its kind, unless it has a name.
    pub(crate) fn number(&mut self, kind: &str, value: &str) {
        if self.0.iter().any(|(_, known)| known == value) {
            return;
        }
        let beginning = format!("<{kind}-");
        let count = self.0.iter().filter(|(name, _)| name.starts_with(&beginning)).count();
        self.0.push((format!("{beginning}{}>", count + 1), value.to_owned()));
    }

    /// A script's text with values for names: `<epoch-1>`, `<x*300>`, and `⏎` for a line break.
    pub(crate) fn reveal(&self, script: &str) -> String {
        let mut text = script.replace('⏎', "\n");
        for (name, value) in &self.0 {
            text = text.replace(name, value);
        }
        lengthen_runs(&text)
    }

    /// A received text with names for values.
    pub(crate) fn hide(&mut self, text: &str) -> String {
        for (before, kind) in NUMBERED {
            for (at, _) in text.match_indices(before) {
                self.number(kind, text[at + before.len()..].split('"').next().unwrap());
            }
        }
        for window in text.as_bytes().windows(CLIENT) {
            let is_client = |(at, byte): (usize, &u8)| match HYPHENS.contains(&at) {
                true => *byte == b'-',
                false => byte.is_ascii_hexdigit(),
            };
            if window.iter().enumerate().all(is_client) {
                self.number("client", std::str::from_utf8(window).unwrap());
            }
        }
        // Items of a cursor: `~`, four characters of a hash, an epoch, a dot.
        for (at, _) in text.match_indices('~') {
            let item = &text[at + 1..];
            if item.as_bytes().get(4 + EPOCH) == Some(&b'.') {
                self.number("epoch", &item[4..4 + EPOCH]);
            }
        }
        let mut text = text.to_owned();
        for (name, value) in &self.0 {
            text = text.replace(value, name);
        }
        for (before, name) in NUMBERS {
            text = replace_number(&text, before, name);
        }
        shorten_runs(&text)
    }
}

/// Replaces the number that follows each `before`.
fn replace_number(text: &str, before: &str, name: &str) -> String {
    let mut parts = text.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|digit: char| digit.is_ascii_digit());
        out.push_str(before);
        out.push_str(if rest.len() < part.len() { name } else { "" });
        out.push_str(rest);
    }
    out
}

/// The opposite of [`shorten_runs`].
fn lengthen_runs(text: &str) -> String {
    let mut parts = text.split('<');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let run = part.split_once('*').and_then(|(repeated, rest)| {
            let (count, rest) = rest.split_once('>')?;
            Some((repeated.repeat(count.parse().ok()?), rest))
        });
        match run {
            Some((run, rest)) => out.extend([run.as_str(), rest]),
            None => out.extend(["<", part]),
        }
    }
    out
}

fn shorten_runs(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = &rest[..rest.find(|other| other != first).unwrap_or(rest.len())];
        match run.chars().count() {
            count if count > LONGEST_RUN => out.push_str(&format!("<{first}*{count}>")),
            _ => out.push_str(run),
        }
        rest = &rest[run.len()..];
    }
    out
}

/// Bytes as one line of text: `\r`, `\n`, `\\`, and `\x00` for what is not printable ASCII.
pub(crate) fn printable(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\r' => out.push_str("\\r"),
            b'\n' => out.push_str("\\n"),
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(*byte as char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

/// Bytes in hexadecimal, separated by spaces.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

#[test]
fn names_are_replaced_both_ways() {
    let (one, two) = ("aaaaaaaa0123456789ab", "bbbb_bbb-123456789ab");
    let mut names = Names::default();
    names.give("alice", "secret");
    let text = format!("{{\"epoch\":\"{one}\",\"time\":17,\"cursor\":\"2~HashA{}~H-_h{two}.3\"}}secret", &one[1..]);
    let text = text.replace("HashA", "Hash-");
    assert_eq!(
        names.hide(&text),
        format!(
            "{{\"epoch\":\"<epoch-1>\",\"time\":<time>,\"cursor\":\"2~Hash-{}~H-_h<epoch-2>.3\"}}<alice>",
            &one[1..]
        )
    );
    assert_eq!(names.reveal("<alice> <epoch-2>.3 <x*5> 2*3"), format!("secret {two}.3 xxxxx 2*3"));
    assert_eq!(names.hide(&"x".repeat(41)), "<x*41>");
}
