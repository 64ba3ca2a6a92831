"""The executable on kernels of its own, in qemu: see README.md."""
