//! Every seed and every past finding through its target, as an ordinary test.

use fuzz::{Target, TARGETS};
use std::path::{Path, PathBuf};

fn files(folder: &str, target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(target.name);
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("listed").path()).collect();
    files.sort();
    files
}

/// Shown when a target panics: which file it was.
struct Running(PathBuf);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while running {}", self.0.display());
        }
    }
}

fn run_all(folder: &str, target: &Target) -> usize {
    let files = files(folder, target);
    for path in &files {
        let input = std::fs::read(path).expect("readable");
        let _running = Running(path.clone());
        target.run(&input);
    }
    files.len()
}

#[test]
fn seeds_pass() {
    for target in &TARGETS {
        assert!(
            run_all("corpus", target) > 0,
            "{} has no seeds",
            target.name
        );
    }
}

/// What fuzzing found, a test each: the name of its file under `regressions/<target>`.
macro_rules! findings {
    ($($target:ident: $($finding:ident)*;)*) => {
        const FINDINGS: &[(&str, &[&str])] =
            &[$((stringify!($target), &[$(stringify!($finding)),*])),*];
        $(mod $target {
            $(#[test]
            fn $finding() {
                super::run_finding(stringify!($target), stringify!($finding));
            })*
        })*
    };
}

findings! {
    rdb: long_field_before_the_end no_end_behind_the_index;
    aof: base_cut_short epochs_that_fall;
    manifest: extra_pairs_not_text numbers_used_up;
    config: included_save_points;
}

fn run_finding(target: &str, finding: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let input = std::fs::read(folder.join(target).join(finding)).expect("readable");
    Target::named(target).expect("listed").run(&input);
}

#[test]
fn every_finding_has_its_test() {
    for target in &TARGETS {
        let of_target = FINDINGS.iter().find(|(name, _)| *name == target.name);
        let mut listed = of_target.map_or(Vec::new(), |(_, findings)| findings.to_vec());
        listed.sort_unstable();
        let there: Vec<_> = files("regressions", target)
            .iter()
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect();
        assert_eq!(listed, there, "regressions/{}", target.name);
    }
}

/// The planted bugs are there: otherwise a fuzzer that finds nothing would prove nothing.
#[test]
#[should_panic(expected = "the planted panic")]
fn planted_panic_is_there() {
    let input: Vec<u8> = [b"BASALT".as_slice(), &[0, 0x5A]].concat();
    Target::named("canary").expect("listed").run(&input);
}
