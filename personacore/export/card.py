"""The model card of an exported model: what it is, what was measured, what it cannot do, how to load it."""

from collections.abc import Mapping
from typing import Any

SHOWN = {
    "in_context_recall": "a fact told earlier in the conversation, asked for",
    "in_context_abstention": "what was not told there, answered as unknown",
    "handwritten_greedy": "hand-written questions about facts in a memory",
    "h1_greedy": "facts in a memory, asked for in wordings that no teaching uses",
    "h2_greedy": "the same in wordings that the model has never met",
}


def model_card(
    corpus: Mapping[str, Any],
    evaluate: Mapping[str, Any],
    forgetting: Mapping[str, Any],
    recall: Mapping[str, Mapping[str, Any]],
    weights_sha256: str,
) -> str:
    """The card as Markdown with the hub's header; every number in it is one of the metrics'."""
    gates = "\n".join(
        f"| {meaning} | {recall[name]['value']:.1%} of {recall[name]['asked']:,} |"
        for name, meaning in SHOWN.items()
        if name in recall
    )
    return f"""---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [from-scratch, small-language-model, conversational]
---

# PersonaCore: the model that converses

A GPT-2 of {evaluate["parameters"]:,} parameters, written and trained from scratch. It tells short stories, and it talks: it confirms what it
is told, answers from it, and says when it does not know. What it remembers of a person beyond one conversation lies in *memory rows*, a
file of tensors for PersonaCore itself, and in an adapter that reads more questions for them, which `peft` loads onto this folder
(`personacore memory export`). The folder holds the model without any memory.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("data/export/huggingface")
tokenizer = AutoTokenizer.from_pretrained("data/export/huggingface")
told = [{{"role": "user", "content": "My dog is called Biscuit."}},
        {{"role": "assistant", "content": "Your dog's name is Biscuit."}},
        {{"role": "user", "content": "What is my dog's name?"}}]
inputs = tokenizer.apply_chat_template(told, add_generation_prompt=True, return_tensors="pt", return_dict=True)
print(tokenizer.decode(model.generate(**inputs, do_sample=False, max_new_tokens=40)[0]))
```

llama.cpp loads the same model from `data/export/gguf`, in float32, float16 and 8 bits, with the tokenizer in the file.

A story begins behind `<|endoftext|>`: `tokenizer("<|endoftext|>Once upon a time", return_tensors="pt")`.

## Data
{_data(corpus)} The conversations are drawn from a grammar of made-up people and facts; there are no real people in them. Both grammars and this
model are MIT-licensed.

## Measured

| what | value |
|---|---|
| stories, bits per byte of {evaluate["scored_bytes"]:,} unseen bytes, before it learned to converse | {evaluate["bits_per_byte"]:.4f} |
| the same afterwards, in this folder | {forgetting["story_bits_per_byte_after"]:.4f} |
| conversations never seen, nats per token of the answers | {forgetting["dialogue_nats_per_token"]:.3f} |
{gates}

The weights are those with SHA-256 `{weights_sha256}` in PersonaCore's own export. Perplexity is left out on purpose: it depends on the vocabulary.

## Limits
It knows the words of its corpus and nothing of the world. Text that is no story and no conversation like those it learned from continues
as nonsense. It reads up to a block of tokens at a time (`n_positions`). In one conversation it takes one owner's fact for another's now and
then, as the first row of the gates says. It is a thing to study, and to keep small facts with; rely on it for nothing else.
"""


def _data(corpus: Mapping[str, Any]) -> str:
    documents, size = corpus["train_documents"], corpus["train_bytes"]
    kinds = {
        "pocket": "drawn from a grammar that ships with PersonaCore",
        "tinystories": "of TinyStoriesV2-GPT4 (Eldan and Li, 2023)",
    }
    return f"{documents:,} stories ({size:,} bytes) {kinds.get(corpus['source'], 'of a text of its maker')}."
