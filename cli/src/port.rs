//! A TCP port that is kept for a server which is yet to be started.

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

/// A port that the system gives to no connection, and to nobody who asks for any port, until this is dropped.
///
/// A socket is bound to it and does not listen. So can whoever sets `SO_REUSEADDR`, as httpd does, listen there
/// (ip(7), socket(7)).
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _socket: OwnedFd,
}

impl Port {
    /// The port at the first of the addresses where nobody listens; any free one for port 0.
    pub(crate) fn hold(addresses: impl ToSocketAddrs) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "it has no address");
        for address in addresses.to_socket_addrs()? {
            match Self::hold_one(&address) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn hold_one(address: &SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_reuseaddr(&socket, true)?;
        bind(&socket, address)?;
        let bound = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok(Self { number: bound.port(), _socket: socket })
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }
}
