"""codeforces: description, input and output of contest problems with official tests; prompts."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Codeforces",
    datasets=("open-r1/codeforces",),
    has=("description", "input_format", "output_format", "official_tests"),
    lacks=("generation",),
    prompt="{description}\n\nInput\n\n{input_format}\n\nOutput\n\n{output_format}",
    gold="official_tests",
    verifier="code",
    level="rating",
)
