//! The text in which a log's meta is kept: `version:epoch:top:lifetime in ms:ledger`, the ledger being the epoch's first
//! offset, then `,older epoch:first offset` for each epoch before it. Short, because there is one per channel.

use fanway_protocol::{Epoch, Position};

use crate::Ledger;

/// A meta as it was read.
#[derive(Debug, PartialEq)]
pub(crate) struct Meta<'a> {
    /// Newest position, in the epoch of the newest publication.
    pub(crate) top: Position,
    /// For how long it is kept, in milliseconds.
    pub(crate) life: &'a str,
    /// The epochs of the line.
    pub(crate) ledger: Ledger,
}

impl<'a> Meta<'a> {
    /// Reads it; `None` if this build cannot.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (epoch, rest) = text.strip_prefix("1:")?.split_once(':')?;
        let (top, rest) = rest.split_once(':')?;
        let (life, ledger) = rest.split_once(':')?;
        let epoch = Epoch::parse(epoch)?;
        let mut newest_first = ledger.split(',');
        let mut entries = vec![(epoch, newest_first.next()?.parse().ok()?)];
        for older in newest_first {
            let (epoch, first) = older.split_once(':')?;
            entries.push((Epoch::parse(epoch)?, first.parse().ok()?));
        }
        entries.reverse();
        let ledger = Ledger::from_entries(entries)?;
        life.parse::<u64>().ok()?;
        Some(Self { top: ledger.position_of(top.parse().ok()?), life, ledger })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(n: u64) -> Epoch {
        Epoch::parse(&format!("{n:020}")).unwrap()
    }

    #[test]
    fn reads_what_the_scripts_write_and_refuses_the_rest() {
        let ledger = Ledger::from_entries(vec![(epoch(0), 1), (epoch(1), 4), (epoch(2), 5)]).unwrap();
        let top = Position { epoch: epoch(2), offset: 7 };
        let text = format!("1:{}:7:60000:5,{}:4,{}:1", epoch(2), epoch(1), epoch(0));
        assert_eq!(Meta::parse(&text), Some(Meta { top, life: "60000", ledger }));
        let short = format!("1:{}:0:60000:1", epoch(2));
        assert_eq!(Meta::parse(&short).unwrap().ledger, Ledger::new(epoch(2)));
        for text in [
            "",
            "1",
            &text.replacen('1', "2", 1),
            &text.replace("60000", "x"),
            &text.replace(":7:", "::"),
            &text.replace(":7:", ":-1:"),
            &format!("{text},"),
            &format!("{text},{}:9", epoch(3)),
            "1:abc:7:60000:1",
            &short.replace("60000:1", "60000:0"),
        ] {
            assert_eq!(Meta::parse(text), None, "{text:?}");
        }
    }
}
