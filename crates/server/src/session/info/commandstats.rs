//! `# Commandstats`: commands that were called, or refused.

use super::{Facts, Section};
use crate::command_stats;

pub const SECTION: Section = Section {
    name: "commandstats",
    title: "Commandstats",
    is_default: false,
    needs_shards: false,
    write,
};

fn write(facts: &Facts, out: &mut String) {
    for (command, totals) in command_stats::commands().iter().zip(&facts.totals.commands) {
        if totals.calls == 0 && totals.rejected == 0 && totals.failed == 0 {
            continue;
        }
        let micros = totals.nanos / 1000;
        let per_call = totals.nanos as f64 / 1000.0 / totals.calls.max(1) as f64;
        out.push_str(&format!(
            "cmdstat_{}:calls={},usec={micros},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}\r\n",
            command.name, totals.calls, totals.rejected, totals.failed
        ));
    }
}
