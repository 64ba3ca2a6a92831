"""The files that come with the frozen executable. A source tree has none: packaging/freeze.py writes this module."""

FILES: dict[str, bytes] = {}
"""Content by name: `completion.bash`, `cni-reaper.8`, `systemd/cni-reaper-install.service`, …"""

BUILD: dict[str, str] = {}
"""What the build says of itself: `version`, `commit`, `kind`, `python`, and a version for each package that is linked in."""
