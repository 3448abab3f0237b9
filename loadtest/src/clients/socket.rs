//! Sockets of load clients.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address.
///
/// About 28,000 ephemeral ports serve an address, and the kernel looks longer for a free one as they fill up. The option
/// IP_BIND_ADDRESS_NO_PORT would share them between destinations, which a single destination has no use for.
const PER_SOURCE: usize = 4_000;

/// The source address of the connection with this number: 127.0.x.y when the server is on this machine's loopback.
pub(super) fn source(number: usize, target: SocketAddr) -> Option<IpAddr> {
    let loopback = matches!(target.ip(), IpAddr::V4(address) if address.is_loopback());
    let index = u16::try_from(number / PER_SOURCE).unwrap_or(u16::MAX).saturating_add(256);
    let [high, low] = index.to_be_bytes();
    // From 127.0.1.1 on, and never ending in 0 or 255, which some systems treat as broadcast.
    loopback.then_some(IpAddr::V4(Ipv4Addr::new(127, 0, high, low % 254 + 1)))
}

/// Begins to connect, without waiting.
pub(super) fn connect(target: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Closing resets the connection: no port stays in TIME_WAIT for the next run to miss.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn sources_are_loopback_and_each_serves_a_bounded_number() {
        let target = SocketAddr::from(([127, 0, 0, 1], 80));
        let sources: Vec<_> =
            (0..1_000_000).step_by(PER_SOURCE).map(|number| source(number, target).unwrap()).collect();
        assert_eq!(sources[0].to_string(), "127.0.1.1");
        assert_eq!(sources.iter().collect::<BTreeSet<_>>().len(), sources.len());
        assert!(sources.iter().all(IpAddr::is_loopback));
        assert_eq!(source(0, target), source(PER_SOURCE - 1, target));
        assert_eq!(source(0, SocketAddr::from(([192, 0, 2, 1], 80))), None);
        assert_eq!(source(0, "[::1]:80".parse().unwrap()), None);
    }
}
