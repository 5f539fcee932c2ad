"""The ``distill`` command: train and check students. Parsers here; work is imported when called.

Exit status: 0 done; 1 refused or failed; 2 usage error. Every mistake of a user is one line.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from distill.runs import FOLLOW_PARENT, die_with_parent
from factory.cli.arguments import Parser, VerbParser, add_common, add_figures
from factory.cli.common import Version, remark, run_cli, tell

Adder = Callable[[argparse.ArgumentParser], None]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = Parser(
        prog="distill",
        description="Train with TRL: students on releases, policies on rewards; evaluate both.",
    )
    parser.add_argument("--version", action=Version)
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=VerbParser
    )
    for name, summary, add in VERBS:
        verb = verbs.add_parser(name, help=summary, description=summary)
        add(verb)
        if name != "recipe":
            add_figures(verb)
        add_common(verb)
    return parser


def _training(p: argparse.ArgumentParser) -> None:
    p.add_argument("student", metavar="STUDENT", help="a name in distill/students, or a .yaml path")
    p.add_argument("data", metavar="DATA", help="prompt-completion rows: .jsonl, .parquet, folder")
    p.add_argument("--base", metavar="MODEL", help="instead of the student file's base")
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                   help="over the student file, e.g. trl.learning_rate=1e-4")  # fmt: skip
    p.add_argument("--max-rows", metavar="N", type=int, help="use the first N rows only")


def _sft(p: argparse.ArgumentParser) -> None:
    _training(p)
    p.add_argument("--out", metavar="DIR", required=True, help="folder of the trained model")
    p.add_argument("--seed", type=int, default=0)
    _restart(p)
    p.set_defaults(run="distill.cli:sft")


def _prepare(p: argparse.ArgumentParser) -> None:
    _training(p)
    p.add_argument("--out", metavar="DIR", required=True,
                   help="folder of the tokens; give it to distill sft as DATA")  # fmt: skip
    p.add_argument("--workers", metavar="N", type=int, help="processes (default: all cores)")
    p.set_defaults(run="distill.cli:prepare")


def _restart(p: argparse.ArgumentParser) -> None:
    p.add_argument("--restart", action="store_true",
                   help="remove the checkpoints of a stopped run, and begin anew")  # fmt: skip


def _preflight(p: argparse.ArgumentParser) -> None:
    _training(p)
    p.add_argument("--example", action="store_true", help="print the first row as the model reads")
    p.set_defaults(run="distill.cli:preflight")


def _store(p: argparse.ArgumentParser) -> None:
    p.add_argument("--store", metavar="DIR", default="data", help="store directory (default: data)")


def _prompts(p: argparse.ArgumentParser) -> None:
    p.add_argument("--prompts", metavar="FILE",
                   help="JSON Lines or Parquet: prompt or messages, gold, verifier")  # fmt: skip
    p.add_argument("--source", metavar="NAME", help="a source of the store's prompts, instead")


def _grpo(p: argparse.ArgumentParser) -> None:
    p.add_argument("config", metavar="CONFIG", help="YAML or JSON file of a run (base, out …)")
    _prompts(p)
    _store(p)
    p.add_argument("--split", metavar="NAME", action="append", default=[],
                   help="train on the prompts of this split (default: all but those of evaluation: "
                        "test, validation, dev …)")  # fmt: skip
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                   help="over the file, e.g. trl.learning_rate=1e-6")  # fmt: skip
    _restart(p)
    p.set_defaults(run="distill.cli_work:grpo")


def _preferences(p: argparse.ArgumentParser) -> None:
    p.add_argument("config", metavar="CONFIG", help="YAML or JSON file: data, out, judge's engine")
    _store(p)
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                   help="over the file, e.g. min_delta=0.5")  # fmt: skip
    p.set_defaults(run="distill.cli_work:preferences")


def _reward_model(p: argparse.ArgumentParser) -> None:
    p.add_argument("config", metavar="CONFIG", help="YAML or JSON file of a run (kind, base …)")
    p.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
                   help="over the file, e.g. trl.learning_rate=1e-5")  # fmt: skip
    _restart(p)
    p.set_defaults(run="distill.cli_work:reward_model")


def _rows(p: argparse.ArgumentParser) -> None:
    p.add_argument("--file", metavar="PATH", help="local copy of the benchmark's rows")
    p.add_argument("--dataset-revision", metavar="REV", help="commit of the benchmark on the hub")
    p.add_argument("--release", metavar="NAME", help="of a benchmark with several (LiveCodeBench)")
    p.add_argument("--since", metavar="DAY", help="first day of the problems, YYYY-MM-DD")
    p.add_argument("--until", metavar="DAY", help="last day of the problems")
    p.add_argument("--options-seed", type=int, default=0, help="order of multiple-choice options")
    p.add_argument("--template", metavar="NAME", help="instead of the benchmark's own words")


def _benchmarks(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", metavar="NAME", nargs="?", help="one benchmark alone")
    p.add_argument("--show", action="store_true", help="print its first question as it is asked")
    p.add_argument("--model", metavar="MODEL", help="with --show: as its chat template gives it")
    _rows(p)
    p.set_defaults(run="distill.cli_evaluate:benchmarks")


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument("--model", required=True, metavar="MODEL", help="folder or hub name")
    p.add_argument("--revision", metavar="REV", help="commit of a hub model")
    p.add_argument("--benchmark", metavar="NAME", help="see `distill benchmarks`")
    _rows(p)
    _prompts(p)
    _store(p)
    p.add_argument("--k", type=int, metavar="K", help="samples per prompt (default: the paper's)")
    p.add_argument("--limit", type=int, metavar="N", help="first prompts only")
    p.add_argument("--temperature", type=float, default=0.6)
    p.add_argument("--top-p", type=float, default=0.95)
    p.add_argument("--max-tokens", type=int, default=32_768)
    p.add_argument("--prefill", default="", help="text that every completion begins with")
    p.add_argument("--engine", metavar="NAME", default="vllm", help="vllm, openai, ray, replay")
    p.add_argument("--chat-template", metavar="FILE", help="Jinja file; 'plain' joins the messages")
    p.add_argument("--engine-option", metavar="KEY=VALUE", action="append", default=[],
                   help="argument of the engine, e.g. max_num_seqs=64")  # fmt: skip
    p.add_argument("--allow-missing", action="store_true",
                   help="measure what exists where samples could not be made")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="of the sampling: another, other samples")
    p.add_argument("--context", type=int, metavar="N",
                   help="tokens of prompt and answer, of a model that is served")  # fmt: skip
    p.add_argument("--checkpoints", action="store_true",
                   help="evaluate every checkpoint of the run in the folder MODEL")  # fmt: skip
    p.add_argument("--trained-on", metavar="PATH",
                   help="training data (a release): say which problems it holds")  # fmt: skip
    p.add_argument("--price", metavar="KEY=NUMBER", action="append", default=[],
                   help="e.g. per_million_completion_tokens=2")  # fmt: skip
    p.add_argument("--page", metavar="FILE", help="write the results as one HTML page")
    p.add_argument("--log-samples", metavar="DIR",
                   help="write the samples as lm-evaluation-harness logs them")  # fmt: skip
    p.add_argument("--plan", action="store_true", help="say what is missing, and stop")
    p.set_defaults(run="distill.cli_evaluate:evaluate")


def _compare(p: argparse.ArgumentParser) -> None:
    p.add_argument("a", metavar="A", help="a model that was evaluated, or an evaluation_id")
    p.add_argument("b", metavar="B", help="another, on the same prompts")
    p.add_argument("--benchmark", metavar="NAME", help="where they were evaluated on several")
    _store(p)
    p.set_defaults(run="distill.cli_evaluate:compare")


def _recipe(p: argparse.ArgumentParser) -> None:
    p.add_argument("kind", metavar="KIND", help="grpo, student, preferences, reward-model",
                   choices=["grpo", "student", "preferences", "reward-model"])  # fmt: skip
    p.set_defaults(run="distill.recipes:recipe")


def _regrade(p: argparse.ArgumentParser) -> None:
    p.add_argument("log", metavar="LOG",
                   help="samples_*.jsonl of lm-evaluation-harness, or rows with completion, gold "
                        "and a score")  # fmt: skip
    p.add_argument("--benchmark", metavar="NAME", help="whose rows the log's documents are")
    p.add_argument("--verifier", metavar="NAME", help="of all rows (default: what fits the gold)")
    p.add_argument("--option", metavar="KEY=VALUE", action="append", default=[],
                   help="of the verifier, e.g. mode=boxed")  # fmt: skip
    p.add_argument("--by", metavar="COLUMNS", help="compare by these (default: source,model,task)")
    p.add_argument("--score", metavar="COLUMN", help="the source's own score, or a log's metric")
    p.add_argument("--completion", metavar="COLUMN", help="what the model wrote")
    p.add_argument("--rows", metavar="N", type=int, default=5, help="differences shown (default 5)")
    p.add_argument("--out", metavar="FILE", help="every difference, as rows")
    p.add_argument("--store", metavar="DIR", help="take the log's samples into this store")
    p.add_argument("--model", metavar="NAME", help="with --store: who wrote them")
    p.set_defaults(run="distill.cli_evaluate:regrade")


def _winrate(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", metavar="FILE", help="judgements: prompt, a, b, verdict, len_a, len_b")
    p.add_argument("--model", metavar="NAME", required=True, help="whose answers, in a or b")
    p.set_defaults(run="distill.cli_evaluate:winrate")


def _rating(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", metavar="FILE",
                   help="contests (rank, ratings) or problems (rating, solved)")  # fmt: skip
    p.set_defaults(run="distill.cli_evaluate:rating")


def _push(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="MODEL", help="folder of a trained model")
    p.add_argument("--repo", metavar="OWNER/NAME", help="where to on the hub")
    p.add_argument("--public", action="store_true", help="let all read it (default: private)")
    p.add_argument("--dry-run", action="store_true", help="write and print the folder, no more")
    p.add_argument("--out", metavar="DIR", help="with --dry-run: keep the folder here")
    p.add_argument("--license", metavar="NAME", help="of the weights, as the hub writes it")
    _store(p)
    p.set_defaults(run="distill.cli_push:push")


def _measure(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="MODEL", help="folder, or a name whose shape is known")
    p.add_argument("--out", metavar="FILE", default="measured.json",
                   help="for plan.measured of a recipe (default: measured.json)")  # fmt: skip
    p.add_argument("--seconds", type=float, default=120, help="in all, start-up left out")
    p.add_argument("--length", metavar="N", type=int, help="tokens of a row or pack")
    p.add_argument("--per-device", metavar="N", type=int, default=4, help="rows of a forward pass")
    p.add_argument("--lora", metavar="R", type=int, default=0, help="adapters of this rank")
    p.set_defaults(run="distill.cli_work:measure")


VERBS: list[tuple[str, str, Adder]] = [
    ("sft", "train a student on a release, or go on where a run was stopped", _sft),
    ("prepare", "write a release's tokens for a student once, by all cores", _prepare),
    ("grpo", "reinforcement learning with rule rewards, or go on where a run was stopped", _grpo),
    ("preferences", "pairs of answers that a judge prefers in both orders", _preferences),
    ("reward-model", "train a helpful or a safety reward model", _reward_model),
    ("benchmarks", "benchmarks: which run, which need a judge, how each is asked", _benchmarks),
    ("evaluate", "sample a benchmark: pass@1, pass@k, cons@k with intervals", _evaluate),
    ("compare", "two evaluations on the same prompts, with what so many could show", _compare),
    ("regrade", "grade others' samples again, and say what differs, row by row", _regrade),
    ("winrate", "win rates of recorded judgements: both orders, ties, length control", _winrate),
    ("rating", "a rating as Codeforces gives it, from ranks or from problems", _rating),
    ("measure", "what this machine samples and trains a second, for plans of hours", _measure),
    ("push", "a trained model with card and Modelfile to the hub, private by default", _push),
    ("preflight", "check what a training run would see, and train nothing", _preflight),
    ("recipe", "print a commented example of a recipe, with every key", _recipe),
]


def sft(args: argparse.Namespace) -> int:
    """Run ``distill sft``."""
    from distill.sft import SftConfig
    from distill.sft import sft as train

    fields = ("student", "data", "base", "overrides", "max_rows", "out", "seed")
    config = SftConfig.make({name: getattr(args, name) for name in fields}, where="distill sft")
    tell_run(args, train(config, say=remark, restart=args.restart))
    return 0


def tell_run(args: argparse.Namespace, folder: Path, line: str | None = None) -> None:
    """Print a trained model's folder; with ``--json`` also the figures of its run."""
    from distill.devices import world
    from distill.runs import read_run

    if world().is_main_process:
        run = read_run(folder) or {}
        figures = {"model": str(folder), "metrics": run.get("metrics")}
        tell(args, figures, [line or str(folder)], on_out=True)


