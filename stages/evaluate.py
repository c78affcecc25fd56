"""Measure the base: metrics/evaluate.json, plots/samples.csv and data/samples.json."""

import dataclasses

import numpy as np

from personacore.corpus.consistency import judge_story
from personacore.corpus.markup import load_grammar
from personacore.corpus.stories import draw_story
from personacore.evaluation.loss import file_loss
from personacore.evaluation.mentions import repeated_mentions
from personacore.evaluation.samples import write_samples
from personacore.evaluation.stories import copied_fraction, distinct_words, repeated_sentence_fraction
from personacore.files import write_json, write_text
from personacore.generation.sampling import Sampling
from personacore.layout import BASE, SAMPLES, TOKENIZER, TRAIN_TOKENS, VALID_TOKENS
from personacore.model.files import load_model
from personacore.params import load_params
from personacore.processes import ordered_map
from personacore.stage import Speed, run_stage
from personacore.tokenizer.files import load_tokenizer
from personacore.tokenizer.tokenfile import open_tokens

SHOWN = 5  # of the stories without a prompt, on the page
READ = 300  # new stories, in which names and things that come again are looked for


def main(speed: Speed) -> None:
    params = load_params()
    options, seed = params.evaluate, params.seed
    model, _ = load_model(BASE)
    tokenizer = load_tokenizer(TOKENIZER)
    loss = file_loss(model, tokenizer, open_tokens(VALID_TOKENS), options.batch_tokens)
    warm = Sampling(options.temperature, top_p=options.top_p)
    length = options.sample_tokens
    stories = write_samples(model, tokenizer, "", options.warm_samples, sampling=warm, max_new_tokens=length, seed=seed)
    prompted = [
        write_samples(model, tokenizer, prompt, 1, sampling=sampling, max_new_tokens=length, seed=seed)[0]
        for prompt in options.prompts
        for sampling in (Sampling(0.0), warm)
    ]
    texts = [story.text for story in stories]
    facts = {
        "perplexity": loss.perplexity,
        "bits_per_byte": loss.bits_per_byte,
        "nats_per_token": loss.nats_per_token,
        "scored_tokens": loss.tokens,
        "scored_bytes": loss.bytes,
        "parameters": model.parameter_count(),
        "warm_samples": len(texts),
        "finished_fraction": float(np.mean([story.finished for story in stories])),
        "sample_tokens_mean": float(np.mean([story.tokens for story in stories])),
        "distinct_words": distinct_words(texts),
        "repeated_sentence_fraction": repeated_sentence_fraction(texts),
        "copied_8gram_fraction": copied_fraction([tokenizer.encode(text) for text in texts], open_tokens(TRAIN_TOKENS)),
    }
    if params.data.source == "pocket":
        verdicts = list(ordered_map(judge_story, texts))
        facts["consistent_fraction"] = float(np.mean([verdict.consistent for verdict in verdicts]))
        facts["guessed_sentences_mean"] = float(np.mean([verdict.guessed for verdict in verdicts]))
        told = [draw_story(f"{seed}/read/{number}") for number in range(READ)]
        mentions = repeated_mentions(model, tokenizer, told, load_grammar().plots)
        facts["repeated_mentions"] = sum(count for count, _ in mentions.values())
        if mentions:  # a block may be too short for any word to come again
            facts["repeated_accuracy"] = sum(right for _, right in mentions.values()) / facts["repeated_mentions"]
        facts |= {f"repeated_{role}_accuracy": right / count for role, (count, right) in mentions.items()}
    write_json("metrics/evaluate.json", facts)
    rows = "".join(f"{number},{story.tokens},{len(story.text.split())}\n" for number, story in enumerate(stories))
    write_text("plots/samples.csv", f"sample,tokens,words\n{rows}")
    shown = {"prompted": prompted, "unprompted": stories[:SHOWN]}
    write_json(SAMPLES, {kind: [dataclasses.asdict(sample) for sample in group] for kind, group in shown.items()})


if __name__ == "__main__":
    run_stage("evaluate", main)
