"""A fitted method that outlives its cell: save, load, score new images."""
