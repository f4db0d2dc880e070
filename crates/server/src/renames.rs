//! `rename-command`: commands that clients find under another name, or not at all. Everything
//! that is not typed by a client (the log, COMMAND) keeps the commands' own names.

use std::collections::HashMap;

use commands::Command;

pub struct Renames {
    /// In lowercase: new names with their commands, and names that are gone.
    names: HashMap<Vec<u8>, Option<&'static Command>>,
}

impl Renames {
    /// Works out the `rename-command` lines, in their order. None if there are none.
    pub fn new(lines: &[(Vec<u8>, Vec<u8>)]) -> Result<Option<Renames>, String> {
        let mut renames = Renames {
            names: HashMap::new(),
        };
        for (old, new) in lines {
            let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            let command = renames
                .find(old)
                .ok_or_else(|| format!("rename-command: no such command '{}'", shown(old)))?;
            if !new.is_empty() && renames.find(new).is_some() {
                return Err(format!(
                    "rename-command: the name '{}' is taken",
                    shown(new)
                ));
            }
            renames.names.insert(old.to_ascii_lowercase(), None);
            if !new.is_empty() {
                renames
                    .names
                    .insert(new.to_ascii_lowercase(), Some(command));
            }
        }
        Ok((!renames.names.is_empty()).then_some(renames))
    }

    /// The command that clients call so, in any case.
    pub fn find(&self, name: &[u8]) -> Option<&'static Command> {
        match self.names.get(&name.to_ascii_lowercase()) {
            Some(renamed) => *renamed,
            None => commands::find(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renames(lines: &[(&str, &str)]) -> Result<Option<Renames>, String> {
        let lines: Vec<_> = lines
            .iter()
            .map(|(old, new)| (old.as_bytes().to_vec(), new.as_bytes().to_vec()))
            .collect();
        Renames::new(&lines)
    }

    #[test]
    fn names_move_and_vanish() {
        let renames = renames(&[("FLUSHALL", ""), ("config", "cfg"), ("get", "config")])
            .expect("sound")
            .expect("some");
        let name = |called: &str| renames.find(called.as_bytes()).map(|command| command.name);
        assert_eq!(name("flushall"), None);
        assert_eq!(name("CFG"), Some("config"));
        assert_eq!(name("Config"), Some("get"));
        assert_eq!(name("get"), None);
        assert_eq!(name("set"), Some("set"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(renames(&[]).expect("sound").is_none());
        assert!(renames(&[("nosuch", "x")]).is_err());
        assert!(renames(&[("get", "set")]).is_err());
        assert!(renames(&[("get", ""), ("get", "fetch")]).is_err());
    }
}
