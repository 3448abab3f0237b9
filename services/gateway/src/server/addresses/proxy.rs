//! Header of the PROXY protocol, versions 1 and 2 (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>): what a
//! proxy that passes a connection on as it is says about its other end, before the first byte of that.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// First bytes of a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// First bytes of a header of version 1.
const LINE: &[u8; 6] = b"PROXY ";
/// Longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// Largest content of a header of version 2. Proxies add little beyond the addresses.
const LARGEST_CONTENT: usize = 4096;
/// Bytes of a header of version 2 before its content.
const FIXED: usize = 16;

/// Reason for which a connection has no header that can be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum Unproxied {
    /// The socket ended or failed.
    #[error("the connection ended before its PROXY protocol header did")]
    Gone(#[from] io::Error),
    /// The first bytes are of neither version.
    #[error("no PROXY protocol header")]
    Missing,
    /// The header breaks its rules.
    #[error("malformed PROXY protocol header: {0}")]
    Malformed(&'static str),
}

/// Reads the header with which a connection begins, and nothing after it. `None` if it names no address: the proxy itself
/// connects, or does not know.
pub(super) async fn read(tcp: &mut TcpStream) -> Result<Option<IpAddr>, Unproxied> {
    let mut first = [0; SIGNATURE.len()];
    tcp.read_exact(&mut first).await?;
    if first == *SIGNATURE {
        return read_content(tcp).await;
    }
    if !first.starts_with(LINE) {
        return Err(Unproxied::Missing);
    }
    parse_line(&read_line(tcp, first.to_vec()).await?)
}

/// Reads the rest of a line of version 1. Looks before it takes: what follows the line is not the header's.
async fn read_line(tcp: &mut TcpStream, mut line: Vec<u8>) -> Result<Vec<u8>, Unproxied> {
    while line.last() != Some(&b'\n') {
        let mut ahead = [0; LONGEST_LINE];
        let left = LONGEST_LINE - line.len();
        let seen = match tcp.peek(&mut ahead[..left]).await? {
            0 if left == 0 => return Err(Unproxied::Malformed("the line is too long")),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            seen => &ahead[..seen],
        };
        let taken = seen.iter().position(|byte| *byte == b'\n').map_or(seen.len(), |end| end + 1);
        let begin = line.len();
        line.resize(begin + taken, 0);
        tcp.read_exact(&mut line[begin..]).await?;
    }
    Ok(line)
}

/// Source address in a line of version 1.
fn parse_line(line: &[u8]) -> Result<Option<IpAddr>, Unproxied> {
    let malformed = || Unproxied::Malformed("not a line of version 1");
    let line = line.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(malformed)?;
    let mut parts = line.split(' ').skip(1);
    let protocol = parts.next().ok_or_else(malformed)?;
    if protocol == "UNKNOWN" {
        return Ok(None);
    }
    let (source, target) = (parts.next().ok_or_else(malformed)?, parts.next().ok_or_else(malformed)?);
    let ports = [parts.next(), parts.next()].map(|port| port.and_then(|port| port.parse::<u16>().ok()));
    if ports.contains(&None) || parts.next().is_some() {
        return Err(malformed());
    }
    let parsed = match protocol {
        "TCP4" => source.parse().ok().zip(target.parse().ok()).map(|(source, _): (Ipv4Addr, Ipv4Addr)| source.into()),
        "TCP6" => source.parse().ok().zip(target.parse().ok()).map(|(source, _): (Ipv6Addr, Ipv6Addr)| source.into()),
        _ => None,
    };
    let address: IpAddr = parsed.ok_or_else(malformed)?;
    Ok(Some(address.to_canonical()))
}

/// Reads the rest of a header of version 2.
async fn read_content(tcp: &mut TcpStream) -> Result<Option<IpAddr>, Unproxied> {
    let mut fixed = [0; FIXED - SIGNATURE.len()];
    tcp.read_exact(&mut fixed).await?;
    let [version_and_command, family, high, low] = fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LARGEST_CONTENT {
        return Err(Unproxied::Malformed("the header is too large"));
    }
    let mut content = vec![0; length];
    tcp.read_exact(&mut content).await?;
    parse_content(version_and_command, family, &content)
}

/// Source address in the content of a header of version 2.
fn parse_content(version_and_command: u8, family: u8, content: &[u8]) -> Result<Option<IpAddr>, Unproxied> {
    let short = Unproxied::Malformed("the addresses are cut off");
    match version_and_command {
        // LOCAL: what the proxy asks for itself, as a health check.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return Err(Unproxied::Malformed("neither version 2 nor a known command")),
    }
    let address: IpAddr = match family {
        // TCP over IPv4: source, target, ports.
        0x11 => {
            let bytes = content.get(..12).and_then(|all| all.first_chunk::<4>()).ok_or(short)?;
            Ipv4Addr::from(*bytes).into()
        }
        // TCP over IPv6.
        0x21 => {
            let bytes = content.get(..36).and_then(|all| all.first_chunk::<16>()).ok_or(short)?;
            Ipv6Addr::from(*bytes).into()
        }
        // Another family, which the receiver ignores.
        _ => return Ok(None),
    };
    Ok(Some(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_name_their_source() {
        let address = |line: &str| parse_line(line.as_bytes()).map_err(|error| error.to_string());
        assert_eq!(address("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"), Ok(Some([192, 0, 2, 7].into())));
        assert_eq!(address("PROXY TCP6 2001:db8::7 ::1 1 2\r\n"), Ok(Some("2001:db8::7".parse().unwrap())));
        assert_eq!(address("PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n"), Ok(Some([192, 0, 2, 7].into())));
        assert_eq!(address("PROXY UNKNOWN\r\n"), Ok(None));
        assert_eq!(address("PROXY UNKNOWN whatever it says\r\n"), Ok(None));
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 70000\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP4 192.0.2.07 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY  TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        ] {
            assert!(address(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn contents_name_their_source() {
        let v4 = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 0xbb];
        assert_eq!(parse_content(0x21, 0x11, &v4).unwrap(), Some([192, 0, 2, 7].into()));
        let with_more = [&v4[..], b"\x04\0\x01x"].concat();
        assert_eq!(parse_content(0x21, 0x11, &with_more).unwrap(), Some([192, 0, 2, 7].into()));
        let v6: Vec<u8> = [Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::LOCALHOST.octets()].concat();
        let v6 = [v6, vec![0; 4]].concat();
        assert_eq!(parse_content(0x21, 0x21, &v6).unwrap(), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(parse_content(0x20, 0x11, &v4).unwrap(), None, "the proxy itself");
        assert_eq!(parse_content(0x21, 0x00, &[]).unwrap(), None);
        assert_eq!(parse_content(0x21, 0x31, &[0; 216]).unwrap(), None, "a Unix socket");
        for (command, family, content) in
            [(0x21, 0x11, &v4[..11]), (0x21, 0x21, &v6[..35]), (0x11, 0x11, &v4[..]), (0x22, 0x11, &v4[..])]
        {
            assert!(parse_content(command, family, content).is_err(), "{command:x} {family:x}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(command: u8, family: u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_content(command, family, &bytes);
            let _ = parse_line(&bytes);
        }
    }
}
