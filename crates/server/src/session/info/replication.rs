//! `# Replication`: a primary without replicas.

use super::{put, Section};

pub const SECTION: Section = Section {
    name: "replication",
    title: "Replication",
    is_default: true,
    needs_shards: false,
    write: |facts, out| {
        put(
            facts,
            out,
            &[
                ("role", |_| "master".into()),
                ("connected_slaves", |_| "0".into()),
                ("master_failover_state", |_| "no-failover".into()),
                ("master_replid", |f| f.server.replication_id()),
                ("master_replid2", |_| "0".repeat(40)),
                ("master_repl_offset", |_| "0".into()),
                ("second_repl_offset", |_| "-1".into()),
                ("repl_backlog_active", |_| "0".into()),
                ("repl_backlog_size", |_| "1048576".into()),
                ("repl_backlog_first_byte_offset", |_| "0".into()),
                ("repl_backlog_histlen", |_| "0".into()),
            ],
        );
    },
};
