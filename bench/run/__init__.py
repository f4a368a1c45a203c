"""From a plan to rows: driver, executors, one cell, maps made elsewhere."""
