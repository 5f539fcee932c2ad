"""codeforces-cots: a prompt, R1's generation and the same as messages."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="codeforces-cots",
    datasets=("open-r1/codeforces-cots",),
    has=("prompt", "generation", "messages"),
    prompt="prompt",
    completion="generation",
    gold=("official_tests",),
    copies=("messages",),
)
