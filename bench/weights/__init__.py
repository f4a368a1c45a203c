"""Where the weights of a backbone come from, whether they fit, and their identity."""
