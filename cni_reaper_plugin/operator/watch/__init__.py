"""`cni-reaper install --watch`: stays, and puts back what a platform takes away."""
