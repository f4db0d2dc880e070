//! CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO.

use std::collections::BTreeSet;
use std::sync::Arc;

use commands::{args, errors, CommandError, CommandResult};
use resp::Argv;

use super::Host;
use crate::worker::connection::Connection;
use crate::worker::tracking::Options;
use crate::worker::Worker;

const ONE_REDIRECT: CommandError =
    CommandError::new("ERR A client can only redirect to a single other client");
const NO_SUCH_REDIRECT: CommandError =
    CommandError::new("ERR The client ID you want redirect to does not exist");
const PREFIX_NEEDS_BROADCAST: CommandError =
    CommandError::new("ERR PREFIX option requires BCAST mode to be enabled");
const SWITCHED_BROADCAST: CommandError = CommandError::new(
    "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
);
const OPT_WITH_BROADCAST: CommandError =
    CommandError::new("ERR OPTIN and OPTOUT are not compatible with BCAST");
const BOTH_OPTS: CommandError =
    CommandError::new("ERR You can't specify both OPTIN mode and OPTOUT mode");
const SWITCHED_OPT: CommandError = CommandError::new(
    "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
);
const CACHING_WITHOUT_OPT: CommandError = CommandError::new(
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
);
const YES_WITHOUT_OPT_IN: CommandError = CommandError::new(
    "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
);
const NO_WITHOUT_OPT_OUT: CommandError = CommandError::new(
    "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
);

/// As they were given.
type Prefixes = Vec<Arc<[u8]>>;

impl Worker {
    pub(super) fn client_tracking(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: &mut Host<'_, '_>,
    ) -> CommandResult {
        let (mut options, prefixes) = self.tracking_options(argv)?;
        let changed = match argv.arg(2) {
            word if args::is(word, "on") => {
                self.check_tracking(c, &mut options, prefixes)?;
                let had = self.end_tracking(c);
                let broadcasts = options.broadcast;
                self.begin_tracking(c, options);
                had || broadcasts
            }
            word if args::is(word, "off") => self.end_tracking(c),
            _ => return Err(errors::SYNTAX),
        };
        if changed {
            self.note_broadcast(situation);
        }
        c.reply().ok();
        Ok(())
    }

    /// The options, and the prefixes as they were given.
    fn tracking_options(&self, argv: Argv<'_>) -> Result<(Options, Prefixes), CommandError> {
        let (mut options, mut prefixes) = (Options::default(), Vec::new());
        let mut index = 3;
        while let Some(word) = argv.get(index) {
            let value = argv.get(index + 1);
            match value {
                Some(value) if args::is(word, "redirect") => {
                    if options.redirect.is_some() {
                        return Err(ONE_REDIRECT);
                    }
                    let number = args::integer(value)?;
                    let number = u64::try_from(number).map_err(|_| NO_SUCH_REDIRECT)?;
                    self.server.clients.get(number).ok_or(NO_SUCH_REDIRECT)?;
                    options.redirect = Some(number);
                    index += 1;
                }
                Some(value) if args::is(word, "prefix") => {
                    prefixes.push(value.into());
                    index += 1;
                }
                _ if args::is(word, "bcast") => options.broadcast = true,
                _ if args::is(word, "optin") => options.opt_in = true,
                _ if args::is(word, "optout") => options.opt_out = true,
                _ if args::is(word, "noloop") => options.no_loop = true,
                _ => return Err(errors::SYNTAX),
            }
            index += 1;
        }
        Ok((options, prefixes))
    }

    /// Whether these options go together, and with those in force.
    fn check_tracking(
        &self,
        c: &Connection,
        options: &mut Options,
        prefixes: Prefixes,
    ) -> CommandResult {
        if !options.broadcast && !prefixes.is_empty() {
            return Err(PREFIX_NEEDS_BROADCAST);
        }
        let old = c.tracking.as_deref();
        if old.is_some_and(|old| old.broadcast != options.broadcast) {
            return Err(SWITCHED_BROADCAST);
        }
        if options.broadcast && (options.opt_in || options.opt_out) {
            return Err(OPT_WITH_BROADCAST);
        }
        if options.opt_in && options.opt_out {
            return Err(BOTH_OPTS);
        }
        let switches =
            |old: &Options| (options.opt_in && old.opt_out) || (options.opt_out && old.opt_in);
        if old.is_some_and(switches) {
            return Err(SWITCHED_OPT);
        }
        if options.broadcast {
            let none = BTreeSet::new();
            options.prefixes = old.map_or(&none, |old| &old.prefixes).clone();
            check_prefixes(&options.prefixes, &prefixes)?;
            if prefixes.is_empty() {
                options.prefixes.insert([].into());
            }
            options.prefixes.extend(prefixes);
        }
        Ok(())
    }

