"""Ask what was taught, in a process of its own: metrics/recall.json, plots/{recall,sessions}.csv and data/recall."""

import json
import os
from pathlib import Path

from tqdm import tqdm

from personacore.corpus.dialogue.files import read_conversations
from personacore.corpus.dialogue.values import Values
from personacore.evaluation.loss import split_documents
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import sha256_of, write_json, write_text
from personacore.layout import CHAT_EXPORT, EVALUATION, MEMORY, RECALL, VALID_TOKENS
from personacore.memory import recall
from personacore.memory.cohort import Room
from personacore.memory.examination import School, examine
from personacore.memory.facts import Fact
from personacore.memory.memory import Memory
from personacore.memory.people import Questions, in_context
from personacore.memory.sessions import FOLDER, ask_sessions
from personacore.model.adapter import load_adapter
from personacore.params import load_params
from personacore.reporting.tables import write_csv
from personacore.stage import Speed, run_stage
from personacore.tokenizer.tokenfile import open_tokens

CONTEXTS = 2000  # conversations in which something is asked that was told, or was not, before any teaching
DRIFT_DOCUMENTS = 100
COLUMNS = ("value", "low", "high", "threshold", "passed")


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed, values = params.memory.scaled(), params.seed, Values()
    model, tokenizer = load_slim(CHAT_EXPORT)
    teaching, identity = load_teaching(CHAT_EXPORT)
    told = json.loads((MEMORY / "people.json").read_text())
    people = {kind: [[Fact(*pair) for pair in facts] for facts in who] for kind, who in told.items()}
    school = School(people, MEMORY, identity, seed)
    asker, outcomes = recall.Asker(model, tokenizer), recall.Outcomes()

    recall.read_statements(outcomes, Memory(model, tokenizer, RECALL / "of nobody", teaching, identity).read)
    recall.ask_in_context(asker, outcomes, in_context(CONTEXTS, f"{seed}/context", values, asker.fits))
    for examined in tqdm(
        examine(Room(model, tokenizer, teaching, identity), school, memory), "ask", unit="person", mininterval=1
    ):
        outcomes.extend(examined.outcomes)
        asker.prompts += examined.prompts

    facts = [Fact(*pair) for pair in json.loads((FOLDER / "facts.json").read_text())]
    questions = Questions(facts, f"{seed}/sessions", "evaluation", values)
    after = [load_adapter(FOLDER / f"{told}.safetensors", **identity)[0] for told in range(1, len(facts) + 1)]
    transfer, rows = ask_sessions(asker, outcomes, facts, after, questions, memory.gates)
    write_csv("plots/sessions.csv", ("sessions_held", "session_of_fact", "right"), rows)

    stories = split_documents(open_tokens(VALID_TOKENS), tokenizer.end_of_text, DRIFT_DOCUMENTS)
    talks = read_conversations(EVALUATION)[:DRIFT_DOCUMENTS]
    gates = outcomes.gates(memory.gates) | transfer
    for asleep, thresholds in ((False, memory.gates), (True, {})):
        cases = [school.case("taught", 0, place, asleep) for place in range(len(people["taught"]))]
        memories = [(each.memory, each.facts) for each in cases]
        drifts = recall.drift(model, tokenizer, memories, stories, talks, thresholds)
        gates |= {f"{'asleep_' * asleep}{name}": gate for name, gate in drifts.items()}
    write_json("metrics/recall.json", gates)
    table = [[name, *(gate.get(column, "") for column in COLUMNS)] for name, gate in gates.items()]
    write_csv("plots/recall.csv", ("gate", *COLUMNS), table)
    write_text(RECALL / "transcript.jsonl", "".join(f"{json.dumps(line)}\n" for line in outcomes.transcript))
    write_text(RECALL / "prompts.jsonl", "".join(f"{json.dumps(prompt)}\n" for prompt in asker.prompts))
    speed |= {"process": os.getpid(), "people_sha256": sha256_of(Path(MEMORY / "people.json"))}
    speed["seconds_per_fact"] = round(recall.seconds_per_fact(model, tokenizer, people["taught"][0], teaching.rows), 3)


if __name__ == "__main__":
    run_stage("recall", main)
