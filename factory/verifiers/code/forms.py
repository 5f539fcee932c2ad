"""The forms in which public code sets hold their tests, read into the one form of this verifier.

Read are: lists of inputs and outputs with or without a function's name (TACO, APPS), sets of such
lists (CodeContests), lists of cases with their type, LiveCodeBench's private tests (base64, zlib,
then JSON), lists of assertions (MBPP), and test files of pytest or unittest (KodCode,
LeetCodeDataset).
"""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from factory.verifiers.code.checks import BadGold

_MOST_BYTES = 256 << 20
_CODE = re.compile(
    r"^\s*(?:def test_|def check\(|assert\b|class Test|from solution import"
    r"|import (?:pytest|unittest))",
    re.MULTILINE,
)
_CODE_KEYS = ("test", "tests", "test_code", "unit_tests", "functional")
_LIST_KEYS = ("test_list", "assertions", "asserts")
_IO_KEYS = (("inputs", "outputs"), ("input", "output"))
_CASES_KEYS = ("public_test_cases", "private_test_cases")
_SETS_KEYS = ("public_tests", "private_tests", "generated_tests")
_OWN_KEYS = ("language", "entry_point", "setup", "prefix", "solution", "libraries")
# A pickled text has these opcodes and no others; nothing of a pickle is ever executed.
_TEXT_OPCODES = {"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"}
_TEXTS = {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}


def is_tests(gold: Any) -> bool:
    """Tell whether a gold is tests of a program, in any form that ``own_form`` reads.

    >>> is_tests('{"inputs": ["1"], "outputs": ["2"]}'), is_tests("def test_f():\\n    assert f(1)")
    (True, True)
    >>> is_tests("42"), is_tests(["4", "5"]), is_tests({"x": 1})
    (False, False, False)
    """
    if isinstance(gold, str):
        if _CODE.search(gold):
            return gold.lstrip()[:1] not in "[{" or '"' not in gold
        if gold.lstrip()[:1] not in ("{", "["):
            return False
        try:
            gold = json.loads(gold)
        except (ValueError, RecursionError):
            return False
    if isinstance(gold, Mapping):
        return "test_cases" in gold or _form_of(gold) is not None
    if not isinstance(gold, list) or not gold:
        return False
    return all(isinstance(g, str) and g.lstrip().startswith("assert") for g in gold[:3]) or all(
        isinstance(g, Mapping) and {"input", "output"} <= set(g) for g in gold[:3]
    )


def own_form(gold: Any) -> Mapping[str, Any]:
    """Return a gold as the mapping with ``test_cases`` that this verifier reads.

    Raises:
        BadGold: it has none of the forms, or cannot be decoded.

    >>> own_form({"inputs": ["1"], "outputs": ["2"]})["test_cases"]
    [{'type': 'stdin_stdout', 'input': '1', 'output': '2'}]
    >>> own_form({"inputs": [[1]], "outputs": [2], "fn_name": "f"})["test_cases"]
    [{'type': 'fn_call', 'fn_name': 'f', 'input': [1], 'output': 2}]
    """
    if isinstance(gold, str):
        text = gold
        if gold.lstrip()[:1] in ("{", "["):
            gold = _loaded(gold)
        if isinstance(gold, str):
            if not _CODE.search(text):
                raise BadGold("gold is no JSON")
            return {"test_cases": [{"type": "assert", "code": text}]}
    if isinstance(gold, (list, tuple)):
        return {"test_cases": _cases(gold, None)}
    if not isinstance(gold, Mapping):
        raise BadGold("gold is no mapping")
    if isinstance(gold.get("test_cases"), (list, tuple)):
        return gold
    form = _form_of(gold)
    if form is None:
        raise BadGold("no test_cases")
    own = {key: gold[key] for key in _OWN_KEYS if gold.get(key) is not None}
    own["test_cases"] = form
    if "setup" not in own and isinstance(gold.get("test_setup_code"), str):
        own["setup"] = gold["test_setup_code"]
    return own


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadGold("gold is no JSON") from None


