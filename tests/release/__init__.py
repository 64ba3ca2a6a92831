"""Tests of a whole release; `./build.sh release` runs them, `./build.sh test` does not: see conftest.py."""
