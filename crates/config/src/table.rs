//! The directive table: one row per directive that means something here.
//!
//! A row is data: name, old name, kind, default (as a file would write it), flags, the field of [`Config`] it fills,
//! and a check where the kind alone does not say enough. CONFIG GET, SET, REWRITE, the file parser and the test of
//! `config/basalt.conf` derive from it. Rows of parts that do not exist stand in [`crate::accepted`].

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::accepted::ACCEPTED_ONLY;
use crate::choices::{
    AclPubsubDefault, AofWritePath, AppendFsync, CrossShard, IoBackend, LocalAccess, LogLevel,
    MaxmemoryPolicy, SanitizeDump, StorageBackend, Supervised, TlsAuthClients,
};
use crate::kind::{Kind, Value};
use crate::settings::{Config, Setting};
use crate::words::split_args;

/// Properties of a directive, combined with `|`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u8);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// CONFIG SET refuses it.
    pub const IMMUTABLE: Flags = Flags(1);
    /// CONFIG SET refuses it unless `enable-protected-configs` permits.
    pub const PROTECTED: Flags = Flags(2);
    /// CONFIG GET shows it only by its exact name.
    pub const HIDDEN: Flags = Flags(4);
    /// Never to be logged.
    pub const SENSITIVE: Flags = Flags(8);
    /// The empty value, being the default, is not written to files: CONFIG REWRITE drops the line.
    pub const EMPTY_IS_UNSET: Flags = Flags(16);
    /// CONFIG REWRITE writes it even when it has its default.
    pub const ALWAYS_WRITTEN: Flags = Flags(32);

    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;
    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

/// Turns a parsed value into the one to keep, or says why not.
pub(crate) type Check = fn(Value) -> Result<Value, String>;

/// Where a directive's value lives.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Field {
        get: fn(&Config) -> Value,
        set: fn(&mut Config, Value),
    },
    /// No part of the server looks at it: validated, kept and reported.
    AcceptedOnly,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Directive {
    pub name: &'static str,
    /// The name older versions of Redis used; works everywhere the name does.
    pub old_name: Option<&'static str>,
    pub kind: Kind,
    /// As a file would write it, behind the name.
    pub default: &'static str,
    pub flags: Flags,
    pub(crate) check: Option<Check>,
    pub(crate) place: Place,
}

impl Directive {
    /// Whether nothing in the server looks at this directive.
    pub fn is_accepted_only(&self) -> bool {
        matches!(self.place, Place::AcceptedOnly)
    }

    /// The value that a new server has.
    pub fn default_value(&self) -> Value {
        let words = split_args(self.default.as_bytes()).expect("tested for every row");
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.parse(&words, &Value::Bool(false))
            .expect("tested for every row")
    }

    /// The value in `config`.
    pub fn value(&self, config: &Config) -> Value {
        let value = match self.place {
            Place::Field { get, .. } => get(config),
            Place::AcceptedOnly => match config.accepted.get(self.name) {
                Some(value) => value.clone(),
                None => self.default_value(),
            },
        };
        match (self.kind, value) {
            (Kind::AutoInt { .. }, Value::Int(number)) => Value::AutoInt(number),
            (Kind::Octal, Value::Int(bits)) => Value::Octal(bits as u32),
            (Kind::Memory { .. }, Value::Int(bytes)) => Value::Bytes(bytes as u64),
            (_, value) => value,
        }
    }

    /// What `words` stand for, or why they are refused.
    pub(crate) fn parse(&self, words: &[&[u8]], current: &Value) -> Result<Value, String> {
        let value = self.kind.parse(words, current)?;
        match self.check {
            Some(check) => check(value),
            None => Ok(value),
        }
    }

    /// Puts a value that `parse` returned in its place.
    pub(crate) fn store(&self, config: &mut Config, value: Value) {
        match self.place {
            Place::Field { set, .. } => set(config, value),
            Place::AcceptedOnly if value == self.default_value() => {
                config.accepted.remove(self.name);
            }
            Place::AcceptedOnly => {
                config.accepted.insert(self.name, value);
            }
        }
    }

