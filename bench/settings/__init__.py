"""The choices: bench.toml, protocols, how speed is measured."""
