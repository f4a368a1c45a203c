"""Puts the plugin folders and the data that the package reads inside wheels."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PluginFolders(BuildHookInterface[Any]):
    """An editable install reads the folders in place; a wheel carries them under bench/builtin."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard" and self.target_name == "wheel":
            results = ("results/tables", "results/published")
            for path in ("methods", "datasets", "bench.toml", *results):
                build_data["force_include"][path] = f"bench/builtin/{path}"