    pub(crate) const fn old_name(mut self, old_name: &'static str) -> Self {
        self.old_name = Some(old_name);
        self
    }

    pub(crate) const fn flags(mut self, flags: Flags) -> Self {
        self.flags = Flags(self.flags.0 | flags.0);
        self
    }

    pub(crate) const fn check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }
}

/// All directives, those with a meaning first.
pub fn directives() -> &'static [Directive] {
    static ALL: OnceLock<Vec<Directive>> = OnceLock::new();
    ALL.get_or_init(|| MEANINGFUL.iter().chain(ACCEPTED_ONLY).copied().collect())
}

/// The directive called `name`, by its name or its old one, in any case.
pub fn find(name: &[u8]) -> Option<&'static Directive> {
    static BY_NAME: OnceLock<HashMap<&'static str, &'static Directive>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| {
        directives()
            .iter()
            .flat_map(|row| {
                [Some(row.name), row.old_name]
                    .into_iter()
                    .flatten()
                    .map(move |name| (name, row))
            })
            .collect()
    });
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    by_name.get(name.as_str()).copied()
}

/// The names of the directives that nothing in the server looks at.
pub fn accepted_only_names() -> Vec<&'static str> {
    ACCEPTED_ONLY.iter().map(|row| row.name).collect()
}

pub(crate) const I32_MAX: i64 = i32::MAX as i64;
pub(crate) const U32_MAX: i64 = u32::MAX as i64;
pub(crate) const I64_MAX: i64 = i64::MAX;

pub(crate) const fn int(min: i64, max: i64) -> Kind {
    Kind::Int { min, max }
}

pub(crate) const fn memory(min: u64) -> Kind {
    Kind::Memory {
        min,
        max: i64::MAX as u64,
    }
}

/// A row whose value fills `$field`.
macro_rules! row {
    ($name:literal, $kind:expr, $default:literal, $field:ident) => {
        Directive {
            name: $name,
            old_name: None,
            kind: $kind,
            default: $default,
            flags: Flags::NONE,
            check: None,
            place: Place::Field {
                get: |config| Setting::to_value(&config.$field),
                set: |config, value| Setting::set_value(&mut config.$field, value),
            },
        }
    };
}

use Flags as F;
use Kind::{Bool, Enum, Octal, Text, Utf8};

