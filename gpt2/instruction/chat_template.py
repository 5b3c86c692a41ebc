"""Alpaca's prompt as a chat template, with which transformers turns a conversation into text."""

import json

from gpt2.instruction.alpaca import HEADER, QUESTION

START, END = QUESTION.split("{instruction}")  # of a user's turn

# The header is the system turn, if the conversation begins with one. Each user's turn ends with the heading of the
# response, so that `add_generation_prompt` has nothing to add.
CHAT_TEMPLATE = f"""\
{{%- if messages[0].role == "system" -%}}
  {{{{- messages[0].content + "\\n\\n" -}}}}
  {{%- set messages = messages[1:] -%}}
{{%- else -%}}
  {{{{- {json.dumps(HEADER)} -}}}}
{{%- endif -%}}
{{%- for message in messages -%}}
  {{%- if message.role == "user" -%}}
    {{{{- {json.dumps(START)} + message.content + {json.dumps(END)} -}}}}
  {{%- elif message.role == "assistant" -%}}
    {{{{- message.content + eos_token + ("" if loop.last else "\\n\\n") -}}}}
  {{%- else -%}}
    {{{{- raise_exception("expected a user or assistant turn, not " + message.role) -}}}}
  {{%- endif -%}}
{{%- endfor -%}}
"""
GENERATION = {"do_sample": False}  # for transformers: each token is the likeliest one
