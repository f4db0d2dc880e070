//! Reading a configuration: the lines of a file, the files it includes, and the command line.
//!
//! Options of the command line become lines that are read after the file, so they override it, except that
//! `save` points add up. Reading stops at the first line that is wrong; [`ConfigFileError`] says where.
//! `loadmodule`, whose silent loss would be dangerous, is refused, not ignored. What `user` lines say is the server's
//! to read: they are kept with their places.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::glob;
use crate::kind::Value;
use crate::settings::{Config, UserLine};
use crate::table::{self, Directive};
use crate::words::{quote, split_args, trim};
use crate::SERVER_NAME_AND_VERSION;

/// A configuration file's name, for error reports, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a [u8],
}

/// How `include` reads files; tests and simulation bring their own.
pub trait IncludeFiles {
    /// Name and text of the files that `pattern` stands for, in order of their names. A pattern with wildcards may
    /// stand for none.
    fn read(&self, pattern: &str) -> io::Result<Vec<(String, Vec<u8>)>>;
}

/// Files of the file system; relative names start at the working directory.
#[derive(Clone, Copy, Debug, Default)]
pub struct FileSystem;

/// The line of a configuration that cannot be accepted. `Display` is what a failing start prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFileError {
    /// The file's name; empty for the command line.
    pub file: String,
    /// From 1; for the command line, the option's.
    pub line: usize,
    pub text: Vec<u8>,
    pub message: String,
}

impl fmt::Display for ConfigFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "*** FATAL CONFIG FILE ERROR ({SERVER_NAME_AND_VERSION}) ***"
        )?;
        match self.file.as_str() {
            "" => writeln!(f, "Reading the command line, at option {}", self.line)?,
            file => writeln!(
                f,
                "Reading the configuration file {file}, at line {}",
                self.line
            )?,
        }
        let text = String::from_utf8_lossy(&self.text);
        write!(f, ">>> '{text}'\n{}", self.message)
    }
}

impl std::error::Error for ConfigFileError {}

/// Deeper nesting of `include` is taken for a cycle.
const INCLUDE_DEPTH_MAX: usize = 16;
/// More files than this are taken for a mistake.
const INCLUDE_FILES_MAX: usize = 1000;
/// Directives that Redis still accepts but that have no effect there either.
const IGNORED: [&[u8]; 3] = [
    b"list-max-ziplist-entries",
    b"list-max-ziplist-value",
    b"lua-replicate-commands",
];
const BAD_DIRECTIVE: &str = "Bad directive or wrong number of arguments";

impl Config {
    /// The configuration that a file and the arguments behind its name give, over the defaults.
    pub fn from_sources(
        file: Option<Source<'_>>,
        args: &[Vec<u8>],
        files: &dyn IncludeFiles,
    ) -> Result<Config, ConfigFileError> {
        let mut loader = Loader {
            config: Config::default(),
            files,
            save_seen: false,
            files_included: 0,
        };
        if let Some(source) = file {
            loader.read_text(source, 0)?;
        }
        for (index, line) in lines_of_args(args).iter().enumerate() {
            loader.read_line("", index + 1, line, 0)?;
        }
        Ok(loader.config)
    }
}

/// The configuration lines that command line arguments stand for. `--name` opens a line and what follows are its
/// words; directly behind a bare `--name` even a word that starts with `--` is a value, except for `save`, which may
/// stand alone. An argument like `--name value` carries its words itself.
fn lines_of_args(args: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut next_is_value = false;
    for (index, arg) in args.iter().enumerate() {
        let option = arg.strip_prefix(b"--").filter(|_| !next_is_value);
        let Some(option) = option else {
            if lines.is_empty() {
                lines.push(Vec::new());
            }
            let line = lines.last_mut().expect("just made sure");
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend(quote(arg));
            next_is_value = false;
            continue;
        };
        let mut line = option.to_vec();
        next_is_value = split_args(option).is_some_and(|words| words.len() == 1);
        if next_is_value && option.eq_ignore_ascii_case(b"save") {
            let alone = args
                .get(index + 1)
                .is_none_or(|next| next.starts_with(b"--"));
            if alone {
                line.extend(b" \"\"");
            }
            next_is_value = false;
        }
        lines.push(line);
    }
    lines
}

struct Loader<'a> {
    config: Config,
    files: &'a dyn IncludeFiles,
    /// The first `save` replaces the default points, the others add to it.
    save_seen: bool,
    files_included: usize,
}

