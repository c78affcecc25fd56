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
PRETRAIN = Path("data/dialogues/pretrain.jsonl")
CALIBRATION, EVALUATION = Path("data/dialogues/calibration.jsonl"), Path("data/dialogues/evaluation.jsonl")
FISHER = Path("data/models/fisher/fisher.safetensors")
ARMS = Path("data/models/chat")
MEMORY, RECALL, WRITING = Path("data/memory"), Path("data/recall"), Path("data/writing")
SAMPLES = Path("data/samples.json")
SLIM, CHAT_EXPORT = Path("data/export/slim"), Path("data/export/chat")
HUGGINGFACE, PEFT, GGUF = Path("data/export/huggingface"), Path("data/export/peft"), Path("data/export/gguf")
