//! `# Shards`: what each holds, and how far its log is. A section of our own.

use super::{Facts, Section};

pub const SECTION: Section = Section {
    name: "shards",
    title: "Shards",
    is_default: false,
    needs_shards: true,
    write,
};

fn write(facts: &Facts, out: &mut String) {
    let aof = &facts.server.aof;
    for shard in &facts.shards {
        out.push_str(&format!(
            "shard{}:keys={},expires={},table_bytes={}",
            shard.index.0, shard.keys, shard.expires, shard.table_bytes
        ));
        if aof.is_on() {
            out.push_str(&format!(
                ",log_end={},log_written={},log_durable={}",
                shard.log_end.0,
                aof.written(shard.index).0,
                aof.durable(shard.index).0
            ));
        }
        out.push_str("\r\n");
    }
}
