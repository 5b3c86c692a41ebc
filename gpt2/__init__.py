"""GPT-2 from scratch: data, tokenizer, model, training, fine-tuning, evaluation and explanation.

The library knows nothing of DVC, of `params.yaml` or of where files lie in the repository: the modules of `stages/`
tell it. Some modules are also commands: `python -m gpt2.generate --help`.
"""