def _form_of(gold: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    nested = gold.get("input_output")
    if isinstance(nested, str | Mapping):
        inner = _loaded(nested) if isinstance(nested, str) else nested
        return _form_of({**inner, **{k: v for k, v in gold.items() if k != "input_output"}})
    name = gold.get("fn_name") or gold.get("func_name") or _named_in(gold.get("metadata"))
    for given, wanted in _IO_KEYS:
        inputs, outputs = gold.get(given), gold.get(wanted)
        if isinstance(inputs, (list, tuple)) and isinstance(outputs, (list, tuple)):
            if len(inputs) != len(outputs):
                raise BadGold(f"{len(inputs)} inputs, {len(outputs)} outputs")
            return [_case(i, o, name) for i, o in zip(inputs, outputs, strict=True)]
    sets = [_form_of(gold[key]) or [] for key in _SETS_KEYS if isinstance(gold.get(key), Mapping)]
    if sets:
        return [case for one in sets for case in one]
    cases = [c for key in _CASES_KEYS if gold.get(key) for c in _decoded(gold[key])]
    if cases:
        return _cases(cases, name)
    for key in _LIST_KEYS:
        if isinstance(gold.get(key), (list, tuple)) and gold[key]:
            return _cases(gold[key], name)
    for key in _CODE_KEYS:
        held = gold.get(key)
        if isinstance(held, str) and held.lstrip()[:1] in ("{", "["):
            held = _loaded(held)
        if isinstance(held, Mapping):
            return _form_of({**held, **{k: v for k, v in gold.items() if k != key}})
        if isinstance(held, str) and _CODE.search(held):
            return [{"type": "assert", "code": held}]
        if isinstance(held, (list, tuple)) and held:
            return _cases(held, name)
    return None


def _named_in(metadata: Any) -> Any:
    if isinstance(metadata, str) and metadata.lstrip()[:1] == "{":
        metadata = _loaded(metadata)
    return metadata.get("func_name") if isinstance(metadata, Mapping) else None


def _case(given: Any, wanted: Any, name: Any) -> dict[str, Any]:
    if isinstance(name, str) and name:
        return {"type": "fn_call", "fn_name": name, "input": given, "output": wanted}
    return {"type": "stdin_stdout", "input": given, "output": wanted}


def _cases(cases: Sequence[Any], name: Any) -> list[dict[str, Any]]:
    out = []
    for number, case in enumerate(cases):
        if isinstance(case, str):
            out.append({"type": "assert", "code": case})
        elif isinstance(case, Mapping) and ("type" in case or "code" in case):
            out.append(dict(case))
        elif isinstance(case, Mapping) and {"input", "output"} <= set(case):
            own = name or _named_in(case.get("metadata")) or case.get("fn_name")
            by_function = "func" in str(case.get("testtype", "func" if own else ""))
            if by_function and not own:
                raise BadGold("functional tests name no function")
            out.append(_case(case["input"], case["output"], own if by_function else None))
        else:
            raise BadGold(f"test case {number} is of no known form")
    return out


def _decoded(held: Any) -> list[Any]:
    """Return LiveCodeBench's cases: a list, its JSON text, or that text packed."""
    if isinstance(held, (list, tuple)):
        return list(held)
    if not isinstance(held, str):
        raise BadGold("test cases are no text")
    if held.lstrip()[:1] != "[":
        held = _unpacked(held)
    cases = _loaded(held)
    if not isinstance(cases, list):
        raise BadGold("test cases are no list")
    return cases


def _unpacked(text: str) -> str:
    try:
        packed = base64.b64decode(text, validate=True)
        reader = zlib.decompressobj()
        data = reader.decompress(packed, _MOST_BYTES)
    except (binascii.Error, zlib.error, ValueError):
        raise BadGold("test cases cannot be decoded") from None
    if reader.unconsumed_tail or not reader.eof:
        raise BadGold("test cases are cut off or too large")
    if data[:1] == b"\x80":  # a pickle: read only where it is nothing but one text
        return _pickled_text(data)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise BadGold("test cases are no text") from None


def _pickled_text(data: bytes) -> str:
    text: str | None = None
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _TEXTS and text is None:
                text = str(argument)
            elif opcode.name not in _TEXT_OPCODES:
                raise BadGold("test cases are a pickle of more than a text")
    except ValueError:
        raise BadGold("test cases cannot be decoded") from None
    if text is None:
        raise BadGold("test cases are a pickle without a text")
    return text
