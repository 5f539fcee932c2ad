"""Curator's responses: the request's messages beside the response."""

from factory.sources.shape import Shape

SHAPE = Shape(
    name="Curator",
    has=("generic_request.messages", "response_message|parsed_response_message"),
    prompt="generic_request.messages",
    completion="response_message",
    thinking=(
        "raw_response.choices[0].message.reasoning_content",
        "raw_response.choices[0].message.reasoning",
    ),
    model="generic_request.model",
    finish_reason=("finish_reason", "raw_response.choices[0].finish_reason"),
    n_tokens="token_usage.completion_tokens",
    item=("generic_request.original_row_idx", "id"),
    copies=("raw_request", "raw_response", "generic_request", "parsed_response_message"),
)
