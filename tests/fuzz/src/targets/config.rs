//! Configuration files, command lines and CONFIG SET. Input: a byte of choices and text. What is accepted, written by
//! CONFIG REWRITE, gives the same configuration again.

use config::{directives, rewrite, Config, IncludeFiles, Origin, Source};
use std::io;

/// A few files to include: good, wrong, and one that includes itself.
struct Files;

impl IncludeFiles for Files {
    fn read(&self, pattern: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
        let text: &[u8] = match pattern {
            "a" => b"timeout 1\nsave 60 1\ninclude b\nhz 7",
            "b" => b"maxmemory 5gb\n",
            "c" => b"include c\ninclude a",
            "*" => return Ok(Vec::new()),
            _ => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(vec![(pattern.to_string(), text.to_vec())])
    }
}

pub fn run(input: &[u8]) {
    let Some((&choice, text)) = input.split_first() else {
        return;
    };
    match choice % 4 {
        0 => command_line(text),
        1 => set(text),
        _ => file(text),
    }
}

fn load(text: &[u8]) -> Result<Config, config::ConfigFileError> {
    let source = Source {
        name: "fuzz.conf",
        text,
    };
    Config::from_sources(Some(source), &[], &Files)
}

fn file(text: &[u8]) {
    let config = match load(text) {
        Ok(config) => config,
        Err(error) => return drop(error.to_string()),
    };
    let written = rewrite(text, &config);
    let again = load(&written)
        .unwrap_or_else(|error| panic!("{error}\nin\n{}", String::from_utf8_lossy(&written)));
    assert_same(&config, &again, &written);
    if !includes(text) {
        let twice = rewrite(&written, &again);
        assert_eq!(twice, written, "a second rewrite changes nothing");
    }
}

fn command_line(text: &[u8]) {
    let args: Vec<Vec<u8>> = text.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
    match Config::from_sources(None, &args, &Files) {
        Ok(config) => {
            let written = rewrite(b"", &config);
            let again = load(&written).expect("what was written is read");
            assert_same(&config, &again, &written);
        }
        Err(error) => drop(error.to_string()),
    }
}

/// Lines: a name, a blank, a value.
fn set(text: &[u8]) {
    let mut config = Config::default();
    for line in text.split(|&b| b == b'\n') {
        let at = line.iter().position(|&b| b == b' ').unwrap_or(line.len());
        let (name, value) = (&line[..at], line.get(at + 1..).unwrap_or_default());
        let before = config.clone();
        for origin in [Origin::Remote, Origin::Local] {
            match config.set(&[(name, value)], origin) {
                Ok(_) => {}
                Err(error) => drop(error.to_string()),
            }
        }
        if config == before {
            continue;
        }
        let written = rewrite(b"", &config);
        let again = load(&written)
            .unwrap_or_else(|error| panic!("{error}\nin\n{}", String::from_utf8_lossy(&written)));
        assert_same(&config, &again, &written);
    }
    config.get(&[text]);
}

fn includes(text: &[u8]) -> bool {
    text.windows(7)
        .any(|word| word.eq_ignore_ascii_case(b"include"))
}

fn assert_same(expected: &Config, found: &Config, text: &[u8]) {
    // Points of included files come on top, as in Redis: written again, they are there twice.
    let adds_up = |name: &str| name == "save" && includes(text);
    for row in directives().iter().filter(|row| !adds_up(row.name)) {
        assert_eq!(
            row.value(expected),
            row.value(found),
            "{} in\n{}",
            row.name,
            String::from_utf8_lossy(text)
        );
    }
}
