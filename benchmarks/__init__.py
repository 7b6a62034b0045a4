"""Measurements of speed, memory and accuracy; ``python -m benchmarks`` measures a step of the heads beside others."""
