//! `config/basalt.conf` is true: it can be read, it shows every directive that means something, and the defaults it
//! shows are those of the table.

use std::collections::BTreeSet;
use std::path::Path;

use config::{directives, find, rewrite, Config, FileSystem, Source};

fn text() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/basalt.conf");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn load(text: &str) -> Config {
    let source = Source {
        name: "basalt.conf",
        text: text.as_bytes(),
    };
    Config::from_sources(Some(source), &[], &FileSystem).unwrap_or_else(|error| panic!("{error}"))
}

/// Lines that show a default: `#` directly followed by a directive's name.
fn shown_defaults(text: &str) -> Vec<&str> {
    text.lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

fn name_of(line: &str) -> &str {
    line.split(' ')
        .next()
        .expect("split gives one piece at least")
}

#[test]
fn it_is_read_and_sets_what_make_run_needs() {
    let config = load(&text());
    assert_eq!(config.bind, ["127.0.0.1", "-::1"]);
    assert_eq!(config.port, 6379);
    assert!(config.appendonly && config.aof_use_rdb_preamble);
    assert_eq!(config.save, Config::default().save);
    assert_eq!(config.dir, Path::new("./data"));
    assert!(config.accepted_only_in_use().is_empty());
}

#[test]
fn it_shows_every_directive_once() {
    let text = text();
    let set = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut shown = BTreeSet::new();
    for line in set.chain(shown_defaults(&text)) {
        assert!(shown.insert(name_of(line)), "{line} is shown twice");
    }
    let expected: BTreeSet<&str> = directives()
        .iter()
        .filter(|row| !row.is_accepted_only())
        .map(|row| row.name)
        .collect();
    assert_eq!(shown, expected);
}

#[test]
fn the_defaults_it_shows_are_those_of_the_table() {
    let text = text();
    for line in shown_defaults(&text) {
        let row = find(name_of(line).as_bytes()).expect(line);
        assert_eq!(row.value(&load(line)), row.default_value(), "{line}");
    }
}

#[test]
fn rewriting_it_unchanged_adds_only_the_save_points() {
    let text = text();
    let written = String::from_utf8(rewrite(text.as_bytes(), &load(&text))).expect("UTF-8");
    let before: BTreeSet<&str> = text.lines().collect();
    let added: Vec<&str> = written
        .lines()
        .filter(|line| !before.contains(line))
        .collect();
    let expected = [
        "dir \"./data\"",
        config::REWRITE_HEADING,
        "save 3600 1",
        "save 300 100",
        "save 60 10000",
    ];
    assert_eq!(added, expected);
}
