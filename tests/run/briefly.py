"""Tables of a bench.toml with which a cell takes a second: speed `one`, few small images."""

BRIEFLY = """
[speed.one]
warmup_steps_cpu = 1
min_steps_cpu = 1
min_s_cpu = 0
max_batch = 1
[datasets.synthetic]
size = 64
train = 4
good = 2
bad = 2
"""
