"""Fields that name folders of auxiliary pictures: where these lie, and what a cell has of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files.picture_folder import pictures_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.plan.discovery import Plugin
    from bench.settings.config import Settings

ANNOTATION = "ImageFolder"


def picture_fields(plugin: Plugin) -> list[str]:
    """Fields of a method that are annotated as `bench.api.ImageFolder`."""
    return [f.name for f in plugin.fields.values() if f.annotation.split(".")[-1] == ANNOTATION]


def picture_folder(settings: Settings, value: str) -> Path:
    """Where a folder lies: an absolute one there, else below `[paths].auxiliary`."""
    return settings.paths.auxiliary / Path(value).expanduser()


@dataclass
class Auxiliary:
    """Folders of pictures that the methods of a request name; each is read once.

    Attributes:
        settings: where relative folders count from.
    """

    settings: Settings
    _digests: dict[Path, str] = field(default_factory=dict)

    def folders(self, plugin: Plugin, params: Mapping[str, Any]) -> dict[str, Path]:
        """The folder of each field that names one."""
        return {
            name: picture_folder(self.settings, params[name])
            for name in picture_fields(plugin)
            if params[name]
        }

    def named(self, plugin: Plugin, params: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters, with "NAME@<12 hex>" in place of each folder: its last name, its digest.

        Raises:
            DataError: a folder that is missing, cannot be read or holds hardly a picture.
        """
        found = dict(params)
        for name, folder in self.folders(plugin, params).items():
            if folder not in self._digests:
                what = f"{plugin.name}.{name}"
                cache = self.settings.paths.cache
                self._digests[folder] = pictures_digest(folder, what, cache)
            found[name] = f"{folder.name}@{self._digests[folder]}"
        return found
