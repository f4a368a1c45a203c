"""Test images with their maps, and figures on disk."""
