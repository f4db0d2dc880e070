//! `# Errorstats`: error replies by code.

use super::Section;

pub const SECTION: Section = Section {
    name: "errorstats",
    title: "Errorstats",
    is_default: true,
    needs_shards: false,
    write: |facts, out| {
        for (code, count) in facts.totals.errors.iter().filter(|(_, count)| **count > 0) {
            out.push_str(&format!("errorstat_{code}:count={count}\r\n"));
        }
    },
};
