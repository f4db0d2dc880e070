//! No bytes make the parser, CONFIG SET, GET or REWRITE panic; what REWRITE writes reads back as the same `Config`.
//! A failure prints the shrunk input; `PROPTEST_CASES=100000 cargo test -p config --test properties` searches longer.

use std::io;

use config::{directives, rewrite, Config, IncludeFiles, Origin, Source};
use proptest::prelude::*;

/// Includes nothing but itself, so that cycles are met too.
struct Cycle(Vec<u8>);

impl IncludeFiles for Cycle {
    fn read(&self, pattern: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
        match pattern {
            "none" => Err(io::ErrorKind::NotFound.into()),
            _ => Ok(vec![(pattern.into(), self.0.clone())]),
        }
    }
}

fn load(text: &[u8], args: &[Vec<u8>]) -> Option<Config> {
    let source = Source { name: "t", text };
    Config::from_sources(Some(source), args, &Cycle(text.to_vec())).ok()
}

/// A directive's name, in any case, or something like one.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(
        directives()
            .iter()
            .flat_map(|row| [Some(row.name), row.old_name])
            .flatten()
            .chain(["include", "rename-command", "user", "loadmodule", ""])
            .collect::<Vec<_>>(),
    );
    prop_oneof![
        8 => known.clone().prop_map(|name| name.as_bytes().to_vec()),
        1 => known.prop_map(|name| name.to_uppercase().into_bytes()),
        1 => any::<Vec<u8>>(),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    let likely = prop::sample::select(vec![
        "",
        "yes",
        "no",
        "0",
        "1",
        "-1",
        "5",
        "777",
        "auto",
        "100mb",
        "1k",
        "50%",
        "local",
        "a b",
        "60 1 50 1",
        "normal 1mb 2 3",
        "nosave force",
        "KEA",
        "1 2 3",
        "127.0.0.1 -::1",
        "h 7000",
        "{title} x",
        "a\"b\n'c",
        "\\",
        "always",
        "debug",
        "epoll",
        "threads",
        "99999999999999999999",
    ]);
    prop_oneof![
        8 => likely.prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<Vec<u8>>(),
        1 => any::<i64>().prop_map(|number| number.to_string().into_bytes()),
    ]
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (name(), value(), any::<bool>()).prop_map(|(name, value, quoted)| {
            let value = if quoted { config::quote(&value) } else { value };
            [name, b" ".to_vec(), value].concat()
        }),
        1 => Just(b"# a comment".to_vec()),
        1 => Just(Vec::new()),
        1 => any::<Vec<u8>>(),
    ]
}

/// A text of lines that are each acceptable by themselves.
fn good_text() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(line(), 0..12).prop_map(|lines| {
        lines
            .into_iter()
            .filter(|line| !line.starts_with(b"include") && load(line, &[]).is_some())
            .collect::<Vec<_>>()
            .join(&b'\n')
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text: Vec<u8>, args: Vec<Vec<u8>>) {
        let _ = load(&text, &args);
        if let Err(error) = Config::from_sources(None, &args, &Cycle(text)) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_lines_are_read_or_refused(lines in prop::collection::vec(line(), 0..8), args in prop::collection::vec(line(), 0..4)) {
        let args: Vec<Vec<u8>> = args.into_iter().map(|arg| [b"--".to_vec(), arg].concat()).collect();
        let _ = load(&lines.join(&b'\n'), &args);
    }

    #[test]
    fn set_changes_all_or_nothing(pairs in prop::collection::vec((name(), value()), 0..4), pattern in name()) {
        let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|(n, v)| (n.as_slice(), v.as_slice())).collect();
        let mut config = Config::default();
        match config.set(&pairs, Origin::Local) {
            Ok(changed) => for row in directives() {
                prop_assert_eq!(changed.contains(&row.name), row.value(&config) != row.default_value(), "{}", row.name);
            },
            Err(error) => {
                prop_assert_eq!(&config, &Config::default());
                prop_assert!(error.to_string().starts_with("ERR "));
            }
        }
        config.get(&[&pattern]);
    }

    /// What CONFIG GET shows is accepted by CONFIG SET and changes nothing.
    #[test]
    fn shown_values_are_accepted(name in name(), value in value()) {
        let mut config = Config::default();
        if config.set(&[(&name, &value)], Origin::Local).is_ok() {
            let shown = config.get(&[&name])[0].1.clone();
            prop_assert_eq!(config.set(&[(&name, &shown)], Origin::Local), Ok(vec![]));
        }
    }

    #[test]
    fn rewritten_text_reads_back(text in good_text(), pairs in prop::collection::vec((name(), value()), 0..6)) {
        let mut config = load(&text, &[]).expect("every line is acceptable");
        for (name, value) in &pairs {
            let _ = config.set(&[(name, value)], Origin::Local);
        }
        let written = rewrite(&text, &config);
        let shown = String::from_utf8_lossy(&written).into_owned();
        let read = load(&written, &[]);
        prop_assert_eq!(read.as_ref(), Some(&config), "{}", shown);
        prop_assert_eq!(rewrite(&written, &config), written, "rewriting again changes nothing");
    }

    #[test]
    fn any_text_can_be_rewritten(text: Vec<u8>) {
        rewrite(&text, &Config::default());
    }
}
