# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A tour of PersonaCore
#
# Everything here is read from what `dvc repro` left, and run by the stage `tour`: change a parameter, and this page is made again. Start it
# from the root of the project.

# %%
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image

import personacore
from personacore.memory.influence import influence
from personacore.memory.talk import Talk

stories = personacore.load("data/export/slim")
names = ("evaluate", "corpus", "ablations", "recall")
metrics = {name: json.loads(Path(f"metrics/{name}.json").read_text()) for name in names}

# %% [markdown]
# ## The model
# A GPT-2 in one file, `personacore/model/gpt.py`. The export is a folder with weights, config and tokenizer; loading it runs no code from it.

# %%
config = stories.model.config
print(f"{stories.model.parameter_count():,} parameters; {config}")

# %% [markdown]
# The token embedding, which is also the output layer, against the blocks:

# %%
sizes = pd.Series({name: tensor.numel() for name, tensor in stories.model.named_parameters()})
parts = sizes.groupby(sizes.index.str.split(".").str[0].str.replace("blocks", "all blocks")).sum()
parts.sort_values(ascending=False).to_frame("parameters")

# %% [markdown]
# ## What it learned
# The corpus is drawn from a grammar that adds up the information of every choice it makes, so its entropy is known: no model can pass the
# dashed line.

# %%
Image("plots/loss.png")

# %%
evaluated, corpus = metrics["evaluate"], metrics["corpus"]
pd.Series(
    {
        "bits per byte of unseen stories": evaluated["bits_per_byte"],
        "bits per byte of the source": corpus.get("source_bits_per_byte"),
        "perplexity, which depends on the vocabulary": evaluated["perplexity"],
        "stories of its own that keep everything straight": evaluated.get("consistent_fraction"),
    }
).to_frame("value")

# %% [markdown]
# ## What matters
# One cohort at one budget, in which only the named thing differs:

# %%
pd.DataFrame(metrics["ablations"]).T.sort_values("bits_per_byte")

# %% [markdown]
# ## How it writes
# The same beginning, from the likeliest word always to anything that comes to mind:

# %%
for temperature, top_p in ((0, 1.0), (0.5, 0.95), (0.8, 0.95), (1.2, 1.0)):
    text = stories.complete("Once upon a time", max_new_tokens=60, temperature=temperature, top_p=top_p, seed=7)
    print(f"temperature {temperature}, top-p {top_p}: Once upon a time{text}\n")

# %% [markdown]
# ## A memory in the weights
# The model that converses was never told anything about you. A statement is read by the model itself, then written into rows by gradient:

# %%
core = personacore.load("data/export/chat")
folder = tempfile.TemporaryDirectory()  # deleted with the notebook's process
memory = core.memory(Path(folder.name) / "me.safetensors")
told = memory.teach("My sister is called Ottoline and she lives in Brindlemoor.")
print("\n".join(learned.fact.sentence for learned in told.learned) or "not understood")

# %% [markdown]
# The prompt of a question holds nothing but the question, and without the memory nothing is known:

# %%
talk = Talk(memory)
for question in ("Where does my sister live?", "What is my sister's name?", "Where does my brother live?"):
    answers = talk.both_ways(question)
    print(question, *(f"  with: {answers[0]}", f"  without: {answers[1]}"), sep="\n")
print("\nthe whole prompt:", core.tokenizer.decode(talk.last.prompt))

# %% [markdown]
# ## Where it acts
# How far the memory moves the residual stream, as a share of it, behind each block and at each token of an answer. It acts behind the words
# it is found by, and nowhere before.

# %%
question = "Where does my sister live?"
answer = core.tokenizer.encode("".join(talk.say(question)))
shares = influence(memory, [*talk.last.prompt, *answer])[:, -len(answer) :]
figure, axes = plt.subplots(figsize=(8, 2.5))
axes.imshow(shares, aspect="auto", cmap="Oranges")
axes.set_xticks(range(len(answer)), [core.tokenizer.decode([number]) for number in answer])
axes.set_yticks(range(config.n_layer), [f"block {layer}" for layer in range(config.n_layer)])
plt.show()

# %% [markdown]
# ## Sleep
# Rows answer what the model reads rightly. In its sleep the memory asks its rows what they know, and a low-rank adapter learns to read the
# questions for it. Each projection's change as a share of its weight:

# %%
if told.learned:
    slept = memory.sleep()
    print(f"{len(slept.facts)} facts; right answers to new questions {slept.before:.0%} before, {slept.after:.0%} after")
if memory.has_slept:
    moved = memory.adapter.lora.moved(memory.model)
    names = list(dict.fromkeys(name.split(".")[-1] for name in moved))
    shares = pd.Series(moved).to_numpy().reshape(config.n_layer, len(names))
    figure, axes = plt.subplots(figsize=(5, 2.5))
    image = axes.imshow(shares, aspect="auto", cmap="Oranges")
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(config.n_layer), [f"block {layer}" for layer in range(config.n_layer)])
    figure.colorbar(image, format="{x:.0%}")
    plt.show()

# %% [markdown]
# Deleting the file is forgetting everything, and the model is what it was. What was measured on many people, and what was missed:

# %%
gates = pd.DataFrame(metrics["recall"]).T
gates[gates["threshold"].notna()][["value", "low", "high", "threshold", "passed"]]
