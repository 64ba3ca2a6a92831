"""What a person sees: the commands of the executable when no runtime calls it."""
