"""Files to tensors, and all that can be wrong with files."""
