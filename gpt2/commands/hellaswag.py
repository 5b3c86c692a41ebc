"""HellaSwag with any GPT-2 checkpoint, ours or one of transformers:

    python -m gpt2 hellaswag --model data/models/pretrain --data data/raw/hellaswag/val.jsonl --out scores.jsonl

With --out a run that is killed goes on where it was. Several processes share the work under a launcher:

    torchrun --standalone --nproc-per-node=2 -m gpt2 hellaswag --model DIR --data FILE
"""

import argparse
from pathlib import Path

from gpt2.commands.cli import Parser, check_out, run, within
from gpt2.common.errors import InputError
from gpt2.common.files import write_jsonl
from gpt2.evaluation.hellaswag import METRICS, PROTOCOLS, evaluate
from gpt2.runtime.world import world


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    args = _parser().parse_args(argv)
    return run(lambda: _score(args))


def _score(args: argparse.Namespace) -> None:
    protocols = list(PROTOCOLS) if args.protocol == "both" else [args.protocol]
    if args.out:
        check_out(args.out)
    if args.out and args.out.exists() and args.data.exists() and args.out.samefile(args.data):
        raise InputError(f"--out = {args.out}: expected another file than --data, which it would replace")
    partial = args.out and args.out.with_name(f".{args.out.name}.partial")
    with world() as here:
        metrics, rows = evaluate(
            args.model,
            args.data,
            protocols,
            batch_tokens=args.batch_tokens,
            precision=args.precision,
            world=here,
            partial=partial,
        )
    if here.main:
        if args.out:
            write_jsonl(args.out, rows)
            partial.unlink(missing_ok=True)
        _print_table(metrics, protocols)


def _print_table(metrics: dict, protocols: list[str]) -> None:
    print(f"{'protocol':12}{'acc':>18}{'acc_norm':>18}{'n':>8}{'truncated':>11}")
    for protocol in protocols:
        own = {name: metrics[f"{PROTOCOLS[protocol].prefix}{name}"] for name in METRICS}
        shares = [f"{own[rule]:.4f} ± {own[f'{rule}_stderr']:.4f}" for rule in ("acc", "acc_norm")]
        print(f"{protocol:12}{shares[0]:>18}{shares[1]:>18}{own['n']:>8,}{own['truncated']:>11,}")


def _parser() -> Parser:
    parser = Parser(prog="python -m gpt2 hellaswag", description="Finds the likeliest of four endings.")
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="checkpoint directory with its tokenizer")
    add("--data", type=Path, required=True, metavar="FILE", help="examples in HellaSwag's form, JSON lines")
    add("--protocol", choices=[*PROTOCOLS, "both"], default="both", help="default: %(default)s")
    add("--precision", choices=["auto", "float32", "bfloat16"], default="auto", help="default: %(default)s")
    add("--batch-tokens", type=within(int, 1), default=1024, metavar="N", help="that go together; default: %(default)s")
    add("--out", type=Path, metavar="FILE", help="where to write every example's scores, JSON lines")
    return parser
