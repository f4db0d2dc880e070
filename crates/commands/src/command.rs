//! A command's row. COMMAND, COMMAND DOCS, GETKEYS, ACL categories and the documentation are
//! derived from these rows; nothing about a command is said twice.

use resp::Argv;

use crate::acl::Categories;
use crate::args;
use crate::context::Ctx;
use crate::errors::CommandResult;
use crate::key_spec::{Begin, Find, KeySpec};

bitflags::bitflags! {
    /// The flags of COMMAND INFO, by Redis's names (`Flags::WRITE` is `write`).
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Flags: u32 {
        const WRITE = 1;
        const READONLY = 1 << 1;
        /// Refused when memory is short.
        const DENYOOM = 1 << 2;
        const ADMIN = 1 << 3;
        const PUBSUB = 1 << 4;
        const NOSCRIPT = 1 << 5;
        const BLOCKING = 1 << 6;
        /// Allowed while a dataset is being loaded.
        const LOADING = 1 << 7;
        const STALE = 1 << 8;
        const SKIP_MONITOR = 1 << 9;
        const SKIP_SLOWLOG = 1 << 10;
        const ASKING = 1 << 11;
        const FAST = 1 << 12;
        const NO_AUTH = 1 << 13;
        /// Held back by CLIENT PAUSE WRITE though it is no write command.
        const MAY_REPLICATE = 1 << 14;
        const ALLOW_BUSY = 1 << 15;
        /// Refused inside a transaction.
        const NO_MULTI = 1 << 16;
        const NO_ASYNC_LOADING = 1 << 17;
        const MOVABLEKEYS = 1 << 18;
        const NO_MANDATORY_KEYS = 1 << 19;
        const PROTECTED = 1 << 20;
        /// In ACL category @dangerous without being an admin command.
        const DANGEROUS = 1 << 21;
    }
}

/// The group of COMMAND DOCS; with the flags it decides the ACL categories.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Generic,
    String,
    List,
    Set,
    SortedSet,
    Hash,
    Bitmap,
    HyperLogLog,
    Geo,
    Stream,
    Connection,
    Server,
    Transactions,
    Pubsub,
    Scripting,
}

/// Where a command's function runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// On the shards of its keys.
    Keys(fn(&mut Ctx<'_, '_>) -> CommandResult),
    /// On all shards at once.
    AllShards(fn(&mut Ctx<'_, '_>) -> CommandResult),
    /// On all shards at once, about the whole databases that [`crate::whole_databases`] names. In a transaction as
    /// `AllShards`.
    WholeDatabases(fn(&mut Ctx<'_, '_>) -> CommandResult),
    /// On the shard that the cursor in its first argument names, and those after it.
    Cursor(fn(&mut Ctx<'_, '_>) -> CommandResult),
    /// On no shard: it depends on its arguments, the time and the command table alone.
    Nowhere(fn(&mut Ctx<'_, '_>) -> CommandResult),
    /// In the server, which matches on the name.
    Host(HostCommand),
    /// In one of its subcommands.
    Container,
}

/// Commands that concern the connection or the server as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostCommand {
    AclCat,
    AclDeluser,
    AclDryrun,
    AclGenpass,
    AclGetuser,
    AclList,
    AclLoad,
    AclLog,
    AclSave,
    AclSetuser,
    AclUsers,
    AclWhoami,
    Auth,
    Bgrewriteaof,
    Bgsave,
    ClientCaching,
    ClientGetname,
    ClientGetredir,
    ClientId,
    ClientInfo,
    ClientKill,
    ClientList,
    ClientNoEvict,
    ClientNoTouch,
    ClientReply,
    ClientSetinfo,
    ClientPause,
    ClientSetname,
    ClientTracking,
    ClientTrackinginfo,
    ClientUnblock,
    ClientUnpause,
    ConfigGet,
    ConfigResetstat,
    ConfigRewrite,
    ConfigSet,
    Debug,
    Discard,
    Eval,
    Evalsha,
    Exec,
    Fcall,
    FunctionDelete,
    FunctionDump,
    FunctionFlush,
    FunctionKill,
    FunctionList,
    FunctionLoad,
    FunctionRestore,
    FunctionStats,
    Hello,
    Info,
    Lastsave,
    LatencyDoctor,
    LatencyGraph,
    LatencyHistogram,
    LatencyHistory,
    LatencyLatest,
    LatencyReset,
    MemoryDoctor,
    MemoryMallocStats,
    MemoryPurge,
    MemoryStats,
    Monitor,
    Multi,
    Ping,
    Psubscribe,
    Publish,
    PubsubChannels,
    PubsubNumpat,
    PubsubNumsub,
    PubsubShardchannels,
    PubsubShardnumsub,
    Punsubscribe,
    Quit,
    Reset,
    Save,
    ScriptDebug,
    ScriptExists,
    ScriptFlush,
    ScriptKill,
    ScriptLoad,
    Select,
    Shutdown,
    SlowlogGet,
    SlowlogLen,
    SlowlogReset,
    Spublish,
    Ssubscribe,
    Subscribe,
    Sunsubscribe,
    Unsubscribe,
    Unwatch,
    Wait,
    Waitaof,
    Watch,
}

