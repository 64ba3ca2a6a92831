"""Tests in roots of other systems: Debian 11, 12 and 13 as debootstrap makes them, and one without any libc."""
