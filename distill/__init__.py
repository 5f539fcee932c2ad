"""Training: SFT, GRPO, rewards, evaluation, preflight (TRL does the optimisation)."""
