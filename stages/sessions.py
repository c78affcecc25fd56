"""Tell one person's facts one a session: data/sessions and metrics/sessions.json."""

import dataclasses

from personacore.corpus.dialogue.values import Values
from personacore.export.slim import load_slim, load_teaching
from personacore.files import write_json
from personacore.layout import CHAT_EXPORT
from personacore.memory.people import draw_sessions
from personacore.memory.sessions import COUNT, FOLDER, QUICK_COUNT, Session, hold_sessions
from personacore.model.adapter import save_adapter
from personacore.model.lora import LoRA
from personacore.params import load_params
from personacore.stage import Speed, run_stage


def main(speed: Speed) -> None:
    params = load_params()
    memory, seed = params.memory, params.seed
    model, tokenizer = load_slim(CHAT_EXPORT)
    _, generic, sha256 = load_teaching(CHAT_EXPORT)
    identity = {"base_sha256": sha256["model.safetensors"], "tokenizer_sha256": sha256["tokenizer.json"]}
    facts = draw_sessions(COUNT if memory.protocol == "full" else QUICK_COUNT, "evaluation", f"{seed}/sessions", Values())
    write_json(FOLDER / "facts.json", [dataclasses.astuple(fact) for fact in facts])
    held: list[Session] = []

    def keep(told: int, lora: LoRA, session: Session) -> None:
        held.append(session)
        save_adapter(FOLDER / f"{told}.safetensors", lora, {**identity, "facts": told})
        read = f"read out {session.right} of {session.told_before} facts and {session.read_out - session.right} others"
        print(f"session {told:4d}: {read}, {session.steps} steps, {session.seconds:.1f} s", flush=True)

    hold_sessions(model, tokenizer, facts, generic, memory.teach, seed, keep)
    read_out, right = sum(session.read_out for session in held), sum(session.right for session in held)
    told = sum(session.told_before for session in held)
    metrics = {
        "sessions": len(held),
        "read_out_precision": right / read_out if read_out else 0.0,
        "read_out_recall": right / told if told else 0.0,
        "steps": sum(session.steps for session in held),
    }
    write_json("metrics/sessions.json", metrics)
    speed["seconds_per_session"] = round(sum(session.seconds for session in held) / len(held), 3)


if __name__ == "__main__":
    run_stage("sessions", main)
