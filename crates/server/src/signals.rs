//! Signals: one thread waits for them, all others have them blocked.
//!
//! SIGTERM and SIGINT ask the coordinator for a shutdown; a second one, or one while the dataset
//! is being loaded, exits at once, without saving. SIGPIPE and SIGHUP are ignored, as in Redis.

use std::io;

use crossbeam_channel::Sender;
use nix::sys::signal::{signal, SigHandler, SigSet, Signal};

use crate::coordinator::Request;
use crate::shared::Server;
use crate::{exit, log};

/// Blocks the signals in this thread and those it will start. Call before the first thread.
pub fn block() -> io::Result<SigSet> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    // SAFETY: ignoring a signal installs no handler that could run.
    unsafe {
        signal(Signal::SIGPIPE, SigHandler::SigIgn)?;
        signal(Signal::SIGHUP, SigHandler::SigIgn)?;
    }
    Ok(set)
}

/// The signal thread.
pub fn wait(set: &SigSet, server: &Server, coordinator: &Sender<Request>) {
    let mut asked = false;
    while let Ok(received) = set.wait() {
        let name = if received == Signal::SIGINT {
            "SIGINT"
        } else {
            "SIGTERM"
        };
        if asked {
            log!(Warning, "You insist... exiting now.");
            exit::exit(1);
        }
        if server.is_loading() {
            log!(Warning, "Received {name} while loading, exiting now.");
            exit::exit(0);
        }
        asked = true;
        log!(Warning, "Received {name} scheduling shutdown...");
        if coordinator.send(Request::Signal(received)).is_err() {
            return;
        }
    }
}
