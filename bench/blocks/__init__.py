"""Parts that methods share: backbone features, Gaussians, flows, smoothing."""
