"""The ``factory`` command. Parsers here; each verb's work is imported when it is called.

Exit status: 0 every row handled; 1 some malformed or failed through our own fault; 2 usage error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from factory.cli.arguments import (
    Parser,
    VerbParser,
    add_common,
    add_figures,
    add_files,
    add_form,
    add_pair,
    add_recipe,
    add_store,
    count,
    count_or_0,
    money,
    port,
    similarity,
)
from factory.cli.common import Version, run_cli


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = Parser(
        prog="factory",
        description="Build datasets of verified reasoning traces: generate, verify, score, select, "
        "release; query them with SQL.",
    )
    parser.add_argument("--version", action=Version)
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=VerbParser
    )
    for name, summary, add in VERBS:
        verb = verbs.add_parser(name, help=summary, description=summary)
        add(verb)
        add_common(verb)
    return parser


def _verify(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_files(p, required=False)
    add_store(p)
    p.add_argument(
        "--verifier",
        metavar="NAME",
        help="name or path of a .py file (default: each row's, else what fits its gold)",
    )
    p.add_argument(
        "--mode",
        metavar="M",
        help="the verifier's option mode, such as boxed or auto (default: its own for files)",
    )
    add_pair(p, "--option", "KEY=VALUE", "option of the verifier")
    p.add_argument("--workers", metavar="N", type=count, help="processes (default: cores)")
    p.add_argument(
        "--diff",
        action="store_true",
        help="on a store: what the present version would change; writes nothing",
    )
    p.add_argument(
        "--disagree",
        metavar="FILE",
        help="on files: write the rows about which math-verify holds another opinion, to be read",
    )
    p.set_defaults(run="factory.cli.files:verify")


def _score(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_files(p, required=False)
    add_store(p)
    p.add_argument("--scores", metavar="A,B",
                   help="names or paths, comma separated (default: without a model)")  # fmt: skip
    add_pair(p, "--param", "SCORE.KEY=VALUE", "parameter of a score")
    p.add_argument(
        "--workers", metavar="N", type=count, help="processes on a store (default: cores)"
    )
    p.add_argument(
        "--on",
        choices=["here", "ray"],
        default="here",
        help="where a store is scored: on this machine, or on a Ray cluster (RAY_ADDRESS)",
    )
    p.set_defaults(run="factory.cli.files:score")


def _dedup(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_files(p)
    p.add_argument("--column", default="text", help="text column (default: text, else completion)")
    p.add_argument(
        "--threshold", type=similarity, help="Jaccard similarity (default: 0.7; short: 0.55)"
    )
    p.add_argument("--ngram", type=count, help="words per n-gram (default: 5; short texts: 2)")
    p.set_defaults(run="factory.cli.files:dedup")


def _decontaminate(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_files(p)
    p.add_argument("--against", metavar="FILE", nargs="+", required=True, help="benchmark files")
    p.add_argument("--column", action="append", default=[],
                   help="column or path to check (repeatable; default: every text of a row, "
                        "messages and generations too)")  # fmt: skip
    add_pair(p, "--against-map", "NAME=COLUMN", "prompt or solution of a benchmark is its COLUMN")
    p.add_argument("--ignore-text", metavar="FILE", action="append", default=[],
                   help="instructions that are no sign of contamination, one a paragraph (what "
                        "both sides share is set aside anyway)")  # fmt: skip
    p.add_argument("--ngram", type=count, default=10, help="words per n-gram (default: 10)")
    p.set_defaults(run="factory.cli.files:decontaminate")


def _import(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    p.add_argument("inputs", metavar="FILE", nargs="*", help="files, folders or patterns")
    add_store(p)
    p.add_argument("--dataset", metavar="NAME", help="a Hugging Face dataset instead of files")
    p.add_argument("--revision", help="its commit, tag or branch")
    p.add_argument("--config", help="its configuration")
    p.add_argument("--split", help="the dataset's split (default: train); of files: what they are")
    p.add_argument("--source", help="name of the source (default: the file's)")
    p.add_argument("--model", help="model of all traces (default: each row's)")
    p.add_argument("--verifier", help="verifier of all golds (default: one that fits)")
    p.add_argument("--language", help="ISO 639-1 code of all prompts")
    p.add_argument("--shape", help="shape of the rows: a name or a .py file (default: what fits)")
    p.add_argument("--limit", type=count, metavar="N", help="take the first N rows of each file")
    add_pair(p, "--map", "NAME=COLUMN", "read NAME from a column, a.b[0], '{a} {b}' or =TEXT")
    add_pair(p, "--option", "KEY=VALUE", "option of the verifier")
    p.set_defaults(run="factory.cli.store:import_")


def _inspect(p: argparse.ArgumentParser) -> None:
    p.add_argument("input", metavar="FILE|DATASET", help="file, folder, pattern or a hub dataset")
    p.add_argument("--rows", type=count, metavar="N", help="rows shown (default: 3; JSON: all)")
    p.add_argument("--json", action="store_true", help="print one JSON object")
    p.add_argument("--shape", help="shape of the rows: a name or a .py file (default: what fits)")
    p.add_argument("--revision", help="a dataset's commit, tag or branch")
    p.add_argument("--config", help="its configuration")
    p.add_argument("--split", default="train", help="its split (default: train)")
    add_pair(p, "--map", "NAME=COLUMN", "read NAME from a column, a.b[0], '{a} {b}' or =TEXT")
    p.set_defaults(run="factory.cli.inspect:inspect")


_GENERATE_RECIPE = """\
a recipe:
  source: {kind: files, paths: [problems.jsonl], template: boxed}  # rows of any known shape
  engine: {kind: vllm, model: path-or-hub-name}
  sampling: {temperature: 0.6, max_tokens: 8192}
  policy: {kind: until, passes: 2, max_samples: 16}                # or {kind: fixed, n: 4}
  scores: [language, readability, repetition]                      # optional
  price: {per_million_completion_tokens: 0.6}                      # optional