    /// Has the shards note every change, or no longer.
    fn note_broadcast(&mut self, situation: &mut Host<'_, '_>) {
        let server = self.server;
        match situation {
            Host::InTransaction(view) => {
                let shards = view.shards_mut().iter_mut();
                shards.for_each(|shard| shard.tracking.note_all(server.tracking.broadcasts()));
            }
            Host::Alone => server.note_changes_for_broadcast(),
        }
    }

    pub(super) fn client_caching(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let tracking = c.tracking.as_deref_mut().ok_or(CACHING_WITHOUT_OPT)?;
        match argv.arg(2) {
            word if args::is(word, "yes") && !tracking.opt_in => return Err(YES_WITHOUT_OPT_IN),
            word if args::is(word, "no") && !tracking.opt_out => return Err(NO_WITHOUT_OPT_OUT),
            word if args::is(word, "yes") || args::is(word, "no") => tracking.caching = true,
            _ => return Err(errors::SYNTAX),
        }
        c.reply().ok();
        Ok(())
    }

    pub(super) fn client_getredir(&mut self, c: &mut Connection) -> CommandResult {
        let redirect = redirect(c);
        c.reply().integer(redirect);
        Ok(())
    }

    pub(super) fn client_trackinginfo(&mut self, c: &mut Connection) -> CommandResult {
        let redirect = redirect(c);
        let (mut flags, mut prefixes) = (vec!["off"], Vec::new());
        if let Some(own) = &c.tracking {
            flags = vec!["on"];
            for (on, flag) in [
                (own.broadcast, "bcast"),
                (own.opt_in, "optin"),
                (own.opt_in && own.caching, "caching-yes"),
                (own.opt_out, "optout"),
                (own.opt_out && own.caching, "caching-no"),
                (own.no_loop, "noloop"),
                (own.redirect_broken, "broken_redirect"),
            ] {
                flags.extend(on.then_some(flag));
            }
            prefixes.extend(own.prefixes.iter().cloned());
        }
        let mut reply = c.reply();
        reply.map(3);
        reply.bulk(b"flags");
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
        reply.bulk(b"redirect");
        reply.integer(redirect);
        reply.bulk(b"prefixes");
        reply.array(prefixes.len());
        prefixes.iter().for_each(|prefix| reply.bulk(prefix));
        Ok(())
    }
}

/// -1 without tracking, 0 without redirection.
fn redirect(c: &Connection) -> i64 {
    let own = c.tracking.as_ref();
    own.map_or(-1, |own| own.redirect.unwrap_or(0) as i64)
}

/// No key may match two prefixes of one client.
fn check_prefixes(old: &BTreeSet<Arc<[u8]>>, given: &[Arc<[u8]>]) -> CommandResult {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    let error = |prefix: &[u8], kind: &str, other: &[u8]| {
        let (prefix, other) = (
            errors::before_zero_byte(prefix),
            errors::before_zero_byte(other),
        );
        let (prefix, other) = (
            String::from_utf8_lossy(prefix),
            String::from_utf8_lossy(other),
        );
        Err(format!("ERR Prefix '{prefix}' overlaps with {kind} prefix '{other}'. Prefixes for a single client must not overlap.").into())
    };
    for (at, prefix) in given.iter().enumerate() {
        if let Some(other) = old.iter().find(|other| overlap(prefix, other)) {
            return error(prefix, "an existing", other);
        }
        if let Some(other) = given[at + 1..].iter().find(|other| overlap(prefix, other)) {
            return error(prefix, "another provided", other);
        }
    }
    Ok(())
}
