r"""Wrong answers made of right ones: how many do math, logic and choice accept?

Every math gold of the public rows in ``../shared/data`` is changed into answers that a reader
would call wrong: numbers off by one, signs, units and their prefixes, swapped and shortened lists,
other brackets and relations, negations, words that make another answer. Each accepted one is
printed, to be read: a few are right after all (``|x - 1|`` with the sign inside turned). The golds
of the logic tasks are changed too: another option, the option's letter beside another one's text,
the other word, numbers off by one, one knight turned into a knave, words swapped or left out.
Programs that return a constant, such as one that the tests expect, are judged by public tests.

    python -m tests.bench.mutations [--every N]
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from factory.records import Item
from factory.verifiers import choice, code, logic, math

DATA = Path(__file__).parents[3] / "shared" / "data"
FILES = (
    "prompts_math_en", "prompts_math_zh", "prompts_math_multi", "prompts_gsm8k_test",
    "prompts_gsm8k_train", "math_model_outputs", "math_grade_cases", "traces_r1_math500",
)  # fmt: skip
_NUMBER = re.compile(r"(?<![\\A-Za-z0-9._^{,])[0-9]+(?![0-9.,_]|\{,\})")
_PAIR = re.compile(r"\(\s*([^(),]+?)\s*,\s*([^(),]+?)\s*\)")
_UNIT = re.compile(
    r"(\\(?:text|mathrm)\s*\{\s*)(m|g|s|J|W|V|N|Pa|Hz|L|mol|eV|meters?|grams?)(\s*\})"
)
_FLIPS = (
    (r"\le ", "< "), (r"\ge ", "> "), (r"\leq", "<"), (r"\geq", ">"), ("<", ">"), (">", "<"),
    ("[", "("), ("]", ")"), (r"\sqrt", ""), (r"\sin", r"\cos"), (r"\cup", r"\cap"), (r"\pi", "3"),
    ("^2", "^3"), ("a.m.", "p.m."),
)  # fmt: skip
_WORDS = (r"\text{ or more}", r"\text{ squared}", r"\text{ million}", r"\text{ is wrong}")


def golds() -> list[str]:
    """Return every gold of the public math rows once."""
    found: set[str] = set()
    for name in FILES:
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                gold = row.get("gold")
                if row.get("kind", "math") == "math" and isinstance(gold, str) and len(gold) <= 200:
                    found.add(gold.strip())
    return sorted(g for g in found if g and "boxed" not in g and "####" not in g)


def mutants(gold: str) -> Iterator[tuple[str, str]]:
    """Yield wrong answers of a gold, each with the name of its kind."""
    for number in list(_NUMBER.finditer(gold))[:3]:
        for step in (1, -1):
            changed = str(int(number[0]) + step)
            yield "number", gold[: number.start()] + changed + gold[number.end() :]
    if re.search("[0-9]", gold) and not re.search(r"\\pm|=|<|>|\\[lg]e|±|^\$?0\$?$|[,、;]", gold):
        bare = gold.strip("$")
        yield "sign", bare[1:] if bare.startswith("-") else f"-({bare})"
    for found in _PAIR.finditer(gold):
        if found[1] != found[2]:
            swapped = f"({found[2]},{found[1]})"
            yield "swap", gold[: found.start()] + swapped + gold[found.end() :]
    unit = _UNIT.search(gold)
    if unit:
        prefix = "kilo" if len(unit[2]) > 3 else "k"
        yield "prefix", gold[: unit.start(2)] + prefix + gold[unit.start(2) :]
        yield "unit", gold[: unit.start(2)] + "K" + gold[unit.end(2) :]
    for old, new in _FLIPS:
        if old in gold:
            yield "flip", gold.replace(old, new, 1)
    if re.search(r"[<>]|\\[lg]e", gold):
        for old in (" or ", r"\text{or}", r"\text{ or }", r"\lor", r"\cup"):
            if old in gold:
                yield "both", gold.replace(old, r"\text{ and }")
    items = re.split(r",(?![0-9]{3})", gold)
    if len(items) > 1 and not set("([{") & set(gold) and len(set(items)) > 1:
        yield "shorter", ",".join(items[:-1])
    plain = gold.strip("$")
    if re.fullmatch(r"-?[0-9.,]+|.*\\(?:frac|sqrt).*", plain) and not re.search("[<>=]", plain):
        for words in _WORDS:
            yield "words", plain + words if plain != "0" else plain + r"\text{ or more}"
        for sign in (r"\neq ", r"\ge ", r"\text{not }", r"\notin ", "x < "):
            yield "relation", sign + plain


_WORD_FAMILIES = (
    ("yes", "no"), ("true", "false", "uncertain"), ("valid", "invalid"),
)  # fmt: skip
_LISTED = re.compile(r"^[ \t]*\(([A-Z])\)\s*(\S.*?)\s*$", re.MULTILINE)


def logic_mutants(gold: str, texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield wrong answers of a logic gold, each with the name of its kind.

    Args:
        gold: as the sources write it.
        texts: letter → text of the options in the prompt; empty where there are none.
    """
    letter = re.fullmatch(r"\(([A-Z])\)", gold)
    if letter:
        for other in texts:
            if other != letter[1]:
                yield "option", f"({other})"
                yield "option", f"({other}) {texts[other]}"
                yield "text", f"({letter[1]}) {texts[other]}"
                yield "both", f"{letter[1]} or {other}"
        yield "denied", f"not {letter[1]}"
        return
    for family in _WORD_FAMILIES:
        if gold.lower() in family:
            for other in family:
                if other != gold.lower():
                    yield "word", other
                    yield "both", f"{gold} or {other}"
            yield "denied", f"not {gold}"
            return
    if re.fullmatch(r"-?[0-9]+", gold):
        for step in (1, -1):
            yield "number", str(int(gold) + step)
        yield "sign", str(-int(gold)) if gold != "0" else "1"
        yield "denied", f"not {gold}"
        return
    for found in re.finditer(r"knight|knave", gold):
        turned = "knave" if found[0] == "knight" else "knight"
        yield "knight", gold[: found.start()] + turned + gold[found.end() :]
    items = gold.split(" ")
    if " is a kn" not in gold and len(items) > 1:
        yield "shorter", " ".join(items[:-1])
        if items[0] != items[1]:
            yield "swap", " ".join([items[1], items[0], *items[2:]])


