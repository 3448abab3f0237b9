//! Cursors as a client reads and writes them (version 2).

use fanway_protocol::{Channel, ChannelHash};

/// The cursor of channels, given as name, epoch and offset.
pub fn write(items: &[(&str, &str, u64)]) -> String {
    let item = |(name, epoch, offset): &(&str, &str, u64)| {
        let channel = Channel::new(name).expect("a channel name");
        format!("~{}{epoch}.{offset}", ChannelHash::of(&channel))
    };
    items.iter().fold("2".to_owned(), |cursor, of| cursor + &item(of))
}

/// Epoch and offset of each item, in byte order of the channels; panics on anything else.
pub fn read(cursor: &str) -> Vec<(String, u64)> {
    let items = cursor.strip_prefix("2~").unwrap_or_else(|| panic!("not a cursor: {cursor}"));
    let position = |item: &str| {
        let (epoch, offset) = item.get(4..)?.split_once('.')?;
        Some((epoch.to_owned(), offset.parse().ok()?))
    };
    items.split('~').map(|item| position(item).unwrap_or_else(|| panic!("{item} in {cursor}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let cursor = write(&[("a", "e", 1), ("news", "f", 20)]);
        assert_eq!(cursor, "2~DCnIe.1~x7wNf.20");
        assert_eq!(read(&cursor), [("e".to_owned(), 1), ("f".to_owned(), 20)]);
    }
}
