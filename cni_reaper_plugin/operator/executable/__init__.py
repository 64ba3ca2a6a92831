"""The executable as a file: this process's own, and the copy in a directory of plugins."""
