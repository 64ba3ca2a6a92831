"""Stands in for the build backend of a source package while pip downloads it: pip asks for the metadata first.

build_root.py puts this file where maturin, hatchling and setuptools would be. PyInstaller's real backend compiles a bootloader,
and orjson's asks for a Rust toolchain, before they answer. A source package has its metadata in PKG-INFO (PEP 517, PEP 643).
"""

import email.parser
import os
import shutil
import sys

__legacy__ = sys.modules[__name__]  # what pip asks setuptools.build_meta for, where pyproject.toml names no backend


def prepare_metadata_for_build_wheel(directory: str, _settings: object = None) -> str:
    """Write the metadata below a directory, and return its name there (PEP 517)."""
    with open("PKG-INFO", encoding="utf-8") as file:
        about = email.parser.HeaderParser().parse(file)
    name = f"{about['Name'].replace('-', '_')}-{about['Version']}.dist-info"
    os.mkdir(f"{directory}/{name}")
    shutil.copy("PKG-INFO", f"{directory}/{name}/METADATA")
    return name
