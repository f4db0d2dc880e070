"""What `benches/run` is made of.

    process.py     what /proc says about a server: CPU time, memory, children; how busy the machine is
    dataset.py     known keys sent to a server as fast as it takes them
    generator.py   memtier_benchmark, or redis-benchmark in its place
    scenarios.py   what is measured, on which servers, and how; large.py and commands.py have more of them
    report.py      medians, ratios, tables, and the targets
    results.py     one JSON line per measurement, written and read back

Starting servers and talking to them is `tests/support`, shared with the tests.
"""
