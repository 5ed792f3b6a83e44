"""Learning to adapt: networks, objectives, meta-learners, sampling, evaluation. Nothing is imported here."""
