"""The leaderboard as static pages, from rows alone: no server, no torch, no external host."""

from __future__ import annotations

from bench.report.site.data import SiteData, load_site_data
from bench.report.site.pages import Built, build_site

__all__ = ["Built", "SiteData", "build_site", "load_site_data"]
