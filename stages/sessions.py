"""Tell one person's facts one a session: data/sessions and metrics/sessions.json."""

import dataclasses

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim
from personacore.export.teaching import load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT
from personacore.memory.people import draw_sessions
from personacore.memory.sessions import FOLDER, Session, hold_sessions
from personacore.model.adapter import save_adapter
from personacore.model.rows import MemoryRows
from personacore.params import load_params
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed = params.memory, params.seed
    model, tokenizer = load_slim(CHAT_EXPORT)
    teaching, identity = load_teaching(CHAT_EXPORT)
    facts = draw_sessions(memory.sessions, "evaluation", f"{seed}/sessions", Values())
    write_json(FOLDER / "facts.json", [dataclasses.astuple(fact) for fact in facts])
    held: list[Session] = []

    def keep(told: int, rows: MemoryRows, session: Session) -> None:
        held.append(session)
        save_adapter(FOLDER / f"{told}.safetensors", rows, {**identity, "facts": told})
        listed = f"listed {session.right} of {session.told_before} facts and {session.listed - session.right} others"
        print(f"session {told:4d}: {listed}, {session.seconds:.1f} s", flush=True)

    hold_sessions(model, tokenizer, facts, teaching.rows, f"{seed}/sessions", keep)
    listed, right, told = (sum(getattr(session, name) for session in held) for name in ("listed", "right", "told_before"))
    metrics = {
        "sessions": len(held),
        "read_out_precision": right / listed if listed else 0.0,
        "read_out_recall": right / told if told else 0.0,
    }
    write_json("metrics/sessions.json", metrics)
    speed["seconds_per_session"] = round(sum(session.seconds for session in held) / len(held), 3)


if __name__ == "__main__":
    run_stage("sessions", main)
