"""Benchmarks: two sides alternate in one run, and what counts is the ratio of their medians.

Machines are shared and noisy, so an absolute time means nothing here.
"""
