"""How the page looks, and what is pressed for which action."""

import gradio as gr
from gradio.events import Dependency

from personacore.app.demo.actions import Actions, Messages, Visit

INTRODUCTION = """
# PersonaCore
What it knows about you is a small file of tensors. Tell it something and press **Remember this**, **wipe** the conversation,
and ask: the answer comes from the weights, and *Proof* shows that nothing else was in the prompt.
"""
PROOF = "All that the model was given to write its last answer. What you taught it is not in there."
ACTS = "How far the memory moves what the model computes, as a share of it, after each block and at each token of the answer."
MOVED = (
    "How far sleep has moved each projection's weights, as a share of their size, so that it understands more ways of asking."
)
THEME = gr.themes.Base(
    primary_hue="teal",
    neutral_hue="slate",
    spacing_size="md",
    radius_size="md",
    font=["system-ui", "Segoe UI", "Helvetica", "Arial", "sans-serif"],
    font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
).set(
    body_background_fill="*neutral_50",
    block_border_width="0px",
    block_border_width_dark="0px",
    block_background_fill="transparent",
    block_background_fill_dark="transparent",
    block_shadow="none",
    block_padding="*spacing_sm 0",
    block_label_background_fill="transparent",
    block_label_background_fill_dark="transparent",
    block_label_border_width="0px",
    block_label_border_width_dark="0px",
    block_label_text_size="*text_sm",
    block_title_text_size="*text_sm",
    block_title_text_color="*neutral_600",
    block_title_text_color_dark="*neutral_300",
    input_background_fill="white",
    input_background_fill_dark="*neutral_900",
    input_border_width="1px",
    input_border_color="*neutral_300",
    input_border_color_dark="*neutral_600",
    input_border_color_focus="*primary_600",
    input_shadow_focus="0 0 0 1px *primary_600",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_text_color="white",
    button_secondary_background_fill="white",
    button_secondary_background_fill_hover="*neutral_100",
    button_secondary_background_fill_dark="*neutral_700",
    button_secondary_border_color="*neutral_300",
    button_border_width="1px",
    button_large_text_size="*text_sm",
    button_large_padding="*spacing_md *spacing_lg",
    checkbox_label_background_fill="white",
    checkbox_label_background_fill_dark="*neutral_800",
    checkbox_label_border_width="1px",
    checkbox_label_border_color="*neutral_300",
    checkbox_label_border_color_dark="*neutral_600",
)
CSS = """
.gradio-container { max-width: 820px !important; margin: 0 auto !important }
.line { align-items: flex-end }
.form { background: transparent !important; border: 0 !important; gap: var(--layout-gap) !important }
#chat { border: 1px solid var(--input-border-color); border-radius: var(--radius-md); background: var(--input-background-fill) }
.heat { border-collapse: separate; border-spacing: 2px; font-size: .85rem }
.heat td, .heat th { padding: .3rem .45rem; text-align: center; border-radius: .25rem; white-space: pre; border: 0 !important }
.heat { border: 0 !important }
.scroll { overflow-x: auto }
"""
TOGETHER = 8  # people whose answers may be written at once


def build_page(actions: Actions) -> gr.Blocks:
    """The page with everything on it connected."""
    with gr.Blocks(title="PersonaCore", analytics_enabled=False) as page:
        visit = gr.State(Visit(actions.people.person(actions.people.first)))
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            me = actions.people.first
            who = gr.Dropdown([me], value=me, label="Who talks", allow_custom_value=True, elem_id="who")
            on = gr.Radio([("ON", True), ("OFF", False)], value=True, label="Memory", elem_id="switch")
        status = gr.Markdown(elem_id="status")
        facts = gr.Radio([], label="What it says it knows", render=False, elem_id="facts")
        with gr.Tab("Talk"):
            messages, said = _talk(actions, visit, on, status, facts)
        with gr.Tab("Proof") as proof:
            gr.Markdown(PROOF)
            prompt = gr.Textbox(label="The whole prompt", interactive=False, lines=3, elem_id="prompt")
            ids = gr.Textbox(label="The same as token ids", interactive=False, elem_id="ids")
            gr.Markdown(ACTS)
            acts = gr.HTML(elem_id="acts")
            gr.Markdown(MOVED)
            moved = gr.HTML(elem_id="moved")
            file = gr.Markdown(elem_id="file")
        proof.select(actions.proof, visit, [prompt, ids, acts, moved, file])
        opened = [visit, messages, status, who, facts]
        with gr.Tab("Memory"):
            brought = _memory(actions, visit, status, facts, messages, who)
        with gr.Tab("Stories"):
            _stories(actions)
        page.load(actions.open_visit, who, opened)
        for somebody_else in (who.input, brought.success):
            somebody_else(actions.open_visit, who, opened, cancels=said)
    return page.queue(default_concurrency_limit=TOGETHER)


