"""A real pretrained model on a laptop: prompts, traces, SFT and GRPO of SmolLM2-135M-Instruct."""
