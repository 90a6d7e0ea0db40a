# SPDX-License-Identifier: Apache-2.0
"""The program `indexcache`: searches F/S patterns with any engine, measures overlap, explains schedules, draws results.

Its parts can be used from Python too:

    plan.py      Step, Plan: what a search found, and the file that it is kept in
    overlap.py   Overlap: how much the layers of a model select the same keys
    protocol.py  the messages of docs/search-protocol.md
    engine.py    Engine: what evaluates patterns; ChildEngine starts a program that speaks the protocol
    search.py    search(): runs a search with engines
    plot.py      curve(), heatmap(), strips(): pictures as SVG text
    report.py    write_report(): one HTML file with all of them
"""
