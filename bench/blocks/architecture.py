"""Networks by name: timm's, and torchvision's where timm has no such network or weights.

Both libraries are imported where they are used: they take seconds.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bench.errors import MethodError, nearest

if TYPE_CHECKING:
    from torch import nn

_TAGS = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}
"""What timm calls torchvision's weights."""


@dataclass(frozen=True)
class Architecture:
    """A network that a library can build.

    Attributes:
        name: in that library, without a tag.
        tag: of its weights; that of the default ones where none was named; empty where there are
            none.
    """

    library: Literal["timm", "torchvision"]
    name: str
    tag: str

    @property
    def tagged(self) -> str:
        """The name with its tag."""
        return f"{self.name}.{self.tag}" if self.tag else self.name

    @property
    def size(self) -> int:
        """Side of a square image that the network takes in any case."""
        if self.library == "torchvision":
            return 224
        import timm

        cfg = timm.get_pretrained_cfg(self.tagged)
        return int(cfg.input_size[-1]) if cfg is not None else 224

    def create(self, *, pretrained: bool = False, **options: Any) -> nn.Module:
        """The whole network, made to accept any image size that its patches tile.

        Args:
            pretrained: with the weights of the tag, which are downloaded.
            options: of timm's `create_model`.
        """
        if self.library == "torchvision":
            return _create_torchvision(self, pretrained)
        import timm

        cfg = timm.get_pretrained_cfg(self.tagged)
        options["pretrained"] = pretrained
        if cfg is not None and cfg.fixed_input_size:
            # Vision transformers interpolate their position code only when told to; relatives of
            # theirs do not know the option and keep their size.
            try:
                return timm.create_model(self.tagged, dynamic_img_size=True, **options)
            except TypeError as error:
                if "dynamic_img_size" not in str(error):
                    raise
        return timm.create_model(self.tagged, **options)


def find_architecture(name: str) -> Architecture:
    """The network of that name, of the default tag where the name has none.

    Raises:
        MethodError: no such network, or no such tag; the message names the nearest.
    """
    import timm

    plain, _, tag = name.partition(".")
    tags: list[str] = []
    if timm.is_model(plain):
        tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{plain}.*")]
        if not tag or tag in tags:
            default = timm.get_pretrained_cfg(plain)
            return Architecture("timm", plain, tag or (default.tag if default else "") or "")
    weights = _torchvision_weights(name, plain)
    if tag in weights or (weights and not tag):
        return Architecture("torchvision", plain, tag or next(iter(weights)))
    if tags or weights:
        known = dict.fromkeys([*tags, *weights])
        raise MethodError(f"backbone {plain} has no weights {tag!r}; {nearest(tag, known)}")
    close = difflib.get_close_matches(plain, timm.list_models(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise MethodError(
        f"unknown backbone {name!r}; {hint}timm.list_models() and torchvision.models.list_models() "
        "in Python list all of them"
    )


def split_name(name: str) -> tuple[str, str]:
    """Architecture and tag of a name; the default tag where the name has none.

    Raises:
        MethodError: as `find_architecture`.
    """
    found = find_architecture(name)
    return found.name, found.tag


def _torchvision_weights(name: str, plain: str) -> dict[str, Any]:
    """torchvision's weights of a network by tag, the default ones first; empty where it has none.

    Raises:
        MethodError: torchvision cannot be imported.
    """
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # of another release than torch: RuntimeError
        raise MethodError(
            f"backbone {name!r} is not timm's, and torchvision, which has further networks, cannot "
            f"be imported ({str(error).splitlines()[0]}); install the release that fits torch"
        ) from error
    if plain not in models.list_models(module=models):
        return {}
    known = models.get_model_weights(plain)
    default = [known.DEFAULT] if len(known) else []
    return {_TAGS.get(w.name, w.name.lower()): w for w in dict.fromkeys([*default, *known])}


def _create_torchvision(architecture: Architecture, pretrained: bool) -> nn.Module:
    from torchvision import models

    if pretrained:
        weights = _torchvision_weights(architecture.name, architecture.name)[architecture.tag]
        network: nn.Module = models.get_model(architecture.name, weights=weights)
        return network
    # These two warn unless told whether to draw their weights.
    told = {"init_weights": True} if architecture.name in ("googlenet", "inception_v3") else {}
    fresh: nn.Module = models.get_model(architecture.name, weights=None, **told)
    return fresh
