"""Scores any GPT-2 checkpoint, ours or one of transformers, on HellaSwag:

    python -m gpt2 hellaswag --model data/models/pretrain --data data/raw/hellaswag/val.jsonl --out scores.jsonl

Several processes share the work under a launcher:

    torchrun --standalone --nproc-per-node=2 -m gpt2 hellaswag --model DIR --data FILE
"""

import argparse
from pathlib import Path

from gpt2.commands.cli import PROGRAM, Parser, add_device, check_out
from gpt2.common.errors import InputError
from gpt2.common.files import write_jsonl
from gpt2.evaluation.hellaswag import METRICS, PROTOCOLS, evaluate, validated
from gpt2.runtime.precision import DTYPES
from gpt2.runtime.world import world
from gpt2.sources.hellaswag import table_completions


def main(args: argparse.Namespace) -> None:
    """Runs the command."""
    protocols = list(PROTOCOLS) if args.protocol == "both" else [args.protocol]
    if args.out:
        check_out(args.out)
        if args.out.exists() and args.data.exists() and args.out.samefile(args.data):
            raise InputError(f"--out = {args.out}: expected another file than --data, which it would replace")
    with world(args.device) as here:
        examples = validated(table_completions(args.data, str(args.data)), str(args.data))
        metrics, rows = evaluate(args.model, examples, protocols, precision=args.precision, world=here)
    if here.main:
        if args.out:
            write_jsonl(args.out, rows)
        print(f"{'protocol':12}{'acc':>18}{'acc_norm':>18}{'n':>8}{'truncated':>11}")
        for protocol in protocols:
            row = {name: metrics[f"{PROTOCOLS[protocol].prefix}{name}"] for name in METRICS}
            shares = [f"{row[rule]:.4f} ± {row[f'{rule}_stderr']:.4f}" for rule in ("acc", "acc_norm")]
            print(f"{protocol:12}{shares[0]:>18}{shares[1]:>18}{row['n']:>8,}{row['truncated']:>11,}")


def parser() -> Parser:
    parser = Parser(prog=f"{PROGRAM} hellaswag", description="Scores a model on HellaSwag, or any file in its format.")
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    add("--data", type=Path, required=True, metavar="FILE", help="a table with HellaSwag's columns")
    protocol = "how examples are formatted; default: %(default)s"
    precision = "precision of matrix products; default: %(default)s"
    add("--protocol", choices=[*PROTOCOLS, "both"], default="both", help=protocol)
    add("--precision", choices=("auto", *DTYPES), default="auto", help=precision)
    add_device(parser)
    add("--out", type=Path, metavar="FILE", help="write one row of scores per example, JSON lines")
    return parser
