"""Benchmarks: time and memory of training, prediction and preparation."""
