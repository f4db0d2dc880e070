//! SCRIPT: the cache of scripts.

use commands::{args, CommandError, CommandResult};
use resp::Argv;
use scripting::ScriptSha;

use crate::scripts::Kind;
use crate::worker::connection::Connection;
use crate::worker::Worker;

const FLUSH_MODE: CommandError =
    CommandError::new("ERR SCRIPT FLUSH only support SYNC|ASYNC option");
const DEBUG_MODE: CommandError = CommandError::new("ERR Use SCRIPT DEBUG YES/SYNC/NO");
const NO_DEBUGGER: CommandError =
    CommandError::new("ERR the debugger of scripts is not available in this server");

impl Worker {
    pub(super) fn script_load(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        self.check_free()?;
        let script = self.script_of(argv.arg(2), true)?;
        c.reply().bulk(&script.sha);
        Ok(())
    }

    pub(super) fn script_exists(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let cache = &self.server.scripts.cache;
        let asked = argv.from(2);
        let mut reply = c.reply();
        reply.array(asked.len());
        for sha in asked.iter() {
            let sha: Result<ScriptSha, _> = sha.to_ascii_lowercase().try_into();
            let known = sha.is_ok_and(|sha| cache.get(&sha).is_some());
            reply.integer(known.into());
        }
        Ok(())
    }

    pub(super) fn script_flush(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let plain = match argv.get(2) {
            None => true,
            Some(mode) => argv.len() == 3 && (args::is(mode, "async") || args::is(mode, "sync")),
        };
        if !plain {
            return Err(FLUSH_MODE);
        }
        self.server.scripts.cache.flush();
        c.reply().ok();
        Ok(())
    }

    pub(super) fn script_kill(&mut self, c: &mut Connection, kind: Kind) -> CommandResult {
        self.server.scripts.kill(kind)?;
        c.reply().ok();
        Ok(())
    }

    /// There is no debugger: only switching it off succeeds.
    pub(super) fn script_debug(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let mode = argv.arg(2);
        if args::is(mode, "no") {
            c.reply().ok();
            return Ok(());
        }
        Err(match args::is(mode, "yes") || args::is(mode, "sync") {
            true => NO_DEBUGGER,
            false => DEBUG_MODE,
        })
    }
}
