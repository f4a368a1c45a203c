"""All metrics of any method's anomaly maps: replace the arrays below by your own."""

import numpy as np

from bench.evaluate import evaluate

rng = np.random.default_rng(0)
masks = np.zeros((8, 64, 64), bool)
masks[4:, 20:30, 24:40] = True
maps = rng.random(masks.shape, dtype=np.float32) + 0.5 * masks  # (n, h, w), or a list of 2-D maps
labels = [0, 0, 0, 0, 1, 1, 1, 1]  # 1: anomalous
result = evaluate(maps, masks, labels, image_scores=maps.max((1, 2)))

for metric, value in result.values.items():
    print(f"{metric:24}", f"{value:.4f}" if value is not None else result.undefined[metric])
print(result.counts, *result.warnings, sep="\n")
