//! `# Keyspace`: databases that are not empty.

use super::Section;

pub const SECTION: Section = Section {
    name: "keyspace",
    title: "Keyspace",
    is_default: true,
    needs_shards: true,
    write: |facts, out| {
        for db in &facts.dbs {
            out.push_str(&format!(
                "db{}:keys={},expires={},avg_ttl={},subexpiry={}\r\n",
                db.index.0, db.keys, db.expires, db.avg_ttl_ms, db.field_expiries
            ));
        }
    },
};
