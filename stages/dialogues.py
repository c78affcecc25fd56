"""Draw the conversations: data/dialogues/{pretrain,calibration,evaluation}.jsonl and metrics/dialogues.json."""

from personacore.corpus.dialogue.conversation import draw_conversation
from personacore.corpus.dialogue.files import write_conversations
from personacore.corpus.dialogue.splits import Splits
from personacore.corpus.dialogue.values import Values
from personacore.files import write_json
from personacore.layout import CALIBRATION, EVALUATION, PRETRAIN
from personacore.params import load_params
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    options, seed, values = params.dialogues, params.seed, Values()
    facts: dict[str, object] = {}
    counts = {"pretrain": options.pretrain_documents}
    for split, path in (("pretrain", PRETRAIN), ("calibration", CALIBRATION), ("evaluation", EVALUATION)):
        count = counts.get(split, options.held_out_documents)
        drawn = [draw_conversation(f"{seed}/{split}/{n}", Splits.all(split), options.characters, values) for n in range(count)]
        write_conversations(path, drawn)
        facts[f"{split}_documents"] = count
        facts[f"{split}_turns"] = sum(len(turns) for turns in drawn)
    write_json("metrics/dialogues.json", facts)


if __name__ == "__main__":
    run_stage("dialogues", main)
