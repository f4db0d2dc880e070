//! Recovery as people meet it: what was cut off at start, for INFO; `--restore-to` and its `--dry-run`; the ways out of
//! a load that failed.
//!
//! What to cut is decided in `persistence::aof`; the coordinator has it done.

use std::fmt::Write as _;
use std::path::Path;

use config::Config;
use keyspace::{Lsn, ShardIndex};
use persistence::aof::cut::{is_pending, Cause, Cut, Recovery, JOURNAL};
use persistence::aof::manifest::Manifest;
use persistence::aof::point::Point;
use persistence::aof::truncate::{plan, Plan, PlanOptions};
use persistence::rdb::check::{check_rdb, written_at};
use persistence::storage::{OsStorage, Storage};

use crate::{clock, startup};

/// `--restore-to`, as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restore {
    pub point: Point,
    /// Only tell what would be lost.
    pub dry_run: bool,
}

impl Restore {
    /// Takes `--restore-to POINT` and `--dry-run` out of the options; the rest are directives.
    pub fn take_from(options: &[Vec<u8>]) -> Result<(Option<Restore>, Vec<Vec<u8>>), String> {
        let mut rest = Vec::with_capacity(options.len());
        let (mut point, mut dry_run) = (None, false);
        let mut options = options.iter();
        while let Some(option) = options.next() {
            match option.as_slice() {
                b"--restore-to" => {
                    let text = options
                        .next()
                        .ok_or("--restore-to: a time or an LSN is missing")?;
                    let text = String::from_utf8_lossy(text);
                    let read =
                        Point::parse(&text).map_err(|error| format!("--restore-to: {error}"))?;
                    if point.replace(read).is_some() {
                        return Err("--restore-to is given twice".into());
                    }
                }
                b"--dry-run" => dry_run = true,
                _ => rest.push(option.clone()),
            }
        }
        match point {
            None if dry_run => Err("--dry-run goes with --restore-to".into()),
            point => Ok((point.map(|point| Restore { point, dry_run }), rest)),
        }
    }
}

/// What recovery last cut off in this process's life.
#[derive(Debug, Default)]
pub struct LastRecovery {
    pub unix_ms: i64,
    pub cause: Option<Cause>,
    pub cut_bytes: u64,
    pub cut_commands: u64,
    pub cut_keys: u64,
    pub report: String,
    /// Where each segment that was cut ends now.
    pub lsns: Vec<(ShardIndex, Lsn)>,
}

impl LastRecovery {
    pub fn note(&mut self, done: &Recovery, cuts: &[Cut]) {
        if done.cause.is_none() {
            return;
        }
        let sum = |f: fn(&Cut) -> u64| cuts.iter().map(f).sum();
        let report = done.report.as_ref().and_then(|path| path.file_name());
        let ends = cuts.iter().filter(|cut| !cut.drops_file);
        *self = LastRecovery {
            unix_ms: done.unix_ms,
            cause: done.cause,
            cut_bytes: sum(|cut| cut.bytes_dropped),
            cut_commands: sum(|cut| cut.discarded.commands),
            cut_keys: sum(|cut| cut.discarded.keys),
            report: report.map_or(String::new(), |name| name.to_string_lossy().into_owned()),
            lsns: ends
                .filter_map(|cut| Some((cut.segment?.shard, cut.kept?.lsn)))
                .collect(),
        };
    }

    /// `0=1234,1=888`
    pub fn lsns_in_line(&self) -> String {
        let mut line = String::new();
        for (i, (shard, lsn)) in self.lsns.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(line, "{comma}{}={}", shard.0, lsn.0).expect("a string takes everything");
        }
        line
    }
}

/// Whether the operating system went down since the files were last written, with something not durable.
pub fn os_crashed(manifest: &Manifest, boot_id: &str) -> bool {
    let run = manifest.run.as_ref();
    run.is_some_and(|run| run.boot_id != boot_id)
}

/// Plans going back to a point. Refused where nobody can tell what is before it.
pub fn plan_restore(
    storage: &dyn Storage,
    dir: &Path,
    manifest: &Manifest,
    point: Point,
    boot_id: &str,
    threads: usize,
) -> Result<Plan, String> {
    let options = PlanOptions {
        threads,
        os_crashed: os_crashed(manifest, boot_id),
        now_ms: clock::unix_millis().0,
    };
    let plan = plan(storage, dir, manifest, point, &options).map_err(|error| error.to_string())?;
    match plan.undated.first() {
        Some(path) => Err(format!(
            "{} carries no times (aof-timestamp-enabled was off), so that nobody knows what of it is earlier than {point}",
            path.display()
        )),
        None => Ok(plan),
    }
}

