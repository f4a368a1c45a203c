"""The commands of `bench`, a module for each group."""
