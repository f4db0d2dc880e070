//! What the service manager that started us is told: nothing, upstart's SIGSTOP, or systemd's notifications
//! (sd_notify(3)), over the socket that `NOTIFY_SOCKET` names.
//!
//! Decided once, in `main`, while there is one thread; a supervised server does not become a daemon, since the manager
//! watches the process that it started. A simulated server never calls `begin`, and so talks to nobody.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

use config::Supervised;
use nix::sys::signal::{raise, Signal};

use crate::log;

#[derive(Debug)]
enum Supervisor {
    Upstart,
    /// Where its notifications go.
    Systemd(SocketAddr),
}

static SUPERVISOR: OnceLock<Supervisor> = OnceLock::new();

const UPSTART_VARIABLE: &str = "UPSTART_JOB";
const SYSTEMD_VARIABLE: &str = "NOTIFY_SOCKET";

/// Finds out who supervises this process, as the directive permits, and tells upstart that it may go on. Whether anybody
/// does is the answer; a manager that was named but did not start us is complained about and done without, as in Redis.
pub fn begin(wanted: Supervised) -> bool {
    let wanted = match wanted {
        Supervised::Auto if env::var_os(UPSTART_VARIABLE).is_some() => Supervised::Upstart,
        Supervised::Auto if env::var_os(SYSTEMD_VARIABLE).is_some() => Supervised::Systemd,
        wanted => wanted,
    };
    match wanted {
        Supervised::No | Supervised::Auto => false,
        Supervised::Upstart => begin_upstart(),
        Supervised::Systemd => begin_systemd(),
    }
}

fn begin_upstart() -> bool {
    if env::var_os(UPSTART_VARIABLE).is_none() {
        log!(
            Warning,
            "upstart supervision requested, but UPSTART_JOB not found!"
        );
        return false;
    }
    log!(
        Notice,
        "supervised by upstart, will stop to signal readiness."
    );
    // upstart waits for the stop and sends SIGCONT. That the signal cannot be raised is not to be expected; upstart would
    // then kill us for being late.
    let _ = raise(Signal::SIGSTOP);
    env::remove_var(UPSTART_VARIABLE);
    SUPERVISOR.set(Supervisor::Upstart).is_ok()
}

fn begin_systemd() -> bool {
    let Some(name) = env::var_os(SYSTEMD_VARIABLE) else {
        log!(
            Warning,
            "systemd supervision requested, but NOTIFY_SOCKET not found!"
        );
        return false;
    };
    match socket_address(&name) {
        Ok(address) => {
            log!(
                Notice,
                "Supervised by systemd. A large dataset takes long to load and to save: set TimeoutStartSec and TimeoutStopSec in the unit accordingly."
            );
            let first = SUPERVISOR.set(Supervisor::Systemd(address)).is_ok();
            notify("STATUS=Basalt is loading...\n");
            first
        }
        Err(error) => {
            log!(
                Warning,
                "systemd supervision: NOTIFY_SOCKET {name:?} cannot be used: {error}"
            );
            false
        }
    }
}

/// A path, or with a leading `@` a name in the abstract namespace.
fn socket_address(name: &OsString) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None if name.as_bytes().starts_with(b"/") => SocketAddr::from_pathname(name),
        None => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "neither a path nor an abstract name",
        )),
    }
}

/// The dataset is loaded and clients are served.
pub fn ready() {
    notify("READY=1\nSTATUS=Ready to accept connections\n");
}

/// Something that takes long has begun or failed; shown by `systemctl status`.
pub fn status(text: &str) {
    notify(&format!("STATUS={text}\n"));
}

/// Nothing can keep the process from ending any more. Told late: from here on systemd's TimeoutStopSec runs, and a final
/// snapshot that failed must not end in SIGKILL.
pub fn stopping() {
    notify("STOPPING=1\n");
}

fn notify(message: &str) {
    let Some(Supervisor::Systemd(address)) = SUPERVISOR.get() else {
        return;
    };
    let sent =
        UnixDatagram::unbound().and_then(|socket| socket.send_to_addr(message.as_bytes(), address));
    if let Err(error) = sent {
        log!(Warning, "systemd cannot be notified: {error}");
    }
}

/// As INFO names the supervisor.
pub fn word() -> &'static str {
    match SUPERVISOR.get() {
        None => "no",
        Some(Supervisor::Upstart) => "upstart",
        Some(Supervisor::Systemd(_)) => "systemd",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_names() {
        let path = socket_address(&"/run/notify".into()).expect("a path");
        assert_eq!(
            path.as_pathname().map(|p| p.as_os_str().as_bytes()),
            Some(&b"/run/notify"[..])
        );
        let name = socket_address(&"@a/b".into()).expect("an abstract name");
        assert_eq!(name.as_abstract_name(), Some(&b"a/b"[..]));
        assert!(socket_address(&"vsock:2:1".into()).is_err());
        assert!(socket_address(&"".into()).is_err());
    }
}