/// What `--restore-to` would cut, for standard output. Changes nothing, and may run beside a server that uses the files.
pub fn dry_run(config: &Config, point: Point) -> Result<String, String> {
    std::env::set_current_dir(&config.dir)
        .map_err(|error| format!("Can't chdir to '{}': {error}", config.dir.display()))?;
    let dir = Path::new(&config.appenddirname);
    let storage = OsStorage;
    if is_pending(&storage, dir).map_err(|error| error.to_string())? {
        return Err(format!(
            "{} is there: an earlier restore is not finished. Start the server, which finishes it, first.",
            dir.join(JOURNAL).display()
        ));
    }
    let path = dir.join(Manifest::file_name(config.appendfilename.as_ref()));
    let manifest = Manifest::read(&storage, &path).map_err(|error| error.to_string())?;
    let threads = startup::usable_cores();
    let plan = plan_restore(
        &storage,
        dir,
        &manifest,
        point,
        &startup::boot_id(),
        threads,
    )?;
    let mut out = format!(
        "Restoring {} to {point} (dry run, nothing is changed)\n",
        path.display()
    );
    for line in plan.describe() {
        out += &line;
        out.push('\n');
    }
    let run = manifest.run.as_ref();
    if run.is_some_and(|run| run.rings.is_some() && run.boot_id == startup::boot_id()) {
        out += "A server runs, or was killed: what only its rings hold is not counted here.\n";
    }
    for file in &plan.kept {
        if let Some(end) = file.end {
            let (name, shard) = (file.path.display(), end.id.shard.0);
            let line = format!(
                "{name} (shard {shard}) keeps {} bytes, up to LSN {}\n",
                file.len, end.lsn.0
            );
            out += &line;
        }
    }
    Ok(out)
}

/// What there is to do when the append-only file could not be loaded, and whether the snapshot beside it would do.
pub fn ways_out_of_aof(config: &Config, storage: &dyn Storage, threads: usize) -> Vec<String> {
    let dir = Path::new(&config.appenddirname);
    let manifest = dir.join(Manifest::file_name(config.appendfilename.as_ref()));
    let dump = Path::new(&config.dbfilename);
    let beside = match storage.file_len(dump) {
        Ok(Some(_)) => match check_rdb(storage, dump, threads) {
            Ok(stats) => {
                let age = written_at(&stats).map_or(String::new(), |seconds| {
                    let when = persistence::aof::point::format_millis(seconds * 1000);
                    format!(" of {when}")
                });
                format!(
                    "The snapshot {}{age} beside it is intact: {} keys.",
                    dump.display(),
                    stats.keys
                )
            }
            Err(error) => format!("The snapshot beside it is damaged too: {error}"),
        },
        _ => format!("There is no snapshot {} beside it.", dump.display()),
    };
    vec![
        beside,
        format!(
            "Nothing was changed on disk. Three ways out: 1) copy {0}, then repair it: basalt-check-aof --fix {1}; or go back to before \
             the damage: --restore-to SHARD:LSN, with --dry-run first. 2) Restore {0} from a backup. 3) Move {0} away, or start with \
             appendonly no: then the snapshot is loaded, where there is one.",
            dir.display(),
            manifest.display()
        ),
    ]
}

/// The same for the snapshot.
pub fn ways_out_of_dump(config: &Config) -> Vec<String> {
    let dump = &config.dbfilename;
    vec![format!(
        "Nothing was changed on disk. Three ways out: 1) see what is wrong: basalt-check-rdb {dump}. 2) Restore {dump} from a backup. 3) \
         Move {dump} away to start without it."
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn restore_options_are_taken_out() {
        let given = options(&[
            "--port",
            "1",
            "--restore-to",
            "1:77",
            "--dry-run",
            "--save",
            "",
        ]);
        let (restore, rest) = Restore::take_from(&given).unwrap();
        let point = Point::Lsn(Some(ShardIndex(1)), Lsn(77));
        let dry_run = true;
        assert_eq!(restore, Some(Restore { point, dry_run }));
        assert_eq!(rest, options(&["--port", "1", "--save", ""]));
        let untouched = options(&["--port", "1"]);
        assert_eq!(Restore::take_from(&untouched), Ok((None, untouched)));
        for bad in [
            &["--restore-to"][..],
            &["--dry-run"],
            &["--restore-to", "noon"],
            &["--restore-to", "1:1", "--restore-to", "1:2"],
        ] {
            assert!(Restore::take_from(&options(bad)).is_err(), "{bad:?}");
        }
    }
}