#[rustfmt::skip]
const MEANINGFUL: &[Directive] = &[
    // Network.
    row!("bind", Kind::Addresses, "* -::*", bind).flags(F::EMPTY_IS_UNSET),
    row!("port", int(0, 65535), "6379", port),
    row!("unixsocket", Text, "\"\"", unixsocket).flags(F::IMMUTABLE).flags(F::EMPTY_IS_UNSET),
    row!("unixsocketperm", Octal, "0", unixsocketperm).flags(F::IMMUTABLE),
    row!("tcp-backlog", int(0, I32_MAX), "511", tcp_backlog).flags(F::IMMUTABLE),
    row!("tcp-keepalive", int(0, I32_MAX), "300", tcp_keepalive_secs),
    row!("timeout", int(0, I32_MAX), "0", timeout_secs),
    row!("maxclients", int(1, U32_MAX), "10000", maxclients),
    row!("protected-mode", Bool, "yes", protected_mode),
    row!("requirepass", Text, "\"\"", requirepass).flags(F::SENSITIVE).flags(F::EMPTY_IS_UNSET),
    row!("aclfile", Text, "\"\"", aclfile).flags(F::IMMUTABLE),
    row!("acllog-max-len", int(0, I64_MAX), "128", acllog_max_len),
    row!("acl-pubsub-default", Enum(AclPubsubDefault::WORDS), "resetchannels", acl_pubsub_default),
    row!("client-output-buffer-limit", Kind::BufferLimits,
        "normal 0 0 0 replica 256mb 64mb 60 pubsub 32mb 8mb 60", client_output_buffer_limit),
    row!("client-query-buffer-limit", memory(1 << 20), "1gb", client_query_buffer_limit_bytes),
    row!("proto-max-bulk-len", memory(1 << 20), "512mb", proto_max_bulk_len_bytes),

    // TLS.
    row!("tls-port", int(0, 65535), "0", tls_port),
    row!("tls-auth-clients", Enum(TlsAuthClients::WORDS), "yes", tls_auth_clients),
    row!("tls-cert-file", Text, "\"\"", tls_cert_file).flags(F::EMPTY_IS_UNSET),
    row!("tls-key-file", Text, "\"\"", tls_key_file).flags(F::EMPTY_IS_UNSET),
    row!("tls-key-file-pass", Text, "\"\"", tls_key_file_pass).flags(F::SENSITIVE).flags(F::EMPTY_IS_UNSET),
    row!("tls-ca-cert-file", Text, "\"\"", tls_ca_cert_file).flags(F::EMPTY_IS_UNSET),
    row!("tls-ca-cert-dir", Text, "\"\"", tls_ca_cert_dir).flags(F::EMPTY_IS_UNSET),
    row!("tls-protocols", Text, "\"\"", tls_protocols).flags(F::EMPTY_IS_UNSET),
    row!("tls-ciphers", Text, "\"\"", tls_ciphers).flags(F::EMPTY_IS_UNSET),
    row!("tls-ciphersuites", Text, "\"\"", tls_ciphersuites).flags(F::EMPTY_IS_UNSET),
    row!("tls-prefer-server-ciphers", Bool, "no", tls_prefer_server_ciphers),
    row!("tls-session-caching", Bool, "yes", tls_session_caching),
    row!("tls-session-cache-size", int(0, I32_MAX), "20480", tls_session_cache_size),
    row!("tls-session-cache-timeout", int(0, I32_MAX), "300", tls_session_cache_timeout_secs),

    // Shards and workers.
    row!("shards", Kind::AutoInt { max: 1024 }, "auto", shards).flags(F::IMMUTABLE),
    row!("io-backend", Enum(IoBackend::WORDS), "auto", io_backend).flags(F::IMMUTABLE),
    row!("cross-shard", Enum(CrossShard::WORDS), "auto", cross_shard),
    row!("storage-backend", Enum(StorageBackend::WORDS), "auto", storage_backend).flags(F::IMMUTABLE),
    row!("databases", int(1, I32_MAX), "16", databases).flags(F::IMMUTABLE),

    // Snapshots.
    row!("dir", Text, ".", dir).flags(F::PROTECTED).flags(F::ALWAYS_WRITTEN),
    row!("dbfilename", Utf8, "dump.rdb", dbfilename).flags(F::PROTECTED).check(check_dbfilename),
    row!("save", Kind::SavePoints, "3600 1 300 100 60 10000", save).flags(F::ALWAYS_WRITTEN),
    row!("rdbcompression", Bool, "yes", rdbcompression),
    row!("rdbchecksum", Bool, "yes", rdbchecksum).flags(F::IMMUTABLE),
    row!("stop-writes-on-bgsave-error", Bool, "yes", stop_writes_on_bgsave_error),
    row!("rdb-save-incremental-fsync", Bool, "yes", rdb_save_incremental_fsync),
    row!("rdb-save-threads", Kind::AutoInt { max: 1024 }, "auto", rdb_save_threads),
    row!("rdb-verify", Bool, "no", rdb_verify),
    row!("rdb-max-cow-bytes", memory(0), "0", rdb_max_cow_bytes),
    row!("child-progress-timeout", int(0, I32_MAX), "120", child_progress_timeout_secs),
    row!("sanitize-dump-payload", Enum(SanitizeDump::WORDS), "no", sanitize_dump_payload),

    // Append-only file.
    row!("appendonly", Bool, "no", appendonly),
    row!("appendfsync", Enum(AppendFsync::WORDS), "everysec", appendfsync),
    row!("appendfilename", Utf8, "appendonly.aof", appendfilename)
        .flags(F::IMMUTABLE).check(check_appendfilename),
    row!("appenddirname", Utf8, "appendonlydir", appenddirname)
        .flags(F::IMMUTABLE).check(check_appenddirname),
    row!("no-appendfsync-on-rewrite", Bool, "no", no_appendfsync_on_rewrite),
    row!("auto-aof-rewrite-percentage", int(0, I32_MAX), "100", auto_aof_rewrite_percentage),
    row!("auto-aof-rewrite-min-size", memory(0), "64mb", auto_aof_rewrite_min_size_bytes),
    row!("aof-load-truncated", Bool, "yes", aof_load_truncated),
    row!("aof-load-corrupt-tail-max-size", memory(0), "0", aof_load_corrupt_tail_max_size),
    row!("aof-use-rdb-preamble", Bool, "yes", aof_use_rdb_preamble),
    row!("aof-rewrite-incremental-fsync", Bool, "yes", aof_rewrite_incremental_fsync),
    row!("aof-timestamp-enabled", Bool, "no", aof_timestamp_enabled),
    row!("aof-write-path", Enum(AofWritePath::WORDS), "auto", aof_write_path).flags(F::IMMUTABLE),
    row!("aof-ring-dir", Text, "/dev/shm", aof_ring_dir).flags(F::IMMUTABLE),
    row!("aof-ring-size", memory(64 << 10), "16mb", aof_ring_size_bytes).flags(F::IMMUTABLE),

    // The process.
    row!("daemonize", Bool, "no", daemonize).flags(F::IMMUTABLE),
    row!("supervised", Enum(Supervised::WORDS), "no", supervised).flags(F::IMMUTABLE),
    row!("disable-thp", Bool, "yes", disable_thp).flags(F::IMMUTABLE),
    row!("pidfile", Text, "\"\"", pidfile).flags(F::IMMUTABLE).flags(F::EMPTY_IS_UNSET),
    row!("loglevel", Enum(LogLevel::WORDS), "notice", loglevel),
    row!("logfile", Text, "\"\"", logfile).flags(F::IMMUTABLE),
    row!("always-show-logo", Bool, "no", always_show_logo).flags(F::IMMUTABLE),
    row!("set-proc-title", Bool, "yes", set_proc_title).flags(F::IMMUTABLE),
    row!("proc-title-template", Utf8, "\"{title} {listen-addr} {server-mode}\"", proc_title_template)
        .check(check_proc_title_template),
    row!("crash-log-enabled", Bool, "yes", crash_log_enabled),
    row!("hide-user-data-from-log", Bool, "no", hide_user_data_from_log),
    row!("shutdown-timeout", int(0, I32_MAX), "10", shutdown_timeout_secs),
    row!("shutdown-on-sigterm", Kind::ShutdownOn, "default", shutdown_on_sigterm),
    row!("shutdown-on-sigint", Kind::ShutdownOn, "default", shutdown_on_sigint),
    row!("enable-debug-command", Enum(LocalAccess::WORDS), "no", enable_debug_command).flags(F::IMMUTABLE),
    row!("enable-protected-configs", Enum(LocalAccess::WORDS), "no", enable_protected_configs)
        .flags(F::IMMUTABLE),

    // Observation.
    row!("notify-keyspace-events", Kind::EventClasses, "\"\"", notify_keyspace_events),
    row!("tracking-table-max-keys", int(0, I64_MAX), "1000000", tracking_table_max_keys),

    // Time.
    row!("hz", int(0, I32_MAX), "10", hz).check(clamp_hz),
    row!("dynamic-hz", Bool, "yes", dynamic_hz),
    row!("active-expire-effort", int(1, 10), "1", active_expire_effort),

    // Encodings.
    row!("hash-max-listpack-entries", int(0, I64_MAX), "512", hash_max_listpack_entries)
        .old_name("hash-max-ziplist-entries"),
    row!("hash-max-listpack-value", memory(0), "64", hash_max_listpack_value_bytes)
        .old_name("hash-max-ziplist-value"),
    row!("list-max-listpack-size", int(i32::MIN as i64, I32_MAX), "-2", list_max_listpack_size)
        .old_name("list-max-ziplist-size"),
    row!("list-compress-depth", int(0, I32_MAX), "0", list_compress_depth),
    row!("set-max-intset-entries", int(0, I64_MAX), "512", set_max_intset_entries),
    row!("set-max-listpack-entries", int(0, I64_MAX), "128", set_max_listpack_entries),
    row!("set-max-listpack-value", int(0, I64_MAX), "64", set_max_listpack_value_bytes),
    row!("stream-node-max-bytes", memory(0), "4096", stream_node_max_bytes),
    row!("stream-node-max-entries", int(0, I64_MAX), "100", stream_node_max_entries),
    row!("zset-max-listpack-entries", int(0, I64_MAX), "128", zset_max_listpack_entries)
        .old_name("zset-max-ziplist-entries"),
    row!("zset-max-listpack-value", memory(0), "64", zset_max_listpack_value_bytes)
        .old_name("zset-max-ziplist-value"),
    row!("hll-sparse-max-bytes", memory(0), "3000", hll_sparse_max_bytes),

    // Observation.
    row!("slowlog-log-slower-than", int(-1, I64_MAX), "10000", slowlog_log_slower_than_micros),
    row!("slowlog-max-len", int(0, I64_MAX), "128", slowlog_max_len),
    row!("latency-monitor-threshold", int(0, I64_MAX), "0", latency_monitor_threshold_ms),
    row!("latency-tracking", Bool, "yes", latency_tracking),
    row!("latency-tracking-info-percentiles", Kind::Percentiles, "50 99 99.9", latency_tracking_info_percentiles),

    // The memory limit, and who goes when it is reached.
    row!("maxmemory", Kind::Memory { min: 0, max: u64::MAX }, "0", maxmemory_bytes),
    row!("maxmemory-clients", Kind::MemoryOrPercent, "0", maxmemory_clients),
    row!("maxmemory-policy", Enum(MaxmemoryPolicy::WORDS), "noeviction", maxmemory_policy),
    row!("busy-reply-threshold", int(0, I64_MAX), "5000", busy_reply_threshold_ms).old_name("lua-time-limit"),
    row!("script-memory-limit", memory(0), "2gb", script_memory_limit_bytes),
    row!("maxmemory-samples", int(1, 64), "5", maxmemory_samples),
    row!("maxmemory-eviction-tenacity", int(0, 100), "10", maxmemory_eviction_tenacity),
    row!("lfu-log-factor", int(0, I32_MAX), "10", lfu_log_factor),
    row!("lfu-decay-time", int(0, I32_MAX), "1", lfu_decay_minutes),

    // Freeing in the background.
    row!("lazyfree-lazy-eviction", Bool, "no", lazyfree_lazy_eviction),
    row!("lazyfree-lazy-expire", Bool, "no", lazyfree_lazy_expire),
    row!("lazyfree-lazy-server-del", Bool, "no", lazyfree_lazy_server_del),
    row!("lazyfree-lazy-user-del", Bool, "no", lazyfree_lazy_user_del),
    row!("lazyfree-lazy-user-flush", Bool, "no", lazyfree_lazy_user_flush),
];

