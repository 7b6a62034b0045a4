"""``python -m benchmarks.scale``: what classes that are split over ranks cost, computed, and in part measured."""
