"""What is wrong with the story grammar, and what it tells: problems, the figures of every plot, and a story of each.

python -m tools.check_grammar [SEED]
"""

import random
import sys
from collections.abc import Iterable

from personacore.corpus.grammar import Choice, Grammar, Node, Plot, Row, Slot, walk
from personacore.corpus.markup import load_grammar

STORIES = 200  # of every plot


def check(grammar: Grammar) -> list[str]:
    """What is wrong with the grammar, a line each: unknown names and forms, equal options, lists that are or run empty."""
    problems = [f"list {key}: joins unknown lists among {', '.join(parts)}" for key, parts in grammar.unions.items()]
    for key, rows in grammar.lists.items():
        words = [row.columns[0] for row in rows]
        repeated = sorted({word for word in words if words.count(word) > 1})
        if repeated or not rows:
            problems.append(f"list {key}: {'repeated: ' + ', '.join(repeated) if repeated else 'empty'}")
    trees = [(f"phrase {key}", choice, None) for key, choice in grammar.phrases.items()]
    trees += [
        (f"plot {plot.name}, beat {n}", beat, plot) for plot in grammar.plots.values() for n, beat in enumerate(plot.beats)
    ]
    for where, tree, plot in trees:
        for node in walk((tree,)):
            if isinstance(node, Choice) and len(set(node.options)) < len(node.options):
                problems.append(f"{where}: two equal options: {node.options}")
            if isinstance(node, Slot) and node.fresh:
                problems += _check_fresh(where, node, grammar)
            if isinstance(node, Slot) and not node.fresh and plot:
                problems += _check_role(where, node, plot)
    for plot in grammar.plots.values():
        for role, rows in plot.roles.items():
            rivals = sum(not set(rows).isdisjoint(theirs) for other, theirs in plot.roles.items() if other != role)
            if len(rows) <= rivals:
                problems.append(f"plot {plot.name}: {{{role}}} may find all its words taken by other roles")
        for phrase in _phrases_of(grammar, plot.beats):
            for node in walk((grammar.phrases[phrase],)):
                if isinstance(node, Slot) and not node.fresh:
                    problems += _check_role(f"plot {plot.name}, phrase {phrase}", node, plot)
    return problems


def _check_fresh(where: str, slot: Slot, grammar: Grammar) -> list[str]:
    if slot.source in grammar.phrases:
        return [f"{where}: <{slot.source}.{slot.form}> is a list of phrases, which have no forms"] if slot.form else []
    if slot.source not in grammar.lists:
        return [f"{where}: unknown list <{slot.source}>"]
    return _check_form(f"{where}: <{slot.source}.{slot.form}>", slot, grammar.lists[slot.source])


def _check_role(where: str, slot: Slot, plot: Plot) -> list[str]:
    if slot.source not in plot.roles:
        return [f"{where}: unknown role {{{slot.source}}}"]
    return _check_form(f"{where}: {{{slot.source}.{slot.form}}}", slot, plot.roles[slot.source])


def _check_form(where: str, slot: Slot, rows: tuple[Row, ...]) -> list[str]:
    try:
        for row in rows:
            row.form(slot.form)
    except (KeyError, IndexError):
        return [f"{where} has no such form"]
    return []


def _phrases_of(grammar: Grammar, nodes: Iterable[Node]) -> set[str]:
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        for node in walk((pending.pop(),)):
            if isinstance(node, Slot) and node.fresh and node.source in grammar.phrases and node.source not in found:
                found.add(node.source)
                pending.append(grammar.phrases[node.source])
    return found


def main(seed: str = "0") -> int:
    """Print problems, or else every plot's sizes and a story; the exit status says whether there were problems."""
    grammar = load_grammar()
    problems = check(grammar)
    print("\n".join(problems), end="\n" if problems else "")
    for name in [] if problems else grammar.plots:
        stories = [grammar.sample(random.Random(f"{seed}/{name}/{number}"), name) for number in range(STORIES)]
        sizes = [len(story.text) for story in stories]
        density = sum(story.bits for story in stories) / sum(sizes)
        print(f"== {name}: {min(sizes)} to {max(sizes)} characters, {density:.3f} bits each\n{stories[0].text}\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
