//! `Config`: every directive that means something here, as a plain typed field.
//!
//! The rows of [`crate::table`] fill the fields; directives of parts that do not exist are kept apart, as validated
//! values without a field. `Config::default()` holds the default of every row.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::choices::{
    AclPubsubDefault, AofWritePath, AppendFsync, CrossShard, IoBackend, LocalAccess, LogLevel,
    MaxmemoryPolicy, SanitizeDump, StorageBackend, Supervised, TlsAuthClients,
};
use crate::kind::{BufferLimits, EventClasses, MemoryShare, SavePoint, ShutdownOn, Value};
use crate::table;

/// A `user` line of a configuration file, and where it stands.
#[derive(Clone, Debug)]
pub struct UserLine {
    pub file: String,
    pub line: usize,
    /// The name, then the rules.
    pub words: Vec<Vec<u8>>,
}

/// Lines that say the same are the same, wherever they stand.
impl PartialEq for UserLine {
    fn eq(&self, other: &UserLine) -> bool {
        self.words == other.words
    }
}

macro_rules! settings {
    ($($(#[$doc:meta])* $field:ident: $kind:ty,)+) => {
        /// All settings of a server. Plain data: clone it, change the clone, publish it.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $($(#[$doc])* pub $field: $kind,)+
            /// `rename-command` lines: old name and new name, where an empty new name removes the command.
            pub rename_commands: Vec<(Vec<u8>, Vec<u8>)>,
            /// `user` lines, for the server to read; CONFIG REWRITE writes those that it was given last.
            pub users: Vec<UserLine>,
            /// Accepted-only directives that were set, by name.
            pub(crate) accepted: BTreeMap<&'static str, Value>,
        }

        impl Config {
            /// Before the defaults of the rows are filled in.
            fn blank() -> Self {
                Self {
                    $($field: Default::default(),)+
                    rename_commands: Vec::new(),
                    users: Vec::new(),
                    accepted: BTreeMap::new(),
                }
            }
        }
    };
}

settings! {
    // Network.
    /// Addresses to listen on, in the form of the directive (`-::1`, `*`). Empty: no TCP.
    bind: Vec<String>,
    /// TCP port; 0: no TCP.
    port: u16,
    unixsocket: Option<PathBuf>,
    /// Permission bits of the Unix socket; 0: leave what the umask gives.
    unixsocketperm: u32,
    tcp_backlog: u32,
    /// Seconds between TCP keepalive probes; 0: none.
    tcp_keepalive_secs: u32,
    /// Seconds after which an idle client is disconnected; 0: never.
    timeout_secs: u32,
    maxclients: u32,
    /// Refuse clients from other machines while there is no password.
    protected_mode: bool,
    requirepass: Option<Vec<u8>>,
    /// The file of ACL LOAD and ACL SAVE.
    aclfile: Option<PathBuf>,
    /// Entries that ACL LOG keeps.
    acllog_max_len: u64,
    acl_pubsub_default: AclPubsubDefault,
    client_output_buffer_limit: BufferLimits,
    /// Which keyspace notifications are published.
    notify_keyspace_events: EventClasses,
    /// Keys remembered for CLIENT TRACKING; 0: as many as it takes.
    tracking_table_max_keys: u64,
    client_query_buffer_limit_bytes: u64,
    proto_max_bulk_len_bytes: u64,

    // TLS.
    /// 0: no TLS.
    tls_port: u16,
    tls_auth_clients: TlsAuthClients,
    tls_cert_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
    /// The passphrase of an encrypted key.
    tls_key_file_pass: Option<Vec<u8>>,
    tls_ca_cert_file: Option<PathBuf>,
    tls_ca_cert_dir: Option<PathBuf>,
    /// Versions, with blanks between them. Unset: all there are.
    tls_protocols: Option<Vec<u8>>,
    /// Names of OpenSSL for TLS 1.2, with colons between them. Unset: all there are.
    tls_ciphers: Option<Vec<u8>>,
    /// The same for TLS 1.3.
    tls_ciphersuites: Option<Vec<u8>>,
    tls_prefer_server_ciphers: bool,
    tls_session_caching: bool,
    /// Sessions kept; 0: as many as are kept at most.
    tls_session_cache_size: u32,
    tls_session_cache_timeout_secs: u32,

    // Shards and workers.
    /// 0: as many as cores the process may use.
    shards: u32,
    io_backend: IoBackend,
    cross_shard: CrossShard,
    storage_backend: StorageBackend,
    databases: u32,

    // Snapshots.
    /// The directory of all data files. As written in the configuration until the server has made it absolute.
    dir: PathBuf,
    dbfilename: String,
    save: Vec<SavePoint>,
    rdbcompression: bool,
    rdbchecksum: bool,
    stop_writes_on_bgsave_error: bool,
    rdb_save_incremental_fsync: bool,
    /// Writer threads of a snapshot's child; 0: one per core.
    rdb_save_threads: u32,
    /// Read a snapshot back before it replaces the last one.
    rdb_verify: bool,
    /// Memory copied for a child from which on the child is given up; 0: no limit.
    rdb_max_cow_bytes: u64,
    /// Seconds without progress after which a child is given up; 0: never.
    child_progress_timeout_secs: u32,
    sanitize_dump_payload: SanitizeDump,

    // Append-only file.
    appendonly: bool,
    appendfsync: AppendFsync,
    appendfilename: String,
    appenddirname: String,
    no_appendfsync_on_rewrite: bool,
    /// Growth over the size after the last rewrite that starts the next one; 0: never by itself.
    auto_aof_rewrite_percentage: u32,
    auto_aof_rewrite_min_size_bytes: u64,
    aof_load_truncated: bool,
    /// Bytes from damage to the end of the log that may be given up at start; 0: none.
    aof_load_corrupt_tail_max_size: u64,
    aof_use_rdb_preamble: bool,
    aof_rewrite_incremental_fsync: bool,
    aof_timestamp_enabled: bool,
    aof_write_path: AofWritePath,
    aof_ring_dir: PathBuf,
    /// Of each shard; rounded up to a power of two.
    aof_ring_size_bytes: u64,

    // The process.
    daemonize: bool,
    supervised: Supervised,
    /// No huge pages for this process where the system gives them to all.
    disable_thp: bool,
    pidfile: Option<PathBuf>,
    loglevel: LogLevel,
    /// `None`: standard output.
    logfile: Option<PathBuf>,
    always_show_logo: bool,
    set_proc_title: bool,
    proc_title_template: String,
    crash_log_enabled: bool,
    hide_user_data_from_log: bool,
    /// How long a shutdown waits for replicas that lag.
    shutdown_timeout_secs: u32,
    shutdown_on_sigterm: ShutdownOn,
    shutdown_on_sigint: ShutdownOn,
    enable_debug_command: LocalAccess,
    /// Who may change directives like `dir` with CONFIG SET.
    enable_protected_configs: LocalAccess,

    // Time.
    /// Turns of periodic work per second, 1..=500.
    hz: u32,
    dynamic_hz: bool,
    /// 1..=10: how much CPU the search for expired keys may take.
    active_expire_effort: u32,

    // Encodings.
    hash_max_listpack_entries: u64,
    hash_max_listpack_value_bytes: u64,
    /// Positive: elements per node; -1..=-5: 4, 8, 16, 32, 64 KiB per node.
    list_max_listpack_size: i32,
    /// Nodes at each end that stay uncompressed; 0: compress none.
    list_compress_depth: u32,
    set_max_intset_entries: u64,
    set_max_listpack_entries: u64,
    set_max_listpack_value_bytes: u64,
    /// 0: as many as are safe.
    stream_node_max_bytes: u64,
    /// 0: no limit.
    stream_node_max_entries: u64,
    zset_max_listpack_entries: u64,
    zset_max_listpack_value_bytes: u64,
    hll_sparse_max_bytes: u64,

    // Observation.
    /// Microseconds from which on a command enters the slow log; negative: none does.
    slowlog_log_slower_than_micros: i64,
    slowlog_max_len: u64,
    /// Milliseconds from which on something is a spike; 0: nothing is.
    latency_monitor_threshold_ms: u64,
    /// Whether how long commands take is kept as a distribution.
    latency_tracking: bool,
    /// Those that INFO latencystats shows, from 0 to 100.
    latency_tracking_info_percentiles: Vec<String>,

    // The memory limit, and who goes when it is reached.
    /// 0: none.
    maxmemory_bytes: u64,
    /// What all clients may take together; 0: any amount.
    maxmemory_clients: MemoryShare,
    maxmemory_policy: MaxmemoryPolicy,
    /// Keys looked at for one that is evicted.
    maxmemory_samples: u32,
    /// Milliseconds after which what a script holds is answered BUSY, and the script can be killed; 0: never.
    busy_reply_threshold_ms: u64,
    /// What the scripts of one worker may use in Lua; 0: any.
    script_memory_limit_bytes: u64,
    /// How long a command may evict, from 0 (hardly) to 100 (until it is done).
    maxmemory_eviction_tenacity: u32,
    lfu_log_factor: u32,
    /// 0: counters do not decay.
    lfu_decay_minutes: u32,

    // Freeing in the background.
    lazyfree_lazy_eviction: bool,
    lazyfree_lazy_expire: bool,
    lazyfree_lazy_server_del: bool,
    lazyfree_lazy_user_del: bool,
    lazyfree_lazy_user_flush: bool,
}

impl Default for Config {
    fn default() -> Self {
        static DEFAULTS: OnceLock<Config> = OnceLock::new();
        DEFAULTS
            .get_or_init(|| {
                let mut config = Config::blank();
                for row in table::directives() {
                    row.store(&mut config, row.default_value());
                }
                config
            })
            .clone()
    }
}

impl Setting for MemoryShare {
    fn to_value(&self) -> Value {
        match self {
            MemoryShare::Bytes(bytes) => Value::Bytes(*bytes),
            MemoryShare::Percent(percent) => Value::Percent(*percent),
        }
    }
    fn set_value(&mut self, value: Value) {
        *self = match value {
            Value::Bytes(bytes) => MemoryShare::Bytes(bytes),
            Value::Percent(percent) => MemoryShare::Percent(percent),
            other => mismatch(&other),
        }
    }
}

/// A field's way from and to the value of its row.
pub(crate) trait Setting {
    fn to_value(&self) -> Value;
    /// `value` is of the row's kind and within its bounds.
    fn set_value(&mut self, value: Value);
}

/// A field's type does not fit the kind of its row: found by the test that stores every default.
#[cold]
fn mismatch(value: &Value) -> ! {
    unreachable!("the field cannot hold {value:?}")
}

impl Setting for bool {
    fn to_value(&self) -> Value {
        Value::Bool(*self)
    }
    fn set_value(&mut self, value: Value) {
        match value {
            Value::Bool(yes) => *self = yes,
            other => mismatch(&other),
        }
    }
}

macro_rules! integer_setting {
    ($($kind:ty)+) => {$(
        impl Setting for $kind {
            fn to_value(&self) -> Value {
                // Only a number of bytes may be larger.
                i64::try_from(*self).map_or(Value::Bytes(*self as u64), Value::Int)
            }
            fn set_value(&mut self, value: Value) {
                match value {
                    Value::Int(number) | Value::AutoInt(number) => {
                        *self = <$kind>::try_from(number).expect("the bounds of the row fit the field")
                    }
                    Value::Octal(bits) => {
                        *self = <$kind>::try_from(bits).expect("permission bits fit any field")
                    }
                    Value::Bytes(bytes) => {
                        *self = <$kind>::try_from(bytes).expect("the bounds of the row fit the field")
                    }
                    other => mismatch(&other),
                }
            }
        }
    )+};
}
integer_setting!(u16 u32 i32 i64 u64);

macro_rules! text_setting {
    ($($kind:ty: $to_bytes:expr, $from_bytes:expr;)+) => {$(
        impl Setting for $kind {
            fn to_value(&self) -> Value {
                let to_bytes: fn(&$kind) -> Vec<u8> = $to_bytes;
                Value::Text(to_bytes(self))
            }
            fn set_value(&mut self, value: Value) {
                let from_bytes: fn(Vec<u8>) -> $kind = $from_bytes;
                match value {
                    Value::Text(text) => *self = from_bytes(text),
                    other => mismatch(&other),
                }
            }
        }
    )+};
}

fn text_to_path(text: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(text))
}

