//! COMMAND: what the rows say about commands, told to clients.

use datatypes::glob;
use resp::{Argv, Reply};

use crate::acl::Categories;
use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::Ctx;
use crate::errors::{
    CommandError, CommandResult, GETKEYS_ARITY, GETKEYS_COMMAND, GETKEYS_INVALID, GETKEYS_NO_KEYS,
    SYNTAX,
};
use crate::help;
use crate::key_spec::{Find, KeySpec};
use crate::table;

mod describe;
mod syntax;
#[cfg(test)]
mod tests;

const ROW: Command = Command {
    since: "2.8.13",
    group: Group::Server,
    flags: Flags::LOADING.union(Flags::STALE),
    categories: Categories::CONNECTION,
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[Command {
    name: "command",
    summary: "Describes all commands.",
    complexity: "O(N) with N commands",
    arity: -1,
    run: Run::Nowhere(info_of_all),
    tips: &["nondeterministic_output_order"],
    subcommands: &[
        Command {
            name: "command|count",
            summary: "Counts the commands.",
            arity: 2,
            run: Run::Nowhere(count),
            ..ROW
        },
        Command {
            name: "command|docs",
            summary: "Replies the documentation of commands.",
            since: "7.0.0",
            complexity: "O(N) with N commands",
            arity: -2,
            syntax: "[command-name [command-name ...]]",
            run: Run::Nowhere(docs),
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
        Command {
            name: "command|getkeys",
            summary: "Replies the keys that a request is about.",
            complexity: "O(N) with N arguments of the request",
            arity: -3,
            syntax: "command [arg [arg ...]]",
            run: Run::Nowhere(getkeys),
            ..ROW
        },
        Command {
            name: "command|getkeysandflags",
            summary: "Replies the keys that a request is about, and what it does with each.",
            since: "7.0.0",
            complexity: "O(N) with N arguments of the request",
            arity: -3,
            syntax: "command [arg [arg ...]]",
            run: Run::Nowhere(getkeysandflags),
            ..ROW
        },
        Command {
            name: "command|help",
            summary: "Lists the subcommands.",
            since: "5.0.0",
            arity: 2,
            run: Run::Nowhere(help::reply),
            ..ROW
        },
        Command {
            name: "command|info",
            summary: "Describes commands.",
            complexity: "O(N) with N commands",
            arity: -2,
            syntax: "[command-name [command-name ...]]",
            run: Run::Nowhere(info),
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
        Command {
            name: "command|list",
            summary: "Replies the names of commands, all or those that a filter lets through.",
            since: "7.0.0",
            complexity: "O(N) with N commands",
            arity: -2,
            syntax: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
            run: Run::Nowhere(list),
            tips: &["nondeterministic_output_order"],
            ..ROW
        },
    ],
    ..ROW
}];

fn count(c: &mut Ctx<'_, '_>) -> CommandResult {
    c.reply.integer(table::all().count() as i64);
    Ok(())
}

fn info_of_all(c: &mut Ctx<'_, '_>) -> CommandResult {
    c.reply.array(table::all().count());
    table::all().for_each(|command| describe::info(&mut c.reply, command));
    Ok(())
}

fn info(c: &mut Ctx<'_, '_>) -> CommandResult {
    let names = c.argv.from(2);
    if names.is_empty() {
        return info_of_all(c);
    }
    c.reply.array(names.len());
    for name in names.iter() {
        match table::find_by_full_name(name) {
            Some(command) => describe::info(&mut c.reply, command),
            None => c.reply.null(),
        }
    }
    Ok(())
}

fn docs(c: &mut Ctx<'_, '_>) -> CommandResult {
    let names = c.argv.from(2);
    let found: Vec<&Command> = if names.is_empty() {
        table::all().collect()
    } else {
        names.iter().filter_map(table::find_by_full_name).collect()
    };
    describe::docs(&mut c.reply, found.into_iter());
    Ok(())
}

fn list(c: &mut Ctx<'_, '_>) -> CommandResult {
    let filter: Box<dyn Fn(&Command) -> bool> = match (c.argv.len(), c.argv.get(3), c.argv.get(4)) {
        (2, ..) => Box::new(|_| true),
        (5, Some(by), Some(value)) if args::is(c.argv.arg(2), "filterby") => match by {
            by if args::is(by, "module") => Box::new(|_| false),
            by if args::is(by, "aclcat") => match Categories::from_name_ignoring_case(value) {
                Some(category) => Box::new(move |c| c.acl_categories().contains(category)),
                None => Box::new(|_| false),
            },
            by if args::is(by, "pattern") => {
                Box::new(move |c| glob::matches(value, c.name.as_bytes(), true))
            }
            _ => return Err(SYNTAX),
        },
        _ => return Err(SYNTAX),
    };
    let rows = table::all().flat_map(|c| std::iter::once(c).chain(c.subcommands));
    let names: Vec<&str> = rows.filter(|c| filter(c)).map(|c| c.name).collect();
    c.reply.array(names.len());
    names.iter().for_each(|name| c.reply.bulk(name.as_bytes()));
    Ok(())
}

fn getkeys(c: &mut Ctx<'_, '_>) -> CommandResult {
    let request = c.argv.from(2);
    let keys = keys_of(request)?;
    c.reply.array(keys.len());
    for (index, _) in keys {
        c.reply.bulk(request.arg(index));
    }
    Ok(())
}

fn getkeysandflags(c: &mut Ctx<'_, '_>) -> CommandResult {
    let request = c.argv.from(2);
    let keys = keys_of(request)?;
    c.reply.array(keys.len());
    for (index, flags) in keys {
        c.reply.array(2);
        c.reply.bulk(request.arg(index));
        c.reply.set(flags.len());
        flags.iter().for_each(|flag| c.reply.simple(flag));
    }
    Ok(())
}

/// The arguments of a request that are keys, each with what is done with it.
fn keys_of(request: Argv<'_>) -> Result<Vec<(usize, &'static [&'static str])>, CommandError> {
    let mut command = table::find(request.arg(0)).ok_or(GETKEYS_COMMAND)?;
    if let Some(name) = request.get(1).filter(|_| !command.subcommands.is_empty()) {
        command = table::find_subcommand(command, name).ok_or(GETKEYS_COMMAND)?;
    }
    if command.keys.is_empty() {
        return Err(GETKEYS_NO_KEYS);
    }
    if !command.accepts_arity(request.len()) {
        return Err(GETKEYS_ARITY);
    }
    let mut keys = Vec::new();
    let unknown = |spec: &KeySpec| matches!(spec.begin, crate::Begin::Unknown);
    if let Some(keys_in) = command.keys_in.filter(|_| command.keys.iter().any(unknown)) {
        keys_in(request, &mut |index, flags| keys.push((index, flags)));
        return Ok(keys);
    }
    for spec in command.keys {
        if !is_count_sound(spec, request) {
            return match command.flags.contains(Flags::NO_MANDATORY_KEYS) {
                true => Ok(Vec::new()),
                false => Err(GETKEYS_INVALID),
            };
        }
        let flags = command.flags_of(spec, request);
        spec.for_each(request, |index| keys.push((index, flags)));
    }
    Ok(keys)
}

/// Whether a spec that counts its keys finds as many as the request promises, and at least one.
fn is_count_sound(spec: &KeySpec, request: Argv<'_>) -> bool {
    let (crate::Begin::Index(begin), Find::Count { count_at, .. }) = (spec.begin, spec.find) else {
        return true;
    };
    let promised = request
        .get(begin + count_at)
        .and_then(datatypes::number::parse_i64);
    let mut found = 0;
    spec.for_each(request, |_| found += 1);
    found > 0 && promised == Some(found)
}

/// Writes a set of words as statuses.
fn words<'w>(reply: &mut Reply<'_>, words: impl ExactSizeIterator<Item = &'w str>) {
    reply.set(words.len());
    words.for_each(|word| reply.simple(word));
}