/// What lies outside 1..=500 is pulled inside, as Redis does.
fn clamp_hz(value: Value) -> Result<Value, String> {
    match value {
        Value::Int(hz) => Ok(Value::Int(hz.clamp(1, 500))),
        other => Ok(other),
    }
}

fn check_dbfilename(value: Value) -> Result<Value, String> {
    no_slash(value, "dbfilename can't be a path, just a filename")
}

fn check_appendfilename(value: Value) -> Result<Value, String> {
    let value = not_empty(value, "appendfilename can't be empty")?;
    no_slash(value, "appendfilename can't be a path, just a filename")
}

fn check_appenddirname(value: Value) -> Result<Value, String> {
    let value = not_empty(value, "appenddirname can't be empty")?;
    no_slash(value, "appenddirname can't be a path, just a dirname")
}

fn not_empty(value: Value, refusal: &str) -> Result<Value, String> {
    match value {
        Value::Text(text) if text.is_empty() => Err(refusal.into()),
        value => Ok(value),
    }
}

fn no_slash(value: Value, refusal: &str) -> Result<Value, String> {
    match value {
        Value::Text(text) if text.iter().any(|b| b"/\\".contains(b)) => Err(refusal.into()),
        value => Ok(value),
    }
}

/// The variables that a process title may contain.
const TITLE_VARIABLES: [&str; 7] = [
    "title",
    "listen-addr",
    "server-mode",
    "port",
    "tls-port",
    "unixsocket",
    "config-file",
];

