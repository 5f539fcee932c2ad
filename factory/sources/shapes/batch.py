"""Batch files of OpenAI and vLLM, results joined with their requests by `custom_id`."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="batch results",
    has=(
        "custom_id",
        "request.body.messages|request.body.input",
        "response.body.choices|response.body.output",
    ),
    prompt=("request.body.messages", "request.body.input"),
    system="request.body.instructions",
    completion=("response.body.choices", "response.body.output"),
    model="response.body.model",
    item="custom_id",
    copies=("request", "response"),
)
