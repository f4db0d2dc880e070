//! CONFIG GET and CONFIG SET over a `Config`, with Redis's answers.

use std::collections::HashSet;
use std::fmt;

use crate::choices::LocalAccess;
use crate::glob;
use crate::kind::Value;
use crate::settings::Config;
use crate::table::{self, Directive, Flags};

/// Where a CONFIG SET comes from; `enable-protected-configs local` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A connection from this machine.
    Local,
    Remote,
}

/// Why a CONFIG SET was refused. `Display` is the text of the error reply, behind its `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetError {
    /// No directive has this name.
    UnknownOption { name: Vec<u8> },
    /// The argument called `name` was refused.
    Failed { name: Vec<u8>, reason: String },
}

impl SetError {
    /// For a value that is valid but could not be put into effect (a port that is taken, a missing directory).
    pub fn failed(name: &str, reason: impl Into<String>) -> SetError {
        SetError::Failed {
            name: name.as_bytes().to_vec(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An error reply is one line: Redis puts blanks for line ends.
        let shown = |name: &[u8]| String::from_utf8_lossy(name).replace(['\r', '\n'], " ");
        match self {
            SetError::UnknownOption { name } => write!(
                f,
                "ERR Unknown option or number of arguments for CONFIG SET - '{}'",
                shown(name)
            ),
            SetError::Failed { name, reason } => write!(
                f,
                "ERR CONFIG SET failed (possibly related to argument '{}') - {reason}",
                shown(name)
            ),
        }
    }
}

impl std::error::Error for SetError {}

impl Config {
    /// Sets all `pairs` of name and value, or none if one is refused. Returns the names of the directives whose value
    /// is another than before, in the order given. Side effects are the caller's: set on a clone, act, then publish.
    pub fn set(
        &mut self,
        pairs: &[(&[u8], &[u8])],
        origin: Origin,
    ) -> Result<Vec<&'static str>, SetError> {
        let rows = self.settable_rows(pairs, origin)?;
        let mut changed_config = self.clone();
        for (&(name, row), &(_, text)) in rows.iter().zip(pairs) {
            let value = changed_config
                .parse_for_set(row, text)
                .map_err(|reason| SetError::failed(name, reason))?;
            row.store(&mut changed_config, value);
        }
        let mut changed = Vec::new();
        for &(_, row) in &rows {
            if row.value(self) != row.value(&changed_config) && !changed.contains(&row.name) {
                changed.push(row.name);
            }
        }
        *self = changed_config;
        Ok(changed)
    }

    /// The row of each pair under the name it was given. All names are checked before any value.
    fn settable_rows(
        &self,
        pairs: &[(&[u8], &[u8])],
        origin: Origin,
    ) -> Result<Vec<(&'static str, &'static Directive)>, SetError> {
        let protected_allowed = match self.enable_protected_configs {
            LocalAccess::Yes => true,
            LocalAccess::Local => origin == Origin::Local,
            LocalAccess::No => false,
        };
        let mut rows: Vec<(&'static str, &'static Directive)> = Vec::with_capacity(pairs.len());
        for &(name, _) in pairs {
            let refused = |reason: &str| SetError::Failed {
                name: name.to_vec(),
                reason: reason.into(),
            };
            let Some((canonical, row)) = find_with_name(name) else {
                return Err(SetError::UnknownOption {
                    name: name.to_vec(),
                });
            };
            if row.flags.contains(Flags::IMMUTABLE) {
                return Err(refused("can't set immutable config"));
            }
            if row.flags.contains(Flags::PROTECTED) && !protected_allowed {
                return Err(refused("can't set protected config"));
            }
            // A name and its old name may both be given; the later one wins.
            if rows.iter().any(|&(other, _)| other == canonical) {
                return Err(refused("duplicate parameter"));
            }
            rows.push((canonical, row));
        }
        Ok(rows)
    }

    fn parse_for_set(&self, row: &Directive, text: &[u8]) -> Result<Value, String> {
        row.parse(&[text], &row.value(self))
    }

    /// Name and value of every directive that matches one of `patterns`, each once. A pattern without wildcards finds
    /// hidden directives too, and is shown as it was written.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(String, Vec<u8>)> {
        let mut shown: Vec<(String, Vec<u8>)> = Vec::new();
        let mut seen = HashSet::new();
        let mut add = |shown_name: String, row: &Directive| {
            if seen.insert(shown_name.to_ascii_lowercase()) {
                shown.push((shown_name, row.value(self).to_text()));
            }
        };
        for pattern in patterns {
            if !pattern.iter().any(|b| b"*?[".contains(b)) {
                if let Some(row) = table::find(pattern) {
                    add(String::from_utf8_lossy(pattern).into_owned(), row);
                }
                continue;
            }
            for row in table::directives() {
                if row.flags.contains(Flags::HIDDEN) {
                    continue;
                }
                for name in [Some(row.name), row.old_name].into_iter().flatten() {
                    if glob::matches(pattern, name.as_bytes(), true) {
                        add(name.to_string(), row);
                    }
                }
            }
        }
        shown
    }

    /// The value of one directive as CONFIG GET shows it.
    pub fn value_of(&self, name: &str) -> Option<Vec<u8>> {
        Some(table::find(name.as_bytes())?.value(self).to_text())
    }

    /// Directives that nothing in the server looks at and that were nevertheless changed.
    pub fn accepted_only_in_use(&self) -> Vec<&'static str> {
        self.accepted.keys().copied().collect()
    }
}

/// The row called `name`, with that one of its names in lowercase.
fn find_with_name(name: &[u8]) -> Option<(&'static str, &'static Directive)> {
    let row = table::find(name)?;
    let is_old = row
        .old_name
        .is_some_and(|old| name.eq_ignore_ascii_case(old.as_bytes()));
    Some((row.old_name.filter(|_| is_old).unwrap_or(row.name), row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protected_directives_ask_where_the_client_is() {
        let pair: &[(&[u8], &[u8])] = &[(b"dir", b"/data")];
        for (allowed, local, remote) in [
            (LocalAccess::No, false, false),
            (LocalAccess::Local, true, false),
            (LocalAccess::Yes, true, true),
        ] {
            for (origin, expected) in [(Origin::Local, local), (Origin::Remote, remote)] {
                let mut config = Config {
                    enable_protected_configs: allowed,
                    ..Config::default()
                };
                assert_eq!(
                    config.set(pair, origin).is_ok(),
                    expected,
                    "{allowed:?} {origin:?}"
                );
            }
        }
    }

    #[test]
    fn own_directives() {
        let mut config = Config::default();
        let mut set = |name: &str, value: &str| {
            config
                .set(&[(name.as_bytes(), value.as_bytes())], Origin::Remote)
                .map_err(|error| error.to_string())
        };
        assert_eq!(set("cross-shard", "message"), Ok(vec!["cross-shard"]));
        assert_eq!(set("cross-shard", "Message"), Ok(vec![]));
        assert_eq!(set("rdb-save-threads", "4"), Ok(vec!["rdb-save-threads"]));
        assert!(set("rdb-save-threads", "1025").is_err());
        assert!(set("rdb-save-threads", "many").is_err());
        assert!(set("shards", "2").is_err(), "immutable");
        assert_eq!(config.value_of("rdb-save-threads"), Some(b"4".to_vec()));
        assert_eq!(config.value_of("shards"), Some(b"auto".to_vec()));
    }
}
