"""`cni-reaper mend`, and what `audit` and `doctor` say of broken files."""