fn text_to_utf8(text: Vec<u8>) -> String {
    String::from_utf8(text).expect("the kind Utf8 checks")
}

text_setting! {
    String: |text| text.clone().into_bytes(), text_to_utf8;
    PathBuf: |path| path.as_os_str().as_bytes().to_vec(), text_to_path;
    Option<PathBuf>: |path| path.as_ref().map_or(Vec::new(), |p| p.as_os_str().as_bytes().to_vec()),
        |text| (!text.is_empty()).then(|| text_to_path(text));
    Option<Vec<u8>>: |text| text.clone().unwrap_or_default(), |text| (!text.is_empty()).then_some(text);
}

macro_rules! choice_setting {
    ($($kind:ty)+) => {$(
        impl Setting for $kind {
            fn to_value(&self) -> Value {
                Value::Word(self.word())
            }
            fn set_value(&mut self, value: Value) {
                match value {
                    Value::Word(word) => *self = <$kind>::from_word(word),
                    other => mismatch(&other),
                }
            }
        }
    )+};
}
choice_setting!(AclPubsubDefault AofWritePath AppendFsync CrossShard IoBackend LocalAccess LogLevel MaxmemoryPolicy SanitizeDump StorageBackend Supervised TlsAuthClients);

macro_rules! plain_setting {
    ($($kind:ty: $variant:ident;)+) => {$(
        impl Setting for $kind {
            fn to_value(&self) -> Value {
                Value::$variant(self.clone())
            }
            fn set_value(&mut self, value: Value) {
                match value {
                    Value::$variant(inner) => *self = inner,
                    other => mismatch(&other),
                }
            }
        }
    )+};
}
plain_setting! {
    Vec<SavePoint>: SavePoints;
    BufferLimits: BufferLimits;
    EventClasses: EventClasses;
    ShutdownOn: ShutdownOn;
}

impl Setting for Vec<String> {
    fn to_value(&self) -> Value {
        Value::Words(self.iter().map(|word| word.clone().into_bytes()).collect())
    }
    fn set_value(&mut self, value: Value) {
        match value {
            Value::Words(words) => *self = words.into_iter().map(text_to_utf8).collect(),
            other => mismatch(&other),
        }
    }
}
