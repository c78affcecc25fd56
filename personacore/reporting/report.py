"""The technical report: each decision with its evidence, every number read from metrics."""

import re
from collections.abc import Mapping
from typing import Any

from personacore.params import ChatParams, EvaluateParams, MemoryParams, ModelParams, TrainParams
from personacore.reporting.conversation import CONVERSATION_METRICS, conversation_chapter
from personacore.reporting.markdown import table
from personacore.reporting.memory import MEMORY_METRICS, memory_chapter
from personacore.reporting.speed import SPEED_METRICS, speed_chapter

Metrics = Mapping[str, Mapping[str, Any]]


def report_page(
    metrics: Metrics,
    speed: Metrics,
    model: ModelParams,
    train: TrainParams,
    evaluate: EvaluateParams,
    ablations: Mapping[str, Mapping[str, Any]],
    chat: ChatParams,
    memory: MemoryParams,
) -> str:
    """The report as Markdown."""
    chapters = (
        _summary(metrics),
        _corpus(metrics["corpus"]),
        _tokenizer(metrics["tokenizer"], metrics["encode"]),
        _model(model, metrics),
        _training(train, metrics["train"]),
        _evaluation(metrics["evaluate"], metrics["corpus"], evaluate),
        _ablations(metrics["ablations"], ablations),
        conversation_chapter(*(metrics[name] for name in CONVERSATION_METRICS), chat.arms, chat.arm),
        memory_chapter(*(metrics[name] for name in MEMORY_METRICS), memory),
        speed_chapter(*(speed[name] for name in SPEED_METRICS)),
        _LIMITS,
    )
    return "\n\n".join(chapter.strip() for chapter in chapters) + "\n"


def _summary(metrics: Metrics) -> str:
    evaluation, corpus = metrics["evaluate"], metrics["corpus"]
    floor = corpus.get("source_bits_per_byte")
    against = (
        f" The corpus's own entropy is {floor:.4f}, so the model is {evaluation['bits_per_byte'] / floor - 1:.1%} above the lowest loss that is possible."
        if floor
        else ""
    )
    rows = [
        (
            "corpus",
            f"{corpus['source']}: {corpus['train_documents']:,} training and {corpus['valid_documents']:,} validation documents",
        ),
        ("parameters", f"{evaluation['parameters']:,}"),
        ("bits per byte", f"{evaluation['bits_per_byte']:.4f} over {evaluation['scored_bytes']:,} bytes"),
        ("perplexity", f"{evaluation['perplexity']:.4f} over {evaluation['scored_tokens']:,} tokens"),
    ]
    if floor:
        rows += [
            ("the source's entropy", f"{floor:.4f} bits per byte"),
            ("consistent stories", f"{evaluation['consistent_fraction']:.1%} of {evaluation['warm_samples']} warm samples"),
        ]
    return f"""# PersonaCore: technical report

Written by the `report` stage. Every result below is read from `metrics/`, which `dvc repro` writes from `params.yaml`; what stands beside a
`python -m benchmarks...` command, and the speed chapter, is run by hand and may be of an earlier model: `git log metrics/NAME.json` says when. Shapes and rates are those of `params.yaml`.

A GPT of {evaluation["parameters"]:,} parameters, trained from nothing, predicts the stories of the validation file at
{evaluation["bits_per_byte"]:.4f} bits per byte.{against}

{table(("", "measured"), rows)}"""


def _corpus(corpus: Mapping[str, Any]) -> str:
    text = f"""## Corpus

`data.source` is `{corpus["source"]}`: {corpus["train_bytes"]:,} bytes of training text and {corpus["valid_bytes"]:,} of validation,
split by document. SHA-256 of both files: `{corpus["sha256"]}`."""
    if "source_bits_per_byte" not in corpus:
        return text
    return f"""{text}

**Decision: a grammar that knows its entropy.** The built-in corpus is drawn from {corpus["plots"]} plots. Every random choice adds
−log2 of its probability, so the source's entropy is known: {corpus["source_bits_per_byte"]:.4f} bits per byte on the validation stories,
{corpus["train_source_bits_per_byte"]:.4f} on the training stories. A model cannot do better except by chance or where two different
series of choices tell the same story. No natural corpus offers that floor: a loss there says how two models compare, here it also
says how much is left to learn. No two stories are equal, within the splits or between them.

**Decision: few names, said often.** Each story is about one or two people and one or two things, whose words are in no other list
and are said again and again; what carries the information is passed once and never comes back. On stories that named many and
repeated little, a model of this size learnt to avoid what had been said instead of copying it (`docs/EXPERIMENTS.md`)."""


