"""To mend: to remove the broken files of libcni's cache and of delegating plugins, which keep pods from ending."""
