"""Bring the corpus: data/corpus/{train,valid}.txt and metrics/corpus.json."""

from personacore.corpus.sources import bring_text, bring_tinystories
from personacore.corpus.stories import bring_stories
from personacore.files import write_json
from personacore.layout import CORPUS, DOWNLOADS
from personacore.params import load_params
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    data, seed = params.data, params.seed
    if data.source == "pocket":
        facts = bring_stories(seed, data.train_documents, data.valid_documents, CORPUS)
    elif data.source == "tinystories":
        facts = bring_tinystories(CORPUS, DOWNLOADS)
    else:
        facts = bring_text(data.source, data.valid_fraction, seed, CORPUS, DOWNLOADS)
    write_json("metrics/corpus.json", facts)


if __name__ == "__main__":
    run_stage("download", main)