def _tokenizer(tokenizer: Mapping[str, Any], encode: Mapping[str, Any]) -> str:
    return f"""## Tokenizer

**Decision: byte-level BPE trained on the corpus itself, and no dead rows.** The vocabulary has {tokenizer["vocab_size"]:,} ids, of which
{tokenizer["live_ids"]:,} ({tokenizer["live_fraction"]:.1%}) can be decoded; a corpus that runs out of merges is an error that names the size it
supports. {encode["train_used_ids"]:,} ids occur in the training tokens; the others are bytes that this text never uses, specials, and
steps on the way to longer tokens.

One token covers {tokenizer["valid_bytes_per_token"]:.3f} bytes of validation text, and {tokenizer["whole_word_fraction"]:.1%} of running words are a
single token. Perplexity depends on these choices and bits per byte does not, so models with different tokenizers are compared by the
latter only.

![Tokens per word](../plots/tokens_per_word.png)
![Rank and frequency](../plots/vocabulary.png)"""


def _model(model: ModelParams, metrics: Metrics) -> str:
    shape = table(
        ("layers", "heads", "width", "context", "vocabulary", "position", "tied", "parameters"),
        [
            (
                model.n_layer,
                model.n_head,
                model.n_embd,
                model.block_size,
                metrics["tokenizer"]["vocab_size"],
                model.position,
                "yes" if model.tie_weights else "no",
                f"{metrics['train']['parameters']:,}",
            )
        ],
    )
    return f"""## Model

GPT-2's architecture in one file, `personacore/model/gpt.py`: pre-norm blocks, causal attention, GELU. The six
projections of a block stay six modules, because that is where a memory adapter attaches.

{shape}

Evidence: with the same weights the logits equal those of `transformers`' GPT-2, the written-out attention equals the fused one,
and cached generation equals uncached generation (`tests/test_model.py`, `tests/test_generation.py`)."""


def _training(train: TrainParams, facts: Mapping[str, Any]) -> str:
    optimizer = {
        "adamw": f"AdamW at {train.lr:g}",
        "muon": f"Muon at {train.muon_lr:g} for the matrices of the blocks and AdamW at {train.lr:g} for the rest",
    }[train.optimizer]
    return f"""## Training

{facts["steps"]:,} steps of {train.batch_size} rows, {facts["tokens"]:,} tokens or {facts["epochs"]:.2f} epochs, in {facts["precision"]} on
{facts["device"]}: {optimizer}, {train.warmup_steps} steps of warm-up, then a cosine to {train.min_lr_fraction:g} of the peak. The best
checkpoint by validation loss is from step {facts["best_step"]:,}. The token embedding begins with deviation {train.embedding_std:g}, the other
weights with GPT-2's 0.02.

**Decision: rows begin where documents begin.** A document that fits a block is read from its start with its whole context, as it is
generated and as it is scored; a window cut at random from the stream would spend a good part of its predictions on names it has never
seen. A longer document also gives rows that begin inside it.

**Decision: exact resumption.** Batches are a function of seed and step, so a run killed at any moment continues with the same curve
and ends with the same weights, on a CPU bit for bit (`tests/test_resume.py`).

![Loss](../plots/loss.png)"""