def _talk(
    actions: Actions, visit: gr.State, on: gr.Radio, status: gr.Markdown, facts: gr.Radio
) -> tuple[gr.Chatbot, Dependency]:
    messages = gr.Chatbot(label="Conversation", height=320, render_markdown=False, buttons=[], elem_id="chat")
    text = gr.Textbox(label="Say something", placeholder="My dog is called Biscuit.", elem_id="text")
    with gr.Row():
        send = gr.Button("Send", variant="primary", elem_id="send")
        teach = gr.Button("Remember this", elem_id="remember")
        wipe = gr.Button("Wipe the conversation", elem_id="wipe", scale=2)
        stop = gr.Button("Stop", elem_id="stop")
    learn = gr.Checkbox(label="Remember as we talk", elem_id="learn")
    with gr.Accordion("The same question with and without the memory", open=False, elem_id="ways"):
        compare = gr.Button("Ask both ways", elem_id="compare")
        with gr.Row():
            with_memory = gr.Textbox(label="Memory ON", interactive=False, elem_id="with")
            without = gr.Textbox(label="Memory OFF", interactive=False, elem_id="without")
    said = gr.on([send.click, text.submit], actions.say, [visit, text, on, learn, messages], [messages, text])
    said.then(actions.refreshed, visit, [status, facts])
    stop.click(None, cancels=said)
    teach.click(_remembering(actions), [visit, text, messages], [messages, text, status, facts])
    gr.on([wipe.click, messages.clear], actions.wipe, visit, messages, cancels=said)
    compare.click(actions.both_ways, [visit, text], [with_memory, without])
    return messages, said


def _memory(
    actions: Actions,
    visit: gr.State,
    status: gr.Markdown,
    facts: gr.Radio,
    messages: gr.Chatbot,
    who: gr.Dropdown,
) -> Dependency:
    facts.render()
    with gr.Row(elem_classes="line"):
        gr.Markdown("In its sleep it goes over all of this, and learns to understand more ways of asking for it.")
        sleep = gr.Button("Let it sleep", elem_id="sleep", scale=0)
    with gr.Row(elem_classes="line"):
        named = gr.Textbox(label="Or name it", placeholder="my dog's name", elem_id="named")
        forget = gr.Button("Forget", elem_id="forget", scale=0)
    with gr.Row(elem_classes="line"):
        correction = gr.Textbox(label="Correct it", placeholder="Actually, my dog is called Rex.", elem_id="correction")
        correct = gr.Button("Learn that", elem_id="correct", scale=0)
    with gr.Row(elem_classes="line"):
        path = gr.Textbox(label="A file", placeholder="~/me-copy.safetensors", elem_id="path")
        save, bring = (gr.Button(name, elem_id=key, scale=0) for name, key in (("Save as", "save"), ("Open", "bring")))
    with gr.Row(elem_classes="line"):
        meant = gr.Checkbox(label="I mean it", elem_id="meant")
        eject = gr.Button("Eject: delete the file", variant="stop", elem_id="eject", scale=0, min_width=220)
    forget.click(actions.forget, [visit, facts, named], [named, status, facts])
    correct.click(_remembering(actions), [visit, correction, messages], [messages, correction, status, facts])
    sleep.click(_sleeping(actions), visit, [status, facts])
    save.click(actions.save_as, [visit, path])
    eject.click(actions.eject, [visit, meant], [meant, status, facts])
    return bring.click(actions.bring, path, who)


def _stories(actions: Actions) -> None:
    beginning = gr.Textbox("Once upon a time", label="Beginning", elem_id="beginning")
    with gr.Row():
        temperature = gr.Slider(0, 2, 0.8, step=0.05, label="Temperature")
        top_k = gr.Slider(0, 200, 0, step=1, label="Top-k, 0 for all")
        top_p = gr.Slider(0.05, 1, 0.95, step=0.05, label="Top-p")
    with gr.Row(elem_classes="line"):
        length = gr.Slider(1, 1000, 200, step=1, label="Tokens at most", elem_id="length")
        seed = gr.Number(7, precision=0, label="Seed")
    with gr.Row():
        write, halt = gr.Button("Write", variant="primary", elem_id="write"), gr.Button("Stop", elem_id="halt")
    story = gr.Textbox(label="Story", lines=10, interactive=False, elem_id="story")
    speed = gr.Markdown(elem_id="speed")
    telling = write.click(actions.tell, [beginning, temperature, top_k, top_p, length, seed], [story, speed])
    halt.click(None, cancels=telling)


def _remembering(actions: Actions):  # noqa: ANN202 (gradio finds the progress by the function's signature)
    def remember(visit: Visit, text: str, messages: Messages, progress: gr.Progress = gr.Progress()) -> object:  # noqa: B008
        return actions.remember(visit, text, messages, progress)

    return remember


def _sleeping(actions: Actions):  # noqa: ANN202 (as above)
    def sleep(visit: Visit, progress: gr.Progress = gr.Progress()) -> object:  # noqa: B008
        return actions.sleep(visit, progress)

    return sleep