impl Loader<'_> {
    fn read_text(&mut self, source: Source<'_>, depth: usize) -> Result<(), ConfigFileError> {
        for (index, line) in source.text.split(|&b| b == b'\n').enumerate() {
            self.read_line(source.name, index + 1, line, depth)?;
        }
        Ok(())
    }

    fn read_line(
        &mut self,
        file: &str,
        line: usize,
        text: &[u8],
        depth: usize,
    ) -> Result<(), ConfigFileError> {
        let text = trim(text);
        if text.is_empty() || text[0] == b'#' {
            return Ok(());
        }
        let error = |message: String| ConfigFileError {
            file: file.to_string(),
            line,
            text: text.to_vec(),
            message,
        };
        let words = split_args(text)
            .ok_or_else(|| error("Unbalanced quotes in configuration line".into()))?;
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let Some((name, values)) = words.split_first() else {
            return Ok(());
        };
        match name.to_ascii_lowercase().as_slice() {
            b"include" => self.include(values, depth, error),
            b"user" => {
                self.config.users.push(UserLine {
                    file: file.to_string(),
                    line,
                    words: values.iter().map(|word| word.to_vec()).collect(),
                });
                Ok(())
            }
            name => self.directive(name, values).map_err(error),
        }
    }

    fn directive(&mut self, name: &[u8], values: &[&[u8]]) -> Result<(), String> {
        match (name, values) {
            (b"rename-command", [old, new]) => {
                self.config
                    .rename_commands
                    .push((old.to_vec(), new.to_vec()));
                return Ok(());
            }
            (b"loadmodule", [_, ..]) => return Err("Modules are not supported".into()),
            (b"sentinel", _) => return Err("sentinel directive while not in sentinel mode".into()),
            (_, [_]) if IGNORED.contains(&name) => return Ok(()),
            _ => {}
        }
        let row = table::find(name).ok_or(BAD_DIRECTIVE)?;
        let value = row.parse(values, &row.value(&self.config))?;
        self.store(row, value, values);
        Ok(())
    }

    fn store(&mut self, row: &Directive, value: Value, values: &[&[u8]]) {
        let Value::SavePoints(points) = value else {
            row.store(&mut self.config, value);
            return;
        };
        let clears = values == [b"" as &[u8]];
        if clears || !self.save_seen {
            self.config.save.clear();
        }
        self.save_seen = true;
        self.config.save.extend(points);
    }

    fn include(
        &mut self,
        values: &[&[u8]],
        depth: usize,
        error: impl Fn(String) -> ConfigFileError,
    ) -> Result<(), ConfigFileError> {
        let [pattern] = values else {
            return Err(error(BAD_DIRECTIVE.into()));
        };
        let pattern = std::str::from_utf8(pattern)
            .map_err(|_| error("argument must be valid UTF-8".into()))?;
        if depth == INCLUDE_DEPTH_MAX {
            return Err(error(format!(
                "Includes are nested more than {INCLUDE_DEPTH_MAX} deep"
            )));
        }
        let found = self
            .files
            .read(pattern)
            .map_err(|cause| error(format!("Can't open config file '{pattern}': {cause}")))?;
        for (name, text) in found {
            self.files_included += 1;
            if self.files_included > INCLUDE_FILES_MAX {
                return Err(error(format!(
                    "More than {INCLUDE_FILES_MAX} files are included"
                )));
            }
            let source = Source {
                name: &name,
                text: &text,
            };
            self.read_text(source, depth + 1)?;
        }
        Ok(())
    }
}

impl IncludeFiles for FileSystem {
    fn read(&self, pattern: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
        let paths = match pattern.contains(['*', '?', '[']) {
            true => expand(pattern)?,
            false => vec![PathBuf::from(pattern)],
        };
        paths
            .into_iter()
            .map(|path| Ok((path.display().to_string(), std::fs::read(&path)?)))
            .collect()
    }
}

/// The existing paths that match `pattern`, sorted; wildcards may stand in any component.
fn expand(pattern: &str) -> io::Result<Vec<PathBuf>> {
    let start = if pattern.starts_with('/') { "/" } else { "" };
    let mut paths = vec![PathBuf::from(start)];
    for component in pattern.split('/').filter(|c| !c.is_empty()) {
        let mut matching = Vec::new();
        for path in paths {
            if !component.contains(['*', '?', '[']) {
                let path = path.join(component);
                matching.extend(path.exists().then_some(path));
                continue;
            }
            for name in names_in(&path)? {
                let hidden = name.starts_with('.') && !component.starts_with('.');
                if !hidden && glob::matches(component.as_bytes(), name.as_bytes(), false) {
                    matching.push(path.join(name));
                }
            }
        }
        paths = matching;
    }
    paths.sort();
    Ok(paths)
}

