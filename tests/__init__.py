"""Tests of cni-reaper; everything that needs root happens in private nodes (tests.support.node)."""
