//! The listening socket of a worker process.

use manifold::daemon::Socket;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes the socket at `path`, which only its owner may connect to. The parent keeps it for as long as
/// its process group is configured, so that connections wait while a process is replaced.
pub(super) fn listen(
    path: &Path,
    options: &Socket,
    server_user: Option<u32>,
) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    if let Some(bytes) = options.send_buffer {
        sockopt::set_socket_send_buffer_size(&socket, bytes.get())?;
    }
    if let Some(bytes) = options.receive_buffer {
        sockopt::set_socket_recv_buffer_size(&socket, bytes.get())?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // SAFETY: it sets a number of this process, which has one thread while it is configured.
    let former = unsafe { libc::umask(0o077) };
    let bound = SocketAddrUnix::new(path).and_then(|address| rustix::net::bind(&socket, &address));
    // SAFETY: see above.
    unsafe { libc::umask(former) };
    bound?;
    if let Err(error) = open(path, &socket, options, server_user) {
        // Nobody will ever listen there.
        let _ = std::fs::remove_file(path);
        return Err(error);
    }
    Ok(socket)
}

/// Lets its owner connect.
fn open(
    path: &Path,
    socket: &OwnedFd,
    options: &Socket,
    server_user: Option<u32>,
) -> io::Result<()> {
    if let Some(owner) = options.owner.or(server_user) {
        std::os::unix::fs::chown(path, Some(owner), None)?;
    }
    Ok(rustix::net::listen(socket, options.backlog)?)
}