/// The names in a directory; none when it is not a directory.
fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let directory = match directory.as_os_str().is_empty() {
        true => Path::new("."),
        false => directory,
    };
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    struct Files(BTreeMap<&'static str, &'static str>);

    impl IncludeFiles for Files {
        fn read(&self, pattern: &str) -> io::Result<Vec<(String, Vec<u8>)>> {
            let text = self.0.get(pattern).ok_or(io::ErrorKind::NotFound)?;
            Ok(vec![(pattern.to_string(), text.as_bytes().to_vec())])
        }
    }

    fn load(text: &str) -> Result<Config, ConfigFileError> {
        let files = Files(BTreeMap::from([
            ("a", "timeout 1\ninclude b\nhz 7"),
            ("b", "timeout 2"),
            ("bad", "timeout 1\n\ntimeout x"),
            ("cycle", "include cycle"),
            ("bomb", "include bomb\ninclude bomb"),
        ]));
        let source = Source {
            name: "main.conf",
            text: text.as_bytes(),
        };
        Config::from_sources(Some(source), &[], &files)
    }

    #[track_caller]
    fn refused(text: &str, file: &str, line: usize, message: &str) {
        let error = load(text).expect_err(text);
        assert_eq!((error.file.as_str(), error.line), (file, line), "{error}");
        assert!(error.message.starts_with(message), "{error}");
    }

    #[test]
    fn included_files_are_read_where_they_are_named() {
        let config = load("hz 9\ninclude a\nloglevel debug").expect("good");
        assert_eq!((config.timeout_secs, config.hz), (2, 7));
        assert_eq!(load("include a\ntimeout 3").expect("good").timeout_secs, 3);
        refused(
            "timeout 1\ninclude bad",
            "bad",
            3,
            "argument couldn't be parsed",
        );
        refused("include cycle", "cycle", 1, "Includes are nested");
        refused("include bomb", "bomb", 1, "Includes are nested");
        refused(
            "include nosuch",
            "main.conf",
            1,
            "Can't open config file 'nosuch'",
        );
    }

    #[test]
    fn errors_look_like_those_of_redis() {
        let error = load("# c\n\nfoo bar\n").expect_err("no such directive");
        assert_eq!(
            error.to_string(),
            format!(
                "*** FATAL CONFIG FILE ERROR ({SERVER_NAME_AND_VERSION}) ***\n\
                 Reading the configuration file main.conf, at line 3\n\
                 >>> 'foo bar'\n\
                 Bad directive or wrong number of arguments"
            )
        );
    }

    #[test]
    fn what_would_be_lost_in_silence_is_refused() {
        refused("loadmodule x.so", "main.conf", 1, "Modules");
    }

    #[test]
    fn user_lines_are_kept_with_their_place() {
        let config = load("port 1\nuser bob on >x \"~a b\"\nuser carl").expect("good");
        let users: Vec<_> = config
            .users
            .iter()
            .map(|user| (&user.file[..], user.line, user.words.join(&b' ')))
            .collect();
        let bob = b"bob on >x ~a b".to_vec();
        assert_eq!(
            users,
            [("main.conf", 2, bob), ("main.conf", 3, b"carl".to_vec())]
        );
    }

    #[test]
    fn renamed_commands_are_kept() {
        let config = load("rename-command FLUSHALL \"\"\nrename-command KEYS k").expect("good");
        let names: Vec<_> = config
            .rename_commands
            .iter()
            .map(|(old, new)| (&old[..], &new[..]))
            .collect();
        assert_eq!(names, [(&b"FLUSHALL"[..], &b""[..]), (b"KEYS", b"k")]);
    }

    #[test]
    fn changed_directives_without_a_meaning_are_named() {
        let config = load("jemalloc-bg-thread no\ntls-port 0\ntimeout 5").expect("good");
        assert_eq!(config.accepted_only_in_use(), ["jemalloc-bg-thread"]);
    }

    #[test]
    fn patterns_of_includes_are_expanded_in_order() {
        let directory = std::env::temp_dir().join(format!("config-include-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("d")).expect("create");
        for name in ["d/2.conf", "d/1.conf", "d/.hidden.conf", "d/3.txt"] {
            std::fs::write(directory.join(name), name).expect("write");
        }
        let read =
            |pattern: &str| FileSystem.read(directory.join(pattern).to_str().expect("UTF-8"));
        let texts = |pattern: &str| -> Vec<Vec<u8>> {
            read(pattern)
                .expect(pattern)
                .into_iter()
                .map(|(_, text)| text)
                .collect()
        };
        assert_eq!(texts("d/*.conf"), [b"d/1.conf", b"d/2.conf"]);
        assert_eq!(texts("?/[23].*"), [&b"d/2.conf"[..], b"d/3.txt"]);
        assert_eq!(texts("d/2.conf"), [b"d/2.conf"]);
        assert!(texts("d/*.nosuch").is_empty());
        assert!(texts("nosuch*/x").is_empty());
        assert_eq!(
            read("d/nosuch").expect_err("missing").kind(),
            io::ErrorKind::NotFound
        );
        std::fs::remove_dir_all(&directory).expect("remove");
    }
}
