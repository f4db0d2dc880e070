//! FUNCTION and FCALL: libraries of functions.

use std::sync::Arc;

use commands::{args, Command, CommandError, CommandResult};
use keyspace::Shard;
use persistence::rdb::dump;
use resp::Argv;
use scripting::source::library_head;

use super::Host;
use crate::scripts::libraries::{Libraries, Library, Policy, HOME};
use crate::scripts::{count_of_keys, Program};
use crate::worker::connection::Connection;
use crate::worker::route::ShardSet;
use crate::worker::Worker;

const NO_FUNCTION: CommandError = CommandError::new("ERR Function not found");
const NO_LIBRARY: CommandError = CommandError::new("ERR Library not found");
const BAD_KEYS: CommandError = CommandError::new("ERR Bad number of keys provided");
const FLUSH_MODE: CommandError =
    CommandError::new("ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
const NO_NAME_GIVEN: CommandError = CommandError::new("ERR library name argument was not given");
const WRONG_POLICY: CommandError = CommandError::new(
    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
);

fn too_many(name: &str) -> CommandError {
    format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try FUNCTION HELP.")
        .into()
}

fn unknown(what: &str, word: &[u8]) -> CommandError {
    format!("ERR Unknown {what} {}", String::from_utf8_lossy(word)).into()
}

impl Worker {
    pub(super) fn fcall(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        self.check_free()?;
        let libraries = self.libraries();
        let Some((library, place)) = libraries.function(argv.arg(1)) else {
            return Err(NO_FUNCTION);
        };
        if commands::args::integer_or(argv.arg(2), BAD_KEYS).is_err() {
            return Err(BAD_KEYS);
        }
        let keys = count_of_keys(argv)?;
        self.load_here(library)?;
        let program = Program::Function(library.clone(), *place);
        self.run_program(c, command, program, argv, keys, situation)
    }

    pub(super) fn function_load(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        self.check_free()?;
        let options = argv.len() - 3;
        let mut replaces = false;
        for n in 2..2 + options {
            match args::is(argv.arg(n), "replace") {
                true => replaces = true,
                false => {
                    let word = String::from_utf8_lossy(argv.arg(n));
                    return Err(format!("ERR Unknown option given: {word}").into());
                }
            }
        }
        let code = argv.arg(argv.len() - 1);
        let name = library_head(code)?.name;
        let exists =
            |libraries: &Libraries| match !replaces && libraries.by_name.contains_key(&name) {
                true => {
                    let name = String::from_utf8_lossy(&name);
                    Err(CommandError::from(format!(
                        "ERR Library '{name}' already exists"
                    )))
                }
                false => Ok(()),
            };
        exists(&self.libraries())?;
        let server = self.server;
        let library = server.scripts.libraries.make(self.script_engine(), code)?;
        self.change_functions(c, situation, argv, |libraries| {
            exists(libraries)?;
            Ok(libraries
                .add(library.clone(), replaces)
                .map_err(|text| format!("ERR {text}"))?)
        })?;
        c.reply().bulk(&name);
        Ok(())
    }

    pub(super) fn function_delete(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        self.change_functions(c, situation, argv, |libraries| {
            libraries.remove(argv.arg(2)).map(drop).ok_or(NO_LIBRARY)
        })?;
        c.reply().ok();
        Ok(())
    }

    pub(super) fn function_flush(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        match argv.get(2) {
            _ if argv.len() > 3 => return Err(too_many("FLUSH")),
            Some(mode) if !args::is(mode, "async") && !args::is(mode, "sync") => {
                return Err(FLUSH_MODE)
            }
            _ => {}
        }
        self.change_functions(c, situation, argv, |libraries| {
            *libraries = Libraries::default();
            Ok(())
        })?;
        c.reply().ok();
        Ok(())
    }

    pub(super) fn function_restore(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        self.check_free()?;
        if argv.len() > 4 {
            return Err(too_many("RESTORE"));
        }
        let policy = Policy::of(argv.get(3)).ok_or(WRONG_POLICY)?;
        let codes = dump::load_functions(argv.arg(2)).map_err(|error| match error {
            dump::DumpError::VersionOrChecksum => commands::errors::BAD_PAYLOAD,
            dump::DumpError::Value(_) => CommandError::new("ERR given type is not a function"),
        })?;
        let server = self.server;
        let mut made: Vec<Arc<Library>> = Vec::new();
        for code in &codes {
            made.push(server.scripts.libraries.make(self.script_engine(), code)?);
        }
        self.change_functions(c, situation, argv, |libraries| {
            let mut made = made.iter();
            let next = |_: &[u8]| Ok(made.next().expect("one for each code").clone());
            Ok(policy
                .restore(libraries, &codes, next)
                .map_err(|text| format!("ERR {text}"))?)
        })?;
        c.reply().ok();
        Ok(())
    }

    /// Changes what libraries there are, for all workers, and logs the request.
    fn change_functions(
        &mut self,
        c: &mut Connection,
        situation: Host<'_, '_>,
        argv: Argv<'_>,
        change: impl FnOnce(&mut Libraries) -> CommandResult,
    ) -> CommandResult {
        let registry = &self.server.scripts.libraries;
        let db = c.db;
        let apply = |shard: &mut Shard| {
            let mut libraries = (*registry.current()).clone();
            change(&mut libraries)?;
            registry.publish(libraries);
            shard.dirty += 1;
            shard.log.append_args(db, argv.iter());
            Ok(())
        };
        let result = match situation {
            Host::InTransaction(view) => apply(view.shard_mut(HOME)),
            Host::Alone => {
                let mut shards = ShardSet::new(self.server.slots);
                shards.add(HOME);
                let start = c.out.len();
                let mut guards = self.take_free_batons(&shards)?;
                let marks = vec![guards[0].1.log.mark()];
                let result = apply(&mut guards[0].1);
                self.note_shown(c, start, &mut guards, &marks, &[]);
                self.release_all(guards);
                result
            }
        };
        // Forgets here what is gone, or was made in vain.
        self.libraries();
        result
    }

    pub(super) fn function_dump(&mut self, c: &mut Connection) -> CommandResult {
        let libraries = self.server.scripts.libraries.current();
        let codes = libraries.by_name.values().map(|library| &*library.code);
        let payload = dump::dump_functions(codes, self.config.rdbcompression);
        c.reply().bulk(&payload);
        Ok(())
    }

    pub(super) fn function_list(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let (mut pattern, mut with_code) = (None, false);
        let mut at = 2;
        while let Some(word) = argv.get(at) {
            if args::is(word, "withcode") && !with_code {
                with_code = true;
            } else if args::is(word, "libraryname") && pattern.is_none() {
                at += 1;
                pattern = Some(argv.get(at).ok_or(NO_NAME_GIVEN)?);
            } else {
                return Err(unknown("argument", word));
            }
            at += 1;
        }
        let libraries = self.server.scripts.libraries.current();
        let wanted = |library: &&Arc<Library>| {
            // Redis ignores case here.
            pattern.is_none_or(|pattern| datatypes::glob::matches(pattern, &library.name, true))
        };
        let shown: Vec<_> = libraries.by_name.values().filter(wanted).collect();
        let mut reply = c.reply();
        reply.array(shown.len());
        for library in shown {
            reply.map(3 + usize::from(with_code));
            reply.bulk(b"library_name");
            reply.bulk(&library.name);
            reply.bulk(b"engine");
            reply.bulk(b"LUA");
            reply.bulk(b"functions");
            reply.array(library.functions.len());
            for function in &library.functions {
                reply.map(3);
                reply.bulk(b"name");
                reply.bulk(&function.name);
                reply.bulk(b"description");
                reply.bulk_or_null(function.description.as_deref());
                reply.bulk(b"flags");
                let flags: Vec<_> = scripting::flags::names(function.flags).collect();
                reply.set(flags.len());
                flags.iter().for_each(|flag| reply.simple(flag));
            }
            if with_code {
                reply.bulk(b"library_code");
                reply.bulk(&library.code);
            }
        }
        Ok(())
    }

    pub(super) fn function_stats(&mut self, c: &mut Connection) -> CommandResult {
        let scripts = &self.server.scripts;
        let libraries = scripts.libraries.current();
        let running = scripts.slow_function();
        let now = self.now;
        let mut reply = c.reply();
        reply.map(2);
        reply.bulk(b"running_script");
        match running {
            None => reply.null(),
            Some(about) => {
                reply.map(3);
                reply.bulk(b"name");
                reply.bulk(&about.name);
                reply.bulk(b"command");
                reply.array(about.command.len());
                about.command.iter().for_each(|arg| reply.bulk(arg));
                reply.bulk(b"duration_ms");
                reply.integer(now.0 - about.began_ms);
            }
        }
        reply.bulk(b"engines");
        reply.map(1);
        reply.bulk(b"LUA");
        reply.map(2);
        reply.bulk(b"libraries_count");
        reply.integer(libraries.by_name.len() as i64);
        reply.bulk(b"functions_count");
        reply.integer(libraries.function_count() as i64);
        Ok(())
    }
}