def _evaluation(facts: Mapping[str, Any], corpus: Mapping[str, Any], evaluate: EvaluateParams) -> str:
    floor = corpus.get("source_bits_per_byte")
    rows: list[tuple[object, ...]] = [
        (
            "nats per token",
            f"{facts['nats_per_token']:.4f}",
            f"{facts['scored_tokens']:,} tokens, one `<|endoftext|>` a document among them",
        ),
        ("perplexity", f"{facts['perplexity']:.4f}", "e to the nats per token"),
        ("bits per byte", f"{facts['bits_per_byte']:.4f}", f"{facts['scored_bytes']:,} bytes of text"),
    ]
    if floor:
        rows.append(
            (
                "over the source's entropy",
                f"{facts['bits_per_byte'] / floor - 1:.1%}",
                "0 would be perfect knowledge of the grammar",
            )
        )
    samples: list[tuple[object, ...]] = [
        ("ended by the model itself", f"{facts['finished_fraction']:.1%}", f"within {evaluate.sample_tokens} tokens"),
        ("distinct words", f"{facts['distinct_words']:,}", "in all samples together"),
        (
            "repeated sentences",
            f"{facts['repeated_sentence_fraction']:.1%}",
            "sentences that stand earlier in their own story",
        ),
        ("copied 8-grams", f"{facts['copied_8gram_fraction']:.1%}", "runs of 8 tokens that occur in the training text"),
    ]
    if "consistent_fraction" in facts:
        samples.append(
            ("consistent", f"{facts['consistent_fraction']:.1%}", "stories that keep every name, pronoun and thing straight")
        )
        samples.append(
            (
                "sentences of its own",
                f"{facts['guessed_sentences_mean']:.2f}",
                "per story: those that the grammar cannot produce",
            )
        )
    checker = (
        """

The checker of the last two rows reads a story with the grammar itself: a sentence that the grammar could tell only of somebody or
something else is a contradiction, and a sentence that it could not tell at all is judged by its names and pronouns. It accepts real
stories of the corpus and rejects stories with one changed name, pronoun or thing (`tests/test_consistency.py`)."""
        if floor
        else ""
    )
    return f"""## Evaluation

The loss is that of whole validation documents, each token scored once and predicted from all of its own story that fits the context.

{table(("", "value", "denominator"), rows)}

A loss is not a story, so {facts["warm_samples"]} stories are written without a prompt at temperature {evaluate.temperature:g} and top-p
{evaluate.top_p:g} and scored. Some of them are in [samples.md](samples.md).

{table(("samples", "value", "meaning"), samples)}{checker}{_mentions(facts)}

![Length of samples](../plots/samples.png)"""


def _mentions(facts: Mapping[str, Any]) -> str:
    """What is said again, by role."""
    if "repeated_accuracy" not in facts:
        return ""
    found = [(re.fullmatch(r"repeated_(\w+)_accuracy", key), value) for key, value in facts.items()]
    rows = [(f"`{match[1]}`", f"{value:.1%}") for match, value in found if match]
    return f"""

Where a story that the model has not seen says the word of a role again, the model is asked which word of the role's list is the likeliest.
Over {facts["repeated_mentions"]:,} such places it names the right one in {facts["repeated_accuracy"]:.1%}. What it cannot look up here changes in its own stories; what
else changes there is a matter of drawing at a temperature.

{table(("role", "said again rightly"), rows)}"""


def _ablations(cohort: Mapping[str, Any], ablations: Mapping[str, Mapping[str, Any]]) -> str:
    names = list(cohort)
    if not names:
        return "## Ablations\n\nNone are declared."
    reference = cohort[names[0]]
    rows = []
    for name in names:
        facts = cohort[name]
        change = ", ".join(
            f"`{section}.{key}: {_yaml(value)}`" for section, keys in ablations[name].items() for key, value in keys.items()
        )
        shows = "the reference" if name == names[0] else _shows(facts, reference)
        rows.append(
            (
                f"`{name}`",
                change or "as committed",
                f"{facts['parameters']:,}",
                f"{facts['perplexity']:.3f}",
                f"{facts['bits_per_byte']:.4f}",
                shows,
            )
        )
    return f"""## Ablations

One cohort at one budget of {reference["steps"]:,} steps each: same seed, data and schedule; only the named override differs. They are
compared with each other, not with the full run. One seed each, so a difference of a percent or so may be chance.

{table(("name", "override", "parameters", "perplexity", "bits per byte", "what it shows"), rows)}

![Ablations](../plots/ablations.png)
![Ablation curves](../plots/ablation_curves.png)"""


def _shows(facts: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    loss = facts["bits_per_byte"] / reference["bits_per_byte"] - 1
    size = facts["parameters"] / reference["parameters"] - 1
    parameters = f"{abs(size):.1%} {'more' if size > 0 else 'fewer'} parameters" if size else "as many parameters"
    return f"{abs(loss):.1%} {'worse' if loss > 0 else 'better'} in bits per byte with {parameters}"


_LIMITS = """## Limits

- The base, its ablations and the arm that ships were trained once each. Differences between neighbouring rows are not tested for
  significance.
- The built-in corpus is simpler than natural text. Its floor says how well a model has learned this grammar, not how well it would
  learn English; for that, use the `macbook` profile.
- The consistency checker judges sentences of the model's own making by names and pronouns only, and a text at all only if the grammar
  could have told half of its sentences.
- Digits reproduce on the same machine with the same packages. Another processor may round differently."""


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
