"""What scripts/bench does: see docs/benchmarks.md.

    peers       the servers that are compared
    workloads   what they are asked for, and what is measured
    rounds      who is measured when, and which rounds count
    goals       the figures that are wanted
    report      tables, JSON and Markdown
    plots       SVG
"""
