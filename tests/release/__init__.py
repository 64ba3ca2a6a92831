"""Tests of a release's tarball; `./build.sh release` runs them, `./build.sh test` does not: see conftest.py."""
