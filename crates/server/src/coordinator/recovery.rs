//! Cutting the append-only file at start: what a crash left too much, and what `--restore-to` gives up.

use persistence::aof::cut::{Cause, Cut, Recovery};
use persistence::aof::manifest::Manifest;
use persistence::aof::point::Point;
use persistence::aof::truncate::apply;
use persistence::aof::AofError;

use super::start::LoadFailure;
use super::Coordinator;
use crate::recovery::{plan_restore, ways_out_of_aof, ways_out_of_dump};
use crate::{clock, log};

/// Keys named in the log for each file.
const LOGGED_KEYS_MAX: usize = 10;

impl Coordinator {
    /// Has the next load go back to a point first.
    pub fn restore_to(&mut self, point: Point) {
        self.restore = Some(point);
    }

    /// Goes back to the point asked for. Returns the manifest as it is then.
    pub(super) fn restore(
        &mut self,
        manifest: Manifest,
        point: Point,
    ) -> Result<Manifest, LoadFailure> {
        let server = self.server;
        let (dir, prefix) = (self.aof_files.dir(), self.aof_files.prefix());
        let boot_id = &server.identity.boot_id;
        let threads = server.identity.cores;
        let plan = plan_restore(&*self.storage, dir, &manifest, point, boot_id, threads)
            .map_err(LoadFailure::Other)?;
        log!(Warning, "Restoring the append only file to {point}");
        if plan.cuts.is_empty() {
            log!(Warning, "Nothing lies behind {point}");
            return Ok(manifest);
        }
        let now_ms = clock::unix_millis().0;
        let done = apply(&*self.storage, dir, Some(prefix), &plan, now_ms)?;
        self.note_recovery(&done, &plan.cuts);
        Ok(plan.manifest)
    }

    /// Says why the server does not start, and what there is to do.
    pub fn log_load_failure(&self, failure: &LoadFailure) {
        let config = self.config();
        if let LoadFailure::Aof(error) = failure {
            log_as_redis_does(error);
        }
        log!(Warning, "Fatal error loading the DB: {failure}");
        let lines = match failure {
            LoadFailure::Aof(_) => {
                ways_out_of_aof(&config, &*self.storage, self.server.identity.cores)
            }
            LoadFailure::Dump(_) => ways_out_of_dump(&config),
            LoadFailure::Other(_) => Vec::new(),
        };
        lines.iter().for_each(|line| log!(Warning, "{line}"));
    }

    /// Says what was cut off, in the log and for INFO.
    pub(super) fn note_recovery(&self, done: &Recovery, cuts: &[Cut]) {
        for cut in cuts {
            let name = cut.path.file_name().unwrap_or_default().to_string_lossy();
            if cut.cause == Cause::TornTail {
                log!(
                    Warning,
                    "!!! Warning: short read while loading the AOF file {name}!!!"
                );
                log!(
                    Warning,
                    "!!! Truncating the AOF {name} at offset {} !!!",
                    cut.offset
                );
            }
            let kept = cut.kept.map_or(String::new(), |kept| format!(" ({kept})"));
            log!(
                Warning,
                "{}: {} bytes behind offset {}{kept} do not count and are cut off: {}",
                cut.path.display(),
                cut.bytes_dropped,
                cut.offset,
                cut.reason
            );
            log!(
                Warning,
                "{name}: cut off are {}; keys: {}",
                cut.discarded.summary(),
                cut.discarded.keys_in_line(LOGGED_KEYS_MAX)
            );
            if cut.cause == Cause::TornTail {
                log!(
                    Warning,
                    "AOF {name} loaded anyway because aof-load-truncated is enabled"
                );
            }
        }
        if let Some(report) = &done.report {
            log!(
                Warning,
                "What was cut off is kept, with a report: {}",
                report.display()
            );
        }
        if let Some(reason) = &done.not_kept {
            log!(Warning, "What was cut off could not be kept: {reason}");
        }
        let last = &self.server.snapshot.last_recovery;
        let mut last = last.lock().expect("no holder of this lock panics");
        last.note(done, cuts);
    }
}

/// The lines that people look for in a log of Redis.
fn log_as_redis_does(error: &AofError) {
    let name = |path: &std::path::Path| {
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    match error {
        AofError::Damaged { path, .. } => log!(
            Warning,
            "Bad file format reading the append only file {}: make a backup of your AOF file, then use basalt-check-aof --fix <filename.manifest>",
            name(path)
        ),
        AofError::Truncated { path, .. } => log!(
            Warning,
            "Unexpected end of file reading the append only file {}. You can: 1) Make a backup of your AOF file, then use basalt-check-aof \
             --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and restart the server.",
            name(path)
        ),
        _ => {}
    }
}
