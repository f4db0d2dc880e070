//! `# Latencystats`: percentiles of how long commands took.

use super::{Facts, Section};
use crate::command_stats;

pub const SECTION: Section = Section {
    name: "latencystats",
    title: "Latencystats",
    is_default: false,
    needs_shards: false,
    write,
};

fn write(facts: &Facts, out: &mut String) {
    let percentiles = &facts.config.latency_tracking_info_percentiles;
    for (command, latencies) in command_stats::latencies(facts.server) {
        let shown: Vec<String> = percentiles
            .iter()
            .map(|percentile| {
                let share = percentile.parse().expect("checked when it was set");
                let micros = latencies.value_at_percentile(share) as f64 / 1000.0;
                format!("p{percentile}={micros:.3}")
            })
            .collect();
        out.push_str(&format!(
            "latency_percentiles_usec_{}:{}\r\n",
            command.name,
            shown.join(",")
        ));
    }
}
