//! Bound, listening sockets.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::simulation::Simulation;
use crate::stream::format_address;

/// A bound, listening socket; non-blocking and closed on exec.
pub struct Listener(pub(crate) Kind);

pub(crate) enum Kind {
    Socket(OwnedFd),
    Simulated(Simulation),
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Listener {
        Listener(Kind::Socket(fd))
    }
}

impl Listener {
    /// `127.0.0.1:6379`, `[::1]:6379` or `path:0`.
    pub fn local_address(&self) -> String {
        match &self.0 {
            Kind::Socket(fd) => SockRef::from(fd)
                .local_addr()
                .map_or_else(|_| "?:0".to_string(), |a| format_address(&a)),
            Kind::Simulated(_) => "127.0.0.1:6379".to_string(),
        }
    }

    /// The port, if it has one: what port 0 became.
    pub fn port(&self) -> Option<u16> {
        match &self.0 {
            Kind::Socket(fd) => SockRef::from(fd)
                .local_addr()
                .ok()?
                .as_socket()
                .map(|a| a.port()),
            Kind::Simulated(_) => None,
        }
    }

    pub fn raw_fd(&self) -> Option<RawFd> {
        match &self.0 {
            Kind::Socket(fd) => Some(fd.as_raw_fd()),
            Kind::Simulated(_) => None,
        }
    }

    /// A second handle on the same socket, so that a restart of listening needs no new bind.
    pub fn try_clone(&self) -> io::Result<Listener> {
        match &self.0 {
            Kind::Socket(fd) => Ok(Listener(Kind::Socket(fd.try_clone()?))),
            Kind::Simulated(simulation) => Ok(Listener(Kind::Simulated(simulation.clone()))),
        }
    }
}

/// Listens on `address` (an IPv4 or IPv6 literal, a host name, `*` for all of IPv4, `::*` for all of IPv6). An IPv6
/// socket takes no IPv4 connections, so `*` and `::*` can be bound together.
pub fn bind_tcp(address: &str, port: u16, backlog: i32) -> io::Result<Listener> {
    let target: SocketAddr = match address {
        "*" => (Ipv4Addr::UNSPECIFIED, port).into(),
        "::*" => (Ipv6Addr::UNSPECIFIED, port).into(),
        _ => (address, port).to_socket_addrs()?.next().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::AddrNotAvailable,
                format!("no address for '{address}'"),
            )
        })?,
    };
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if target.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&target.into())?;
    socket.listen(backlog)?;
    Ok(OwnedFd::from(socket).into())
}

/// Listens on a Unix socket at `path`, with the permissions `perm` if given. A socket left there by an earlier
/// process is replaced; any other file is an error.
pub fn bind_unix(path: &Path, perm: Option<u32>, backlog: i32) -> io::Result<Listener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path)?,
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(perm) = perm {
        fs::set_permissions(path, fs::Permissions::from_mode(perm))?;
    }
    socket.listen(backlog)?;
    Ok(OwnedFd::from(socket).into())
}
