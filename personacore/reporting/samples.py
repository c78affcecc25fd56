"""The page of samples."""

from collections.abc import Mapping, Sequence
from typing import Any


def samples_page(prompted: Sequence[Mapping[str, Any]], unprompted: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown page of samples, each a mapping of the fields of `evaluation.samples.Sample`."""
    parts = [
        "# Samples\n",
        "Drawn by the `evaluate` stage with the seed of `params.yaml`. None of them is picked: the prompts are fixed, and "
        "the stories without a prompt are the first of those that the metrics are taken from.\n",
        "## Fixed prompts\n",
    ]
    for sample in prompted:
        parts.append(
            f"**{sample['prompt']}** ({sample['kind']})\n\n{_quote(sample['prompt'] + sample['text'], sample['finished'])}\n"
        )
    parts.append("## Without a prompt\n")
    parts += [f"{_quote(sample['text'], sample['finished'])}\n" for sample in unprompted]
    return "\n".join(parts)


def _quote(text: str, finished: bool) -> str:
    lines = (text + ("" if finished else " …")).split("\n")
    return "\n>\n".join(f"> {line}" for line in lines)
