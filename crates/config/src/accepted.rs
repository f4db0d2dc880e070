//! Directives of Redis, and of Valkey, whose part of the server does not exist here: replication, cluster,
//! modules, tracking, and others.
//!
//! Their values are checked, kept, and reported by CONFIG GET, so that existing configuration files and tools keep
//! working; nothing looks at them. `Config::accepted_only_in_use` names those that were changed, for the log.
//! When a part is built, its rows move to [`crate::table`] and gain a field.

use crate::kind::Kind::{self, Bool, Enum, Text};
use crate::kind::Value;
use crate::table::{int, memory, Directive, Flags, Place, I32_MAX, I64_MAX, U32_MAX};

const fn row(name: &'static str, kind: Kind, default: &'static str) -> Directive {
    Directive {
        name,
        old_name: None,
        kind,
        default,
        flags: Flags::NONE,
        check: None,
        place: Place::AcceptedOnly,
    }
}

/// A text that is unset by default.
const fn unset(name: &'static str) -> Directive {
    row(name, Text, "\"\"").flags(Flags::EMPTY_IS_UNSET)
}

use Flags as F;

#[rustfmt::skip]
pub(crate) const ACCEPTED_ONLY: &[Directive] = &[
    // Memory limits.
    row("oom-score-adj", Enum(&["no", "yes", "relative", "absolute"]), "no").check(relative_is_yes),
    row("oom-score-adj-values", Kind::OomScores, "0 200 800"),

    // Observation.
    row("syslog-enabled", Bool, "no").flags(F::IMMUTABLE),
    row("syslog-ident", Text, "redis").flags(F::IMMUTABLE),
    row("syslog-facility", Enum(&["user", "local0", "local1", "local2", "local3", "local4", "local5",
        "local6", "local7"]), "local0").flags(F::IMMUTABLE),
    row("crash-memcheck-enabled", Bool, "yes"),
    row("ignore-warnings", Text, "\"\""),
    row("watchdog-period", int(0, I32_MAX), "0").flags(F::HIDDEN),

    // Threads, processes, memory of the process.
    row("io-threads", int(1, 128), "1").flags(F::IMMUTABLE),
    row("io-threads-do-reads", Bool, "no").flags(F::IMMUTABLE),
    unset("server-cpulist").old_name("server_cpulist").flags(F::IMMUTABLE),
    unset("bio-cpulist").old_name("bio_cpulist").flags(F::IMMUTABLE),
    unset("aof-rewrite-cpulist").old_name("aof_rewrite_cpulist").flags(F::IMMUTABLE),
    unset("bgsave-cpulist").old_name("bgsave_cpulist").flags(F::IMMUTABLE),
    row("jemalloc-bg-thread", Bool, "yes"),
    row("activerehashing", Bool, "yes"),
    row("activedefrag", Bool, "no"),
    row("active-defrag-cycle-min", int(1, 99), "1"),
    row("active-defrag-cycle-max", int(1, 99), "25"),
    row("active-defrag-threshold-lower", int(0, 1000), "10"),
    row("active-defrag-threshold-upper", int(0, 1000), "100"),
    row("active-defrag-ignore-bytes", memory(1), "100mb"),
    row("active-defrag-max-scan-fields", int(1, I64_MAX), "1000"),
    row("locale-collate", Text, "\"\""),
    row("use-exit-on-panic", Bool, "no").flags(F::HIDDEN),

    // Network.
    unset("bind-source-addr"),
    row("socket-mark-id", int(0, U32_MAX), "0").flags(F::IMMUTABLE),
    row("max-new-connections-per-cycle", int(1, 1000), "10"),
    row("max-new-tls-connections-per-cycle", int(1, 1000), "1"),

    // Loading and saving.
    row("rdb-del-sync-files", Bool, "no"),
    row("aof-disable-auto-gc", Bool, "no").flags(F::HIDDEN),
    row("rdb-key-save-delay", int(i32::MIN as i64, I32_MAX), "0").flags(F::HIDDEN),
    row("key-load-delay", int(i32::MIN as i64, I32_MAX), "0").flags(F::HIDDEN),
    row("loading-process-events-interval-bytes", int(1024, I32_MAX), "2097152").flags(F::HIDDEN),

    // Scripts, modules, users.
    row("lua-enable-deprecated-api", Bool, "no").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("enable-module-command", Enum(&["no", "yes", "local"]), "no").flags(F::IMMUTABLE),

    // Replication.
    row("replicaof", Kind::ReplicaOf, "\"\"").old_name("slaveof")
        .flags(F::IMMUTABLE).flags(F::EMPTY_IS_UNSET),
    unset("masterauth").flags(F::SENSITIVE),
    unset("masteruser").flags(F::SENSITIVE),
    row("propagation-error-behavior", Enum(&["ignore", "panic", "panic-on-replicas"]), "ignore"),
    row("repl-timeout", int(1, I32_MAX), "60"),
    row("repl-ping-replica-period", int(1, I32_MAX), "10").old_name("repl-ping-slave-period"),
    row("repl-backlog-size", memory(1), "1mb"),
    row("repl-backlog-ttl", int(0, I64_MAX), "3600"),
    row("repl-disable-tcp-nodelay", Bool, "no"),
    row("repl-diskless-load", Enum(&["disabled", "on-empty-db", "swapdb"]), "disabled"),
    row("repl-diskless-sync", Bool, "yes"),
    row("repl-diskless-sync-delay", int(0, I32_MAX), "5"),
    row("repl-diskless-sync-max-replicas", int(0, I32_MAX), "0"),
    row("replica-full-sync-buffer-limit", memory(0), "0"),
    row("replica-serve-stale-data", Bool, "yes").old_name("slave-serve-stale-data"),
    row("replica-read-only", Bool, "yes").old_name("slave-read-only"),
    row("replica-lazy-flush", Bool, "no").old_name("slave-lazy-flush"),
    row("replica-priority", int(0, I32_MAX), "100").old_name("slave-priority"),
    row("replica-announced", Bool, "yes"),
    unset("replica-announce-ip").old_name("slave-announce-ip"),
    row("replica-announce-port", int(0, 65535), "0").old_name("slave-announce-port"),
    row("replica-ignore-maxmemory", Bool, "yes").old_name("slave-ignore-maxmemory"),
    row("replica-ignore-disk-write-errors", Bool, "no"),
    row("min-replicas-to-write", int(0, I32_MAX), "0").old_name("min-slaves-to-write"),
    row("min-replicas-max-lag", int(0, I32_MAX), "10").old_name("min-slaves-max-lag"),

    // Cluster.
    row("cluster-enabled", Bool, "no").flags(F::IMMUTABLE),
    row("cluster-config-file", Text, "nodes.conf").flags(F::IMMUTABLE),
    row("cluster-node-timeout", int(0, I64_MAX), "15000"),
    row("cluster-port", int(0, 65535), "0").flags(F::IMMUTABLE),
    unset("cluster-announce-ip"),
    unset("cluster-announce-hostname"),
    unset("cluster-announce-human-nodename"),
    row("cluster-announce-port", int(0, 65535), "0"),
    row("cluster-announce-tls-port", int(0, 65535), "0"),
    row("cluster-announce-bus-port", int(0, 65535), "0"),
    row("cluster-preferred-endpoint-type", Enum(&["ip", "hostname", "unknown-endpoint"]), "ip"),
    row("cluster-require-full-coverage", Bool, "yes"),
    row("cluster-replica-validity-factor", int(0, I32_MAX), "10").old_name("cluster-slave-validity-factor"),
    row("cluster-replica-no-failover", Bool, "no").old_name("cluster-slave-no-failover"),
    row("cluster-migration-barrier", int(0, I32_MAX), "1"),
    row("cluster-allow-replica-migration", Bool, "yes"),
    row("cluster-allow-reads-when-down", Bool, "no"),
    row("cluster-allow-pubsubshard-when-down", Bool, "yes"),
    row("cluster-link-sendbuf-limit", Kind::Memory { min: 0, max: u64::MAX }, "0"),
    row("cluster-compatibility-sample-ratio", int(0, 100), "0"),

    // TLS: towards other servers, and what there is no use for.
    row("tls-cluster", Bool, "no"),
    row("tls-replication", Bool, "no"),
    unset("tls-client-cert-file"),
    unset("tls-client-key-file"),
    unset("tls-client-key-file-pass").flags(F::SENSITIVE),
    unset("tls-dh-params-file"),

    // Valkey's own: its files are to be read as well, but CONFIG GET with a pattern shows what Redis has.
    unset("primaryauth").flags(F::SENSITIVE).flags(F::HIDDEN),
    unset("primaryuser").flags(F::SENSITIVE).flags(F::HIDDEN),
    row("commandlog-execution-slower-than", int(-1, I64_MAX), "10000").flags(F::HIDDEN),
    row("commandlog-slow-execution-max-len", int(0, I64_MAX), "128").flags(F::HIDDEN),
    row("commandlog-request-larger-than", int(-1, I64_MAX), "1048576").flags(F::HIDDEN),
    row("commandlog-large-request-max-len", int(0, I64_MAX), "128").flags(F::HIDDEN),
    row("commandlog-reply-larger-than", int(-1, I64_MAX), "1048576").flags(F::HIDDEN),
    row("commandlog-large-reply-max-len", int(0, I64_MAX), "128").flags(F::HIDDEN),
    row("rdb-version-check", Enum(&["strict", "relaxed"]), "strict").flags(F::HIDDEN),
    row("dual-channel-replication-enabled", Bool, "no").flags(F::HIDDEN),
    row("repl-mptcp", Bool, "no").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("mptcp", Bool, "no").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("import-mode", Bool, "no").flags(F::HIDDEN),
    row("extended-redis-compatibility", Bool, "no").flags(F::HIDDEN),
    row("prefetch-batch-max-size", int(0, I32_MAX), "16").flags(F::HIDDEN),
    row("log-format", Enum(&["legacy", "logfmt", "json"]), "legacy").flags(F::HIDDEN),
    row("log-timestamp-format", Enum(&["legacy", "iso8601", "milliseconds"]), "legacy").flags(F::HIDDEN),
    row("hash-seed", Text, "\"\"").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("unixsocketgroup", Text, "\"\"").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("availability-zone", Text, "\"\"").flags(F::HIDDEN),
    row("active-defrag-cycle-us", int(0, 100_000), "500").flags(F::HIDDEN),
    row("cluster-announce-client-ipv4", Text, "\"\"").flags(F::HIDDEN),
    row("cluster-announce-client-ipv6", Text, "\"\"").flags(F::HIDDEN),
    row("cluster-announce-client-port", int(0, 65535), "0").flags(F::HIDDEN),
    row("cluster-announce-client-tls-port", int(0, 65535), "0").flags(F::HIDDEN),
    row("cluster-blacklist-ttl", int(0, I64_MAX), "60").flags(F::HIDDEN),
    row("cluster-config-save-behavior", Enum(&["sync", "best-effort"]), "sync").flags(F::HIDDEN),
    row("cluster-databases", int(1, I32_MAX), "1").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("cluster-manual-failover-timeout", int(0, I64_MAX), "5000").flags(F::HIDDEN),
    row("cluster-slot-migration-log-max-len", int(0, I64_MAX), "1000").flags(F::HIDDEN),
    row("cluster-slot-stats-enabled", Bool, "no").flags(F::HIDDEN),
    row("slot-migration-max-failover-repl-bytes", memory(0), "0").flags(F::HIDDEN),
    row("rdma-bind", Text, "\"\"").flags(F::HIDDEN),
    row("rdma-port", int(0, 65535), "0").flags(F::HIDDEN),
    row("rdma-rx-size", memory(0), "1048576").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("rdma-completion-vector", int(-1, I32_MAX), "-1").flags(F::IMMUTABLE).flags(F::HIDDEN),
    row("tls-auth-clients-user", Enum(&["CN", "URI", "off"]), "off").flags(F::HIDDEN),
    row("tls-auto-reload-interval", int(0, I32_MAX), "0").flags(F::HIDDEN),
];

/// `relative` is another word for `yes`.
fn relative_is_yes(value: Value) -> Result<Value, String> {
    match value {
        Value::Word("relative") => Ok(Value::Word("yes")),
        other => Ok(other),
    }
}
