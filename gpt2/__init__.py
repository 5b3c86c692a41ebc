"""GPT-2 from scratch, in rooms: sources, tokens, training of the model, the three tasks, generation, evaluation,
interpretation, report.

The library knows nothing of DVC, of `params.yaml` or of where files lie in the repository: the modules of `stages/`
pass it paths and params. `python -m gpt2 --help` lists its commands.
"""
