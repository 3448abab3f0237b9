//! The chunked transfer coding of HTTP/1.1 (RFC 9112, section 7.1), as its sender writes it.
//!
//! A chunk is its header ([`write_header`]), its content and [`END`]; [`LAST`] ends the body.

/// Follows the content of a chunk.
pub const END: &[u8] = b"\r\n";

/// The last chunk, without a trailer section.
pub const LAST: &[u8] = b"0\r\n\r\n";

/// Appends the header of a chunk with `length` bytes of content: at least one, as an empty chunk would be the last.
pub fn write_header(length: usize, out: &mut Vec<u8>) {
    debug_assert!(length > 0, "an empty chunk ends the body");
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(length >> (4 * digit)) & 0xf]);
    }
    out.extend_from_slice(END);
}

/// Appends a whole chunk.
pub fn write(content: &[u8], out: &mut Vec<u8>) {
    write_header(content.len(), out);
    out.extend_from_slice(content);
    out.extend_from_slice(END);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_the_length_in_hexadecimal_digits() {
        for length in [1, 9, 10, 15, 16, 255, 256, 4095, 4096, 65_535, 65_536, usize::MAX] {
            let mut out = b"before".to_vec();
            write_header(length, &mut out);
            assert_eq!(out, format!("before{length:x}\r\n").as_bytes());
        }
    }

    #[test]
    fn a_chunk_is_framed_by_line_ends() {
        let mut out = Vec::new();
        write(b"0123456789\n", &mut out);
        out.extend_from_slice(LAST);
        assert_eq!(out, b"b\r\n0123456789\n\r\n0\r\n\r\n");
    }
}
