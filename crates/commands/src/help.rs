//! The HELP subcommands, written from the rows of their containers.

use resp::Reply;

use crate::command::Command;
use crate::context::Ctx;
use crate::errors::CommandResult;
use crate::table;

/// HELP of any container, which the request's first argument names.
pub fn reply(c: &mut Ctx<'_, '_>) -> CommandResult {
    if let Some(container) = table::find(c.argv.arg(0)) {
        list(&mut c.reply, container);
    }
    Ok(())
}

/// Lists a container's subcommands, each with its arguments and what it does.
pub fn list(reply: &mut Reply<'_>, container: &Command) {
    let name = container.name.to_uppercase();
    reply.array(1 + 2 * container.subcommands.len());
    reply.simple(&format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    ));
    for sub in container.subcommands {
        let own = sub.name.rsplit('|').next().unwrap_or(sub.name);
        let line = format!("{} {}", own.to_uppercase(), sub.syntax);
        reply.simple(line.trim_end());
        reply.simple(&format!("    {}", sub.summary));
    }
}
