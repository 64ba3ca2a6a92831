"""Tests of the frozen bundle as a thing."""