def prepare(args: argparse.Namespace) -> int:
    """Run ``distill prepare``."""
    from distill.prepare import lines_of
    from distill.prepare import prepare as write
    from distill.sft import load_student

    student = load_student(args.student, overrides=args.overrides, base=args.base)
    manifest = write(
        student, Path(args.data), Path(args.out), max_rows=args.max_rows, n_workers=args.workers,
        say=remark,
    )  # fmt: skip
    tell(args, manifest, lines_of(manifest), on_out=True)
    return 0


def preflight(args: argparse.Namespace) -> int:
    """Run ``distill preflight``."""
    from distill.sft import check, load_student

    student = load_student(args.student, overrides=args.overrides, base=args.base)
    seen = check(student, Path(args.data), max_rows=args.max_rows)
    figures: dict[str, Any] = {
        "rows": seen.n_rows, "over": seen.n_over, "max_length": seen.max_length,
        "tokens": seen.tokens, "loss_tokens": seen.loss_tokens,
    }  # fmt: skip
    lines = list(seen.lines())
    if args.example:
        prompt, completion = seen.example.prompt, seen.example.completion
        figures["example"] = {"prompt": prompt, "completion": completion}
        lines += [f"--- prompt, no loss\n{prompt}", f"--- completion, with loss\n{completion}"]
    tell(args, figures, lines, on_out=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    if os.environ.get(FOLLOW_PARENT):
        die_with_parent()
    return run_cli(build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
