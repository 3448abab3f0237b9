//! The chunked transfer coding, read incrementally.

use super::Fault;

/// Where in the coding the next byte is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunked {
    /// In a chunk's size line.
    Size {
        /// The size so far.
        size: usize,
        /// Past the digits: in an extension or before the LF.
        digits_over: bool,
    },
    /// In a chunk, with so many bytes to come, the CRLF at its end included.
    Data(usize),
    /// After the last chunk.
    End,
}

/// Larger chunks are no honest ones.
const MAX_CHUNK: usize = 64 * 1024 * 1024;
/// Digits of the largest chunk.
const MAX_DIGITS: usize = 7;

impl Default for Chunked {
    fn default() -> Self {
        Self::Size { size: 0, digits_over: false }
    }
}

impl Chunked {
    /// Appends the content of the coded bytes.
    pub(super) fn decode(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self {
                Self::Size { size, digits_over } => {
                    bytes = rest;
                    match (char::from(byte).to_digit(16), byte) {
                        (_, b'\n') => *self = if *size == 0 { Self::End } else { Self::Data(*size + 2) },
                        (Some(digit), _) if !*digits_over => *size = *size * 16 + digit as usize,
                        (_, b'\r' | b';') => *digits_over = true,
                        _ if *digits_over => {}
                        _ => return Err(Fault::Protocol("a chunk size that is no number")),
                    }
                    if matches!(self, Self::Size { size, .. } if *size > MAX_CHUNK) {
                        return Err(Fault::Protocol("a chunk above 64 MiB"));
                    }
                }
                Self::Data(left) => {
                    let (piece, rest) = bytes.split_at(bytes.len().min(*left));
                    bytes = rest;
                    let content = left.saturating_sub(2).min(piece.len());
                    out.extend_from_slice(&piece[..content]);
                    *left -= piece.len();
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::End => return Ok(()),
            }
        }
        Ok(())
    }
}

/// The content of the first chunk and the length of the whole, if it is here to its end. Not for the last chunk, and not for
/// one with an extension.
pub(super) fn whole(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut size = 0;
    for (at, byte) in bytes.iter().enumerate().take(MAX_DIGITS + 1) {
        match char::from(*byte).to_digit(16) {
            Some(digit) => size = size * 16 + digit as usize,
            None if size == 0 => return None,
            None => {
                let content = bytes[at..].strip_prefix(b"\r\n")?;
                let rest = content.get(size..)?;
                return rest.starts_with(b"\r\n").then(|| (&content[..size], at + 2 + size + 2));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_do_not_matter() {
        let coded = b"4\r\nWiki\r\nA;x=1\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n";
        for cut in 0..coded.len() {
            let (mut chunked, mut out) = (Chunked::default(), Vec::new());
            chunked.decode(&coded[..cut], &mut out).unwrap();
            chunked.decode(&coded[cut..], &mut out).unwrap();
            assert_eq!((out.as_slice(), &chunked), (&b"Wiki0123456789\n"[..], &Chunked::End), "cut at {cut}");
        }
    }

    #[test]
    fn a_whole_chunk_is_found_where_it_is() {
        let coded = b"1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
        assert_eq!(whole(coded), Some((&b"abcdefghijklmnopqrstuvwxyz"[..], 32)));
        for end in 0..32 {
            assert_eq!(whole(&coded[..end]), None, "{end}");
        }
        for not_whole in [&b"0\r\n\r\n"[..], b"1;x=y\r\na\r\n", b"1\r\nab\r\n", b"fffffffff\r\n", b"x\r\n"] {
            assert_eq!(whole(not_whole), None);
        }
    }

    #[test]
    fn nonsense_is_a_fault() {
        for coded in [&b"x\r\n"[..], b"FFFFFFFFF\r\n"] {
            assert!(Chunked::default().decode(coded, &mut Vec::new()).is_err());
        }
    }
}
