//! Ending: on SHUTDOWN, SIGTERM and SIGINT, with the data as safe as the configuration promises.

use config::ShutdownOn;
use nix::sys::signal::Signal;

use super::Coordinator;
use crate::load::ReplyTo;
use crate::snapshot::ChildKind;
use crate::{clock, exit, log, supervision};

const SHUTDOWN_FAILED: &[u8] = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SaveOnShutdown {
    /// If there are save points.
    Default,
    Always,
    Never,
}

impl Coordinator {
    pub(super) fn shut_down_by_signal(&mut self, signal: Signal) {
        let config = self.config();
        let on: &ShutdownOn = if signal == Signal::SIGINT {
            &config.shutdown_on_sigint
        } else {
            &config.shutdown_on_sigterm
        };
        let save = match (on.save, on.nosave) {
            (true, _) => SaveOnShutdown::Always,
            (_, true) => SaveOnShutdown::Never,
            _ => SaveOnShutdown::Default,
        };
        log!(Warning, "User requested shutdown...");
        self.shut_down(save, on.now, on.force, None);
    }

    /// Saves what is to be saved and ends the process; returns only when that failed and `force`
    /// is not set.
    pub(super) fn shut_down(
        &mut self,
        save: SaveOnShutdown,
        _now: bool,
        force: bool,
        reply_to: Option<ReplyTo>,
    ) {
        let server = self.server;
        let began = clock::instant();
        self.kill_child(ChildKind::Snapshot);
        self.kill_child(ChildKind::Rewrite);
        let save = match save {
            SaveOnShutdown::Always => true,
            SaveOnShutdown::Never => false,
            SaveOnShutdown::Default => !self.config().save.is_empty(),
        };
        // The workers stay stopped from here on: what was acknowledged is what is about to be saved.
        let stopped = server.safe_point.stop(server);
        if save && !server.is_loading() {
            log!(Notice, "Saving the final RDB snapshot before exiting.");
            supervision::status("Saving the final RDB snapshot");
            if self.save_stopped().is_err() {
                log!(
                    Warning,
                    "Error trying to save the DB, {}.",
                    if force {
                        "exiting all the same"
                    } else {
                        "can't exit"
                    }
                );
                if !force {
                    drop(stopped);
                    return self.stay(reply_to, "Error trying to save the DB, can't exit.");
                }
            }
        }
        if server.aof.is_on() {
            log!(Notice, "Calling fsync() on the AOF files.");
        }
        if self.write_and_sync_aof().is_err() {
            if !force {
                // What was acknowledged is in memory alone, be it one that outlives the process.
                drop(stopped);
                return self.stay(reply_to, "The AOF could not be written, can't exit.");
            }
            if server.aof.write_path().rings.is_some() {
                log!(
                    Warning,
                    "What the AOF's files lack stays in its rings until the next start."
                );
            }
        }
        std::mem::forget(stopped);
        supervision::stopping();
        for path in &self.files_to_remove {
            // What is gone need not be removed.
            let _ = self.storage.remove(path);
        }
        log!(
            Warning,
            "Basalt is now ready to exit, bye bye... (after {:.3} seconds)",
            clock::elapsed_since(began).as_secs_f64()
        );
        exit::exit(0);
    }

    /// Goes on serving after a shutdown that would have lost data.
    fn stay(&self, reply_to: Option<ReplyTo>, reason: &str) {
        log!(Warning, "{reason}");
        supervision::status(reason);
        if let Some(reply_to) = reply_to {
            reply_to.send(self.server, SHUTDOWN_FAILED);
        }
    }
}
