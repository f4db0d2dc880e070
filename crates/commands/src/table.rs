//! All commands, found by name in any case.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::command::Command;
use crate::{
    bitmaps, docs, geo, hashes, host, hyperloglog, keys, lists, pubsub, sets, sorted_sets, streams,
    strings,
};

/// A static, so that each row has one address, by which rows are told apart.
static FAMILIES: &[&[Command]] = &[
    host::COMMANDS,
    host::acl::COMMANDS,
    host::scripting::COMMANDS,
    host::observe::COMMANDS,
    pubsub::COMMANDS,
    docs::COMMANDS,
    keys::COMMANDS,
    keys::expire::COMMANDS,
    keys::relocate::COMMANDS,
    keys::iterate::COMMANDS,
    keys::sort::COMMANDS,
    keys::databases::COMMANDS,
    keys::introspect::COMMANDS,
    strings::COMMANDS,
    strings::numbers::COMMANDS,
    strings::pieces::COMMANDS,
    strings::several::COMMANDS,
    strings::lcs::COMMANDS,
    bitmaps::COMMANDS,
    bitmaps::combine::COMMANDS,
    bitmaps::fields::COMMANDS,
    hyperloglog::COMMANDS,
    geo::COMMANDS,
    geo::search::COMMANDS,
    lists::ends::COMMANDS,
    lists::blocking::COMMANDS,
    lists::positions::COMMANDS,
    sets::members::COMMANDS,
    sets::draws::COMMANDS,
    sets::algebra::COMMANDS,
    hashes::fields::COMMANDS,
    hashes::numbers::COMMANDS,
    hashes::whole::COMMANDS,
    hashes::expiry::COMMANDS,
    hashes::with_expiry::COMMANDS,
    sorted_sets::members::COMMANDS,
    sorted_sets::ranges::COMMANDS,
    sorted_sets::ends::COMMANDS,
    sorted_sets::blocking::COMMANDS,
    sorted_sets::algebra::COMMANDS,
    streams::entries::COMMANDS,
    streams::ranges::COMMANDS,
    streams::trims::COMMANDS,
    streams::groups::COMMANDS,
    streams::claims::COMMANDS,
    streams::info::COMMANDS,
    streams::read::COMMANDS,
];

/// Names are at most this long; anything longer is no command.
const NAME_BYTES_MAX: usize = 32;

/// All commands, containers among them, subcommands not.
pub fn all() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

/// The command of this name, in any case.
#[inline]
pub fn find(name: &[u8]) -> Option<&'static Command> {
    static TABLE: OnceLock<NameTable> = OnceLock::new();
    TABLE.get_or_init(|| NameTable::new(all())).find(name)
}

/// The subcommand of this name, in any case.
pub fn find_subcommand(container: &'static Command, name: &[u8]) -> Option<&'static Command> {
    container.subcommands.iter().find(|sub| {
        let own = sub.name.split_once('|').map_or(sub.name, |(_, own)| own);
        own.as_bytes().eq_ignore_ascii_case(name)
    })
}

/// The command of a name that may name a subcommand, as in `config|get`, in any case.
pub fn find_by_full_name(name: &[u8]) -> Option<&'static Command> {
    let mut parts = name.splitn(2, |&byte| byte == b'|');
    let command = find(parts.next()?)?;
    match parts.next() {
        Some(own) => find_subcommand(command, own),
        None => Some(command),
    }
}

/// Open addressing by a cheap hash of length and first bytes: a look-up is one or two compares.
struct NameTable {
    slots: Vec<Option<&'static Command>>,
}

impl NameTable {
    const SLOTS: usize = 4096;

    fn new(commands: impl Iterator<Item = &'static Command>) -> NameTable {
        let mut slots = vec![None; Self::SLOTS];
        let mut seen = HashMap::new();
        for command in commands {
            assert!(
                seen.insert(command.name, ()).is_none(),
                "two rows are named {}",
                command.name
            );
            let mut at = Self::hash(command.name.as_bytes());
            while slots[at].is_some() {
                at = (at + 1) % Self::SLOTS;
            }
            slots[at] = Some(command);
        }
        NameTable { slots }
    }

    /// Case is ignored by setting the bit that tells lowercase letters from uppercase ones.
    #[inline]
    fn hash(name: &[u8]) -> usize {
        let mut word = [0u8; 8];
        let n = name.len().min(8);
        word[..n].copy_from_slice(&name[..n]);
        let last = u64::from(name.last().copied().unwrap_or(0) | 0x20);
        let folded = u64::from_le_bytes(word) | 0x2020_2020_2020_2020;
        let mixed = (folded ^ (last << 56) ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 52) as usize
    }

    #[inline]
    fn find(&self, name: &[u8]) -> Option<&'static Command> {
        if name.len() > NAME_BYTES_MAX {
            return None;
        }
        let mut at = Self::hash(name);
        while let Some(command) = self.slots[at] {
            if command.name.as_bytes().eq_ignore_ascii_case(name) {
                return Some(command);
            }
            at = (at + 1) % Self::SLOTS;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        for command in all() {
            let found =
                |name: &str| find(name.as_bytes()).is_some_and(|c| std::ptr::eq(c, command));
            assert!(found(command.name), "{}", command.name);
            assert!(found(&command.name.to_uppercase()), "{}", command.name);
            for sub in command.subcommands {
                let own = sub.name.strip_prefix(&format!("{}|", command.name));
                let own = own.expect("a subcommand's name begins with its container's");
                assert!(
                    find_subcommand(command, own.as_bytes()).is_some_and(|c| c.name == sub.name)
                );
            }
        }
        assert!(find(b"no-such-command").is_none());
        assert!(find(b"").is_none());
    }
}
