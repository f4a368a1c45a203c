"""Where method plugins are found: the wheel's or the checkout's folder, then the project's."""

from bench.plan.discovery import plugin_path

__path__ = plugin_path("methods", __path__)
