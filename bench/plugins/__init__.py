"""Plugins under one import name, wherever their files lie."""