exit status: 0: all is there; 1: something is missing, a limit included; 2: a mistake in the call;
130: stopped by Ctrl-C. Traces are kept as they finish; the same command goes on from there."""


def _generate(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_recipe(p)
    p.add_argument(
        "--plan", action="store_true", help="say what is missing and what it may cost; stop"
    )
    p.add_argument("--limit", type=count, metavar="N", help="take the first N prompts")
    p.add_argument("--seed", type=int, help="base of the sampling seeds (part of the key)")
    p.add_argument("--max-tokens", type=count, metavar="N", help="stop in order after N new tokens")
    p.add_argument("--max-cost", type=money, metavar="M", help="the same, by the recipe's price")
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.epilog = _GENERATE_RECIPE
    p.set_defaults(run="factory.cli.generate:generate")


def _judge(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_recipe(p)
    p.add_argument("--plan", action="store_true", help="say what it would be asked; stop")
    p.add_argument("--max-tokens", type=count, metavar="N", help="stop in order after N new tokens")
    p.set_defaults(run="factory.cli.judge:judge")


def _select(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_recipe(p)
    p.set_defaults(run="factory.cli.store:select")


def _release(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    p.add_argument("name", metavar="NAME", help="name of the release")
    add_recipe(p)
    p.set_defaults(run="factory.cli.store:release")


def _export(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    p.add_argument("name", metavar="NAME", help="release or release/version")
    p.add_argument(
        "--form",
        required=True,
        help="trl, messages, sharegpt, openr1, verl, dpo or hf (a hub folder)",
    )
    p.add_argument("--out", required=True, metavar="OUT", help="file, or folder for hf")
    p.add_argument("--split", metavar="NAME", action="append", default=[],
                   help="write the rows of this split (default: all but those of evaluation: test, "
                        "validation, dev …)")  # fmt: skip
    add_store(p)
    p.set_defaults(run="factory.cli.store:export")


def _push(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", metavar="NAME", help="release or release/version")
    p.add_argument("--repo", metavar="OWNER/NAME", help="data set on the Hugging Face hub")
    p.add_argument("--public", action="store_true", help="for all to see (default: private)")
    p.add_argument(
        "--dry-run", action="store_true", help="write and print the folder, send nothing"
    )
    p.add_argument("--out", metavar="DIR", help="with --dry-run: keep the folder")
    p.add_argument("--split", metavar="NAME", action="append", default=[],
                   help="these splits only (default: all but those of evaluation)")  # fmt: skip
    p.add_argument("--redact", action="store_true",
                   help="replace e-mail addresses, keys, phones … by their kind")  # fmt: skip
    p.add_argument("--license", metavar="ID", help="licence of the whole, as the hub names it")
    add_pair(p, "--source-license", "SOURCE=ID", "licence of a source, for the card")
    add_store(p)
    p.set_defaults(run="factory.cli.push:push")


def _report(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", metavar="NAME", nargs="?", help="release or release/version")
    p.add_argument("--runs", action="store_true",
                   help="trainings and evaluations instead: curves, in one file")  # fmt: skip
    p.add_argument("--models", metavar="DIR", action="append", default=[],
                   help="with --runs: folders of trainings, beside the store's models")  # fmt: skip
    add_store(p)
    p.set_defaults(run="factory.cli.store:report")


def _sql(p: argparse.ArgumentParser) -> None:
    p.add_argument("query", metavar="SQL", help="one SELECT, or @name of a named query")
    add_store(p)
    add_form(p)
    p.add_argument(
        "--limit",
        type=count_or_0,
        metavar="N",
        help="rows at most, 0 for all (default: all; of a printed table 1000)",
    )
    p.set_defaults(run="factory.cli.query:sql")


def _ls(p: argparse.ArgumentParser) -> None:
    add_store(p)
    add_form(p)
    p.set_defaults(run="factory.cli.query:ls")


def _show(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", metavar="NAME", help="release, table, run, @query, or a trace")
    add_store(p)
    add_form(p)
    p.set_defaults(run="factory.cli.query:show")


def _sample(p: argparse.ArgumentParser) -> None:
    p.add_argument("name", metavar="NAME", help="release, release/version, or wide")
    p.add_argument("-n", type=count, default=3, help="how many (default: 3)")
    p.add_argument("--dropped-by", metavar="FILTER", help="show traces that this filter dropped")
    p.add_argument("--where", metavar="SQL", help="of those for which this predicate holds")
    p.add_argument("--full", action="store_true", help="print long texts whole")
    p.add_argument("--seed", type=int, default=0, help="which ones")
    add_store(p)
    add_form(p)
    p.set_defaults(run="factory.cli.query:sample")


def _diff(p: argparse.ArgumentParser) -> None:
    p.add_argument("before", metavar="A", help="release or release/version")
    p.add_argument("after", metavar="B", help="release or release/version")
    add_store(p)
    add_form(p)
    p.set_defaults(run="factory.cli.query:diff")


def _browse(p: argparse.ArgumentParser) -> None:
    add_store(p)
    p.add_argument("--port", type=port, default=0, metavar="N", help="port (default: a free one)")
    p.add_argument("--author", metavar="NAME", help="who reviews (default: your user's name)")
    p.add_argument("--models", metavar="DIR", action="append", default=[],
                   help="folders of trainings to show, beside the store's models")  # fmt: skip
    p.set_defaults(run="factory.cli.query:browse")


def _reviews(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    way = p.add_mutually_exclusive_group(required=True)
    way.add_argument("--out", metavar="FILE", help="write all reviews, one row each; - prints")
    way.add_argument("--from", metavar="FILE", dest="source", help="take in what --out wrote")
    add_store(p)
    p.set_defaults(run="factory.cli.store:reviews")


def _check(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    p.add_argument("--gold", action="store_true", help="every gold must pass its own verifier")
    p.add_argument("--audit", action="store_true", help="run the catalog's audits")
    p.add_argument(
        "--repair",
        action="store_true",
        help="bring back what is whole; what is damaged moves to damaged/",
    )
    add_store(p)
    p.set_defaults(run="factory.cli.store:check")


def _revoke(p: argparse.ArgumentParser) -> None:
    p.add_argument("run_id", metavar="RUN", help="id of the run")
    p.add_argument("--reason", required=True, help="why")
    add_store(p)
    p.set_defaults(run="factory.cli.store:revoke")


def _forget(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    p.add_argument("keys", metavar="KEY", nargs="*",
                   help="prompts, with all their traces, or traces (none: go on with what was "
                        "begun)")  # fmt: skip
    p.add_argument("--where", metavar="SQL", help="every trace that fits, by the columns of wide")
    p.add_argument("--prompts", action="store_true",
                   help="--where names prompts, by the columns of prompt_sources")  # fmt: skip
    p.add_argument("--dry-run", action="store_true", help="say what would go, change nothing")
    p.add_argument("--reason", default="", help="why, for the record")
    add_store(p)
    p.set_defaults(run="factory.cli.store:forget")


def _gc(p: argparse.ArgumentParser) -> None:
    add_figures(p)
    add_store(p)
    p.set_defaults(run="factory.cli.store:gc")


def _doctor(p: argparse.ArgumentParser) -> None:
    p.add_argument("--json", action="store_true", help="print JSON")
    p.set_defaults(run="factory.cli.files:doctor")


def _completion(p: argparse.ArgumentParser) -> None:
    p.add_argument("shell", metavar="SHELL", choices=["bash", "zsh", "tcsh"],
                   help="bash, zsh or tcsh")  # fmt: skip
    p.set_defaults(run="factory.cli.files:completion")


Adder = Callable[[argparse.ArgumentParser], None]


def _recipe_example(p: argparse.ArgumentParser) -> None:
    p.add_argument("kind", metavar="KIND", choices=["generate", "select", "judge"],
                   help="generate, select or judge")  # fmt: skip
    p.set_defaults(run="factory.cli.recipe:recipe")


VERBS: list[tuple[str, str, Adder]] = [
    (
        "generate",
        "sample what a recipe wants and the store lacks, verified while sampling",
        _generate,
    ),
    ("inspect", "say what would be read out of a file or dataset; write nothing", _inspect),
    ("import", "take existing traces into the store", _import),
    ("verify", "verify completions against their golds (files or store)", _verify),
    (
        "judge",
        "ask a model about answers that no rule can score, once it agrees with the rules",
        _judge,
    ),
    ("score", "measure completions: language, readability, repetition … (files or store)", _score),
    ("dedup", "find near-duplicates in a file", _dedup),
    ("decontaminate", "find overlap of a file with benchmarks", _decontaminate),
    ("select", "show what a recipe keeps and what each filter drops", _select),
    ("release", "select, and write the release", _release),
    ("export", "write a release for TRL, verl, ShareGPT, the hub …", _export),
    ("push", "publish a release on the Hugging Face hub, private by default", _push),
    ("report", "write the HTML report of a release, or of trainings", _report),
    ("sql", "query the catalog", _sql),
    ("ls", "list releases, tables and named queries", _ls),
    ("show", "describe a release, table, run, trace or query", _show),
    ("sample", "print some traces of a release, or that a filter dropped", _sample),
    ("diff", "say what changed between two releases, and why", _diff),
    ("browse", "look at traces, releases and runs in the web browser", _browse),
    ("reviews", "write or take in what people said of traces", _reviews),
    ("check", "re-hash the store; check golds; run audits", _check),
    ("revoke", "exclude every fact of a bad run", _revoke),
    ("forget", "remove records and all that was made of them, for good", _forget),
    ("gc", "remove leftovers of killed runs", _gc),
    ("recipe", "print a commented example of a recipe, with every key", _recipe_example),
    ("completion", "print what makes a shell complete verbs and options", _completion),
    ("doctor", "say what this machine can do: devices, engines, sandbox tiers", _doctor),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_cli(build_parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