fn check_proc_title_template(value: Value) -> Result<Value, String> {
    let refused = || "template format is invalid or contains unknown variables".to_string();
    let Value::Text(text) = &value else {
        return Ok(value);
    };
    let text = std::str::from_utf8(text).map_err(|_| refused())?;
    if text.is_empty() {
        return Err(refused());
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('{') {
        let (variable, behind) = after.split_once('}').ok_or_else(refused)?;
        if !TITLE_VARIABLES.contains(&variable) {
            return Err(refused());
        }
        rest = behind;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_lowercase() {
        let mut seen = HashSet::new();
        for row in directives() {
            for name in [Some(row.name), row.old_name].into_iter().flatten() {
                assert!(seen.insert(name), "{name} occurs twice");
                assert_eq!(name, name.to_ascii_lowercase());
                assert_eq!(find(name.as_bytes()).map(|r| r.name), Some(row.name));
            }
        }
        assert_eq!(find(b"TimeOut").map(|row| row.name), Some("timeout"));
        assert!(find(b"nosuch").is_none());
    }

    #[test]
    fn every_default_is_what_a_new_config_holds() {
        let config = Config::default();
        for row in directives() {
            assert_eq!(row.value(&config), row.default_value(), "{}", row.name);
        }
    }

    /// The bounds of every row fit the type of its field, and a stored value is read back.
    #[test]
    fn every_field_holds_the_extremes_of_its_row() {
        for row in directives() {
            let extremes: Vec<String> = match row.kind {
                Kind::Int { min, max } => vec![min.to_string(), max.to_string()],
                Kind::AutoInt { max } => vec!["auto".into(), max.to_string()],
                Kind::Memory { min, max } => vec![min.to_string(), max.to_string()],
                Kind::Octal => vec!["0".into(), "777".into()],
                Kind::Bool => vec!["yes".into(), "no".into()],
                Kind::Enum(words) => words.iter().map(|word| word.to_string()).collect(),
                _ => Vec::new(),
            };
            for text in extremes {
                let mut config = Config::default();
                let value = row
                    .parse(&[text.as_bytes()], &row.default_value())
                    .unwrap_or_else(|error| panic!("{} {text}: {error}", row.name));
                row.store(&mut config, value.clone());
                assert_eq!(row.value(&config), value, "{} {text}", row.name);
            }
        }
    }

    #[test]
    fn title_templates() {
        let check = |text: &str| check_proc_title_template(Value::Text(text.into())).is_ok();
        assert!(check("{title} {listen-addr} {port}"));
        assert!(check("a}"));
        assert!(!check(""));
        assert!(!check("{title"));
        assert!(!check("{title} {user}"));
    }
}