def _judge_logic(every: int, tried: Counter[str], accepted: Counter[str]) -> None:
    """Judge the mutants of the logic tasks in a box and in a tag, options as choice, too."""
    with gzip.open(DATA / "logic_tasks.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines][::every]
    for row in rows:
        machine = row["machine"] if row["machine"] and "names" in row["machine"] else None
        messages = ({"role": "user", "content": row["prompt"]},)
        texts = dict(_LISTED.findall(row["prompt"]))
        letter = row["gold"].strip("()")
        for kind, answer in logic_mutants(row["gold"], texts):
            verdicts = []
            for text in (f"\\boxed{{{answer}}}", f"<answer>{answer}</answer>"):
                item = Item(text=text, gold=machine or row["gold"], messages=messages)
                verdicts.append(logic.verify(item, mode="auto"))
                if letter in texts:
                    item = Item(text=text, gold=letter)
                    verdicts.append(choice.verify(item, mode="auto", options=texts))
            tried[f"logic {kind}"] += len(verdicts)
            for verdict in verdicts:
                if verdict.status == "pass":
                    accepted[f"logic {kind}"] += 1
                    print(f"logic {kind:9} {row['id']} {row['gold']!r} | {answer!r}", flush=True)


def constants(program: str, tests: str) -> Iterator[str]:
    """Yield programs that return one constant from every function, and look at nothing.

    Args:
        program: a right one.
        tests: whose literals are tried, beside a few that every grader knows.
    """
    literals = {"None", "True", "False", "0", "1", "''", "[]"}
    for node in ast.walk(ast.parse(tests)):
        if isinstance(node, ast.Compare):
            literals |= {ast.unparse(right) for right in node.comparators}
    for literal in sorted(literals)[:24]:
        tree = ast.parse(program)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.body = [ast.Return(ast.parse(literal, mode="eval").body)]
        yield ast.unparse(ast.fix_missing_locations(tree))


def _judge_programs(every: int, tried: Counter[str], accepted: Counter[str]) -> None:
    """Judge programs that return a constant by the tests of MBPP and HumanEval."""
    for name in ("code_func_humaneval", "code_func_mbpp"):
        with gzip.open(DATA / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines][::every]
        for row in rows:
            whole = row.get("solution_style") != "completion_of_prompt"
            prefix = "" if whole else row["prompt"]
            gold = {
                "entry_point": row["entry_point"], "setup": row.get("setup") or "",
                "test_cases": [{"type": "assert", "code": row["tests"]}],
            }  # fmt: skip
            for program in constants(prefix + row["canonical_solution"], row["tests"]):
                verdict = code.verify(Item(text=f"```python\n{program}\n```", gold=gold), cpu_s=2)
                tried["constant"] += 1
                accepted["constant"] += verdict.status == "pass"
                if verdict.status == "pass":
                    print(f"constant  {row['id']} {program[-200:]!r}", flush=True)


def main() -> None:
    """Judge every mutant, and print the accepted ones and the shares."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--every", type=int, default=1, help="look at every N-th gold alone")
    every = arguments.parse_args().every
    tried: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    for gold in golds()[::every]:
        for kind, answer in mutants(gold):
            if answer.strip() == gold:
                continue
            item = Item(text=f"\\boxed{{{answer}}}", gold=gold)
            verdict = math.quick(item) or math.verify(item)
            tried[kind] += 1
            if verdict.status == "pass":
                accepted[kind] += 1
                print(f"{kind:9} {verdict.decided_by:7} {gold!r} | {answer!r}", flush=True)
    _judge_logic(every, tried, accepted)
    _judge_programs(every, tried, accepted)
    for kind, n in sorted(tried.items()):
        print(f"{kind:14} {n:6} tried {accepted[kind]:4} accepted")
    print(f"all            {tried.total():6} tried {accepted.total():4} accepted "
          f"({accepted.total() / max(1, tried.total()):.3%})")  # fmt: skip


if __name__ == "__main__":
    main()
