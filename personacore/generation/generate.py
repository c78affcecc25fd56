"""Text from a model: one loop for tests, samples, the command line and every other caller."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from personacore.errors import UserError
from personacore.generation.sampling import Sampling, sample
from personacore.model.gpt import GPT, KeyValueCache


@torch.no_grad()
def generate(
    model: GPT,
    prompts: Tensor,
    *,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    stop: int | None = None,
    forbidden: Sequence[int] = (),
    use_cache: bool = True,
) -> Iterator[Tensor]:
    """Yield the next id of every row, (B,), until all rows have drawn `stop` or `max_new_tokens` are made.

    `prompts` holds B rows of equally many ids, (B, T), T of any length; a row that has stopped repeats `stop`. `forbidden`
    ids are never drawn. A text longer than `block_size` goes on from its last half block, with or without the cache alike.

    Raises:
        UserError: the prompt is empty, `max_new_tokens` is below 1, or the seed is negative or beyond 63 bits.
    """
    if prompts.size(1) == 0:
        raise UserError("the prompt is empty: begin with at least <|endoftext|>")
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens: {max_new_tokens} is below 1")
    if not 0 <= seed < 2**63:
        raise UserError(f"seed: {seed} is not from 0 to below 2^63")
    block_size, device = model.config.block_size, model.wte.weight.device
    generator = torch.Generator().manual_seed(seed)
    was_training = model.training
    model.eval()
    try:
        window = _fit(prompts.to(device), block_size)
        unread, cache = window, KeyValueCache(model.config, len(window), model.wte.weight) if use_cache else None
        never = torch.tensor(list(forbidden), dtype=torch.long)
        stopped = torch.zeros(len(window), dtype=torch.bool)
        since: list[Tensor] = []  # drawn behind the window; joined to it where it is read again
        for _ in range(max_new_tokens):
            logits = model.next_logits(unread, cache).float().cpu()  # (B, V)
            if len(never):
                logits.index_fill_(1, never, -torch.inf)
            drawn = sample(logits, sampling, generator)
            if stop is not None:
                drawn = torch.where(stopped, stop, drawn)
                stopped |= drawn == stop
            yield drawn
            if stop is not None and stopped.all():
                return
            unread = drawn[:, None].to(device)
            since.append(unread)
            full = window.size(1) + len(since) > block_size
            if full or cache is None:
                window, since = _fit(torch.cat((window, *since), dim=1), block_size), []
                unread = window
            if full and cache is not None:
                cache = KeyValueCache(model.config, len(window), model.wte.weight)
    finally:
        model.train(was_training)


def _fit(window: Tensor, block_size: int) -> Tensor:
    """The window itself, or its last half block when it is longer than a block."""
    return window if window.size(1) <= block_size else window[:, -max(1, block_size // 2) :]


def rows_until_stop(steps: Iterable[Tensor], stop: int) -> list[list[int]]:
    """The ids of each row of `generate`, without `stop` and what follows it.

    >>> rows_until_stop([torch.tensor([1, 2]), torch.tensor([9, 3])], stop=9)
    [[1], [2, 3]]
    """
    rows = torch.stack(list(steps), dim=1).tolist()
    return [row[: row.index(stop)] if stop in row else row for row in rows]