pub struct Command {
    /// In lowercase; of a subcommand the whole name, as in `config|get`.
    pub name: &'static str,
    pub summary: &'static str,
    /// The version of Redis that has it first.
    pub since: &'static str,
    pub group: Group,
    pub complexity: &'static str,
    /// Arguments with the name; negative: at least so many.
    pub arity: i32,
    pub flags: Flags,
    pub keys: &'static [KeySpec],
    /// Finds the keys of a call where `keys` cannot say which they are.
    pub keys_in: Option<KeysIn>,
    /// The arguments in the notation of Redis's documentation: `key [EX seconds | PX ms]`.
    pub syntax: &'static str,
    pub run: Run,
    pub subcommands: &'static [Command],
    /// The tips of COMMAND INFO, for clients and proxies.
    pub tips: &'static [&'static str],
    pub deprecated: Option<Deprecated>,
    /// ACL categories besides those that follow from group and flags.
    pub categories: Categories,
}

/// Calls a function with the index of each key of a call, and what is done with it (see [`KeySpec`]). False when the
/// call also looks at keys that it does not name.
pub type KeysIn = fn(Argv<'_>, &mut dyn FnMut(usize, &'static [&'static str])) -> bool;

/// Since when Redis calls a command deprecated, and what it says to use instead.
#[derive(Clone, Copy, Debug)]
pub struct Deprecated {
    pub since: &'static str,
    pub replaced_by: &'static str,
}

fn does_not_run(_: &mut Ctx<'_, '_>) -> CommandResult {
    unreachable!("every row says where it runs")
}

impl Command {
    /// What rows leave out: `Command { name: ..., ..Command::DEFAULT }`.
    pub const DEFAULT: Command = Command {
        name: "",
        summary: "",
        since: "1.0.0",
        group: Group::Generic,
        complexity: "O(1)",
        arity: -1,
        flags: Flags::empty(),
        keys: &[],
        keys_in: None,
        syntax: "",
        run: Run::Nowhere(does_not_run),
        subcommands: &[],
        tips: &[],
        deprecated: None,
        categories: Categories::empty(),
    };

    /// Whether a call with so many arguments (the name counts) is well formed.
    #[inline]
    pub fn accepts_arity(&self, args: usize) -> bool {
        if self.arity >= 0 {
            args == self.arity as usize
        } else {
            args >= self.arity.unsigned_abs() as usize
        }
    }

    /// The argument that is the key of a command with exactly one key, always at one place.
    #[inline]
    pub fn single_key(&self) -> Option<usize> {
        match (self.keys, self.run) {
            (
                [KeySpec {
                    begin: Begin::Index(index),
                    find: Find::Range { last: 0, .. },
                    ..
                }],
                Run::Keys(_),
            ) => Some(*index),
            _ => None,
        }
    }

    /// Whether it is refused when memory is short.
    #[inline]
    pub fn needs_memory(&self) -> bool {
        self.flags.contains(Flags::DENYOOM)
    }

    /// Calls `f` with the index of each key of a call, and what is done with it. False when the call also looks at
    /// keys that it does not name.
    pub fn for_each_key(
        &self,
        argv: Argv<'_>,
        mut f: impl FnMut(usize, &'static [&'static str]),
    ) -> bool {
        if let Some(keys_in) = self.keys_in {
            return keys_in(argv, &mut f);
        }
        for spec in self.keys {
            let flags = self.flags_of(spec, argv);
            spec.for_each(argv, |index| f(index, flags));
        }
        !self
            .keys
            .iter()
            .any(|spec| spec.flags.contains(&"incomplete"))
    }

    /// What a call does with the keys of a spec; with SET its options decide that.
    pub fn flags_of(&self, spec: &KeySpec, argv: Argv<'_>) -> &'static [&'static str] {
        if !spec.flags.contains(&"variable_flags") || self.name != "set" {
            return spec.flags;
        }
        if argv.from(3).iter().any(|word| args::is(word, "get")) {
            &["RW", "access", "update"]
        } else {
            &["OW", "update"]
        }
    }

    #[inline]
    pub fn is_write(&self) -> bool {
        self.flags.contains(Flags::WRITE)
    }
}
