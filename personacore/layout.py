"""Where the pipeline keeps its files, from the root of the project."""

from pathlib import Path

DOWNLOADS = Path(".downloads")  # originals from the network, kept so that a rerun does not bring gigabytes again
RESUME = Path(".resume")  # states of unfinished runs

CORPUS = Path("data/corpus")
TRAIN_TEXT, VALID_TEXT = CORPUS / "train.txt", CORPUS / "valid.txt"
TOKENIZER = Path("data/tokenizer/tokenizer.json")
VOCABULARY = Path("data/tokenizer/vocab.txt")
TRAIN_TOKENS, VALID_TOKENS = Path("data/tokens/train.bin"), Path("data/tokens/valid.bin")
BASE = Path("data/models/base/model.safetensors")
SAMPLES = Path("data/samples.json")
SLIM = Path("data/export/slim")
