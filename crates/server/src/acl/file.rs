//! Users as text: `user NAME RULE...`, one to a line, in an ACL file or in the configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use config::{AclPubsubDefault, Config};

use super::rules::{join_selectors, User, DEFAULT_USER};

pub type Users = BTreeMap<Vec<u8>, Arc<User>>;

pub fn all_channels(config: &Config) -> bool {
    config.acl_pubsub_default == AclPubsubDefault::Allchannels
}

/// Adds the user of a declaration, given as its words without `user`. The default user may be declared once more.
pub fn declare(users: &mut Users, words: &[Vec<u8>], config: &Config) -> Result<(), String> {
    let Some((name, rules)) = words.split_first() else {
        return Err("Error in user declaration: a user has a name".into());
    };
    let shown = String::from_utf8_lossy(name).into_owned();
    if name.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
        return Err(format!(
            "Error in user declaration '{shown}': a name has no blanks"
        ));
    }
    let mut user = match users.get(name) {
        Some(known) if *name == DEFAULT_USER => {
            let mut user = User::clone(known);
            user.apply(b"reset", all_channels(config))
                .expect("a rule of ours");
            user
        }
        Some(_) => return Err(format!("Error in user declaration '{shown}': Duplicate user found. A user can only be defined once in config files")),
        None => User::new(name, all_channels(config)),
    };
    let rules: Vec<&[u8]> = rules.iter().map(Vec::as_slice).collect();
    let rules = join_selectors(&rules).map_err(|start| {
        let start = String::from_utf8_lossy(&start).into_owned();
        format!("Error in user declaration '{shown}': Unmatched parenthesis in acl selector starting at '{start}'.")
    })?;
    for rule in rules {
        user.apply(&rule, all_channels(config)).map_err(|error| {
            let rule = String::from_utf8_lossy(&rule).into_owned();
            format!(
                "Error in user declaration '{shown}', at '{rule}': {}",
                error.text()
            )
        })?;
    }
    users.insert(name.clone(), Arc::new(user));
    Ok(())
}

/// The users of an ACL file. The error names each line that is wrong.
pub fn load(path: &Path, config: &Config) -> Result<Users, String> {
    let text = std::fs::read(path).map_err(|error| {
        format!(
            "Error loading ACLs, opening file '{}': {error}",
            path.display()
        )
    })?;
    parse(&text, &path.display().to_string(), config)
}

pub fn parse(text: &[u8], file: &str, config: &Config) -> Result<Users, String> {
    let mut users = Users::new();
    let mut errors = String::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let words: Vec<Vec<u8>> = line
            .split(|b| b.is_ascii_whitespace())
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec)
            .collect();
        let result = match words.split_first() {
            Some((first, words)) if first == b"user" => declare(&mut users, words, config),
            _ => Err("line should start with user keyword followed by the username".into()),
        };
        if let Err(error) = result {
            errors += &format!("{file}:{}: {error}. ", index + 1);
        }
    }
    if !errors.is_empty() {
        return Err(format!("{errors}WARNING: ACL errors detected, no change to the previously active ACL rules was performed"));
    }
    users
        .entry(DEFAULT_USER.to_vec())
        .or_insert_with(|| Arc::new(User::default_user()));
    Ok(users)
}

/// The text of an ACL file with these users.
pub fn to_text(users: &Users) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, user) in users {
        text.extend([b"user ", &name[..], b" ", &user.to_text(), b"\n"].concat());
    }
    text
}
