import dataclasses

from personacore.evaluation.samples import Sample
from personacore.reporting.samples import samples_page


def test_the_page_shows_every_sample_with_its_prompt_and_marks_unfinished_ones():
    prompted = Sample("Once upon", " a time.\nThe end.", "greedy", 9, True)
    unprompted = Sample("", "A dog ran and", "temperature 0.8, top-p 0.95", 5, False)
    others = [unprompted, dataclasses.replace(unprompted, text="A cat.", finished=True)]
    page = samples_page([dataclasses.asdict(prompted)], [dataclasses.asdict(sample) for sample in others])
    assert "**Once upon** (greedy)\n\n> Once upon a time.\n>\n> The end.\n" in page
    assert "> A dog ran and …\n" in page
    assert "> A cat.\n" in page
