"""Meta-learners, one file per family."""
