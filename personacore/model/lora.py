"""Low-rank adapters (Hu et al., 2021, arXiv 2106.09685): what a model learns beside its weights, which stay as they are.

A projection y = x Wᵀ becomes y = x Wᵀ + scale · x aᵀ bᵀ, with scale = alpha / rank. Forward hooks add the second term, so the
model keeps its modules, parameters and names. An adapter may act only from a certain token of a text on (aLoRA: Greenewald et
al., 2025, arXiv 2504.12397): what stands before it, and a text without it, is read by the base alone, to the bit.

Shapes: B rows, T tokens, P people; in and out, the widths of a projection.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from personacore.errors import UserError
from personacore.model.gpt import GPT, PROJECTIONS, Block, GPTConfig, KeyValueCache


class Pair(nn.Module):
    """The factors of one projection's change: a (rank, in) and b (out, rank), or (P, rank, in) and (P, out, rank)."""

    def __init__(self, linear: nn.Linear, rank: int, people: int | None, generator: torch.Generator) -> None:
        super().__init__()
        groups = () if people is None else (people,)
        a = torch.empty(rank, linear.in_features).normal_(0.0, linear.in_features**-0.5, generator=generator)
        self.a = nn.Parameter(a.repeat(*groups, 1, 1))
        self.b = nn.Parameter(torch.zeros(*groups, linear.out_features, rank))

    def forward(self, x: Tensor, output: Tensor, scale: float, acting: Tensor | None = None) -> Tensor:
        """`output` (B, T, out) with the change that `x` (B, T, in) makes in it, where `acting` (B, T) if given."""
        a, b = (factor if factor.dim() == 3 else factor[None] for factor in (self.a, self.b))
        if len(x) % len(a):
            raise ValueError(f"{len(x)} rows cannot be shared out evenly among {len(a)} people")
        low = torch.bmm(x.reshape(len(a), -1, a.size(2)), a.mT)  # (P, B/P·T, rank)
        if acting is not None:
            low = low * acting.reshape(len(a), -1, 1)
        return torch.baddbmm(output.reshape(len(b), -1, b.size(1)), low, b.mT, alpha=scale).view_as(output)


class LoRA(nn.Module):
    """An adapter, or those of P people, whose rows then are P consecutive groups of B/P in a batch; new, it changes nothing.

    Parameters are named after the projections they change: `blocks.0.attn.q_proj.a`. Every person begins with the same a.
    `invocation` is the id of the token from which on it acts in each row; None, it acts everywhere.
    Raises:
        UserError: a rank or a number of people below 1, an alpha that is not positive, targets that are no projections, an
            invocation that is no token's id.
    """

    def __init__(
        self,
        config: GPTConfig,
        rank: int,
        alpha: float,
        targets: Sequence[str] = PROJECTIONS,
        people: int | None = None,
        seed: int = 0,
        invocation: int | None = None,
    ) -> None:
        super().__init__()
        if rank < 1 or (people is not None and people < 1):
            raise UserError(f"rank: {rank} is below 1" if rank < 1 else f"people: {people} is below 1")
        if not 0 < alpha < float("inf"):
            raise UserError(f"alpha: {alpha} is not a positive number")
        if not targets or not set(targets) <= set(PROJECTIONS):
            raise UserError(f"targets: {targets} is not one or more of {', '.join(PROJECTIONS)}")
        if invocation is not None and not (isinstance(invocation, int) and 0 <= invocation < config.vocab_size):
            raise UserError(f"invocation: {invocation} is no id of a token")
        self.config, self.rank, self.alpha, self.scale, self.people = config, rank, alpha, alpha / rank, people
        self.targets = tuple(target for target in PROJECTIONS if target in targets)
        self.invocation = invocation
        self.enabled = True  # False, while attached, gives the base to the bit
        self._acting: Tensor | None = None  # (B, T), of the forward pass that is running
        self._invoked: WeakKeyDictionary[KeyValueCache, Tensor] = WeakKeyDictionary()  # (B,), in what a cache has read
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []
        self._merged: list[tuple[Tensor, Tensor]] = []  # a weight, and a copy of what it was
        generator = torch.Generator().manual_seed(seed)
        with torch.device("meta"):
            block = Block(config, layer=0)  # for the names and widths of its projections

        def pairs(half: nn.Module) -> nn.ModuleDict:
            linears = {name: linear for name, linear in half.named_children() if name in self.targets}
            return nn.ModuleDict({name: Pair(linear, rank, people, generator) for name, linear in linears.items()})

        blocks = [{"attn": pairs(block.attn), "mlp": pairs(block.mlp)} for _ in range(config.n_layer)]
        self.blocks = nn.ModuleList(nn.ModuleDict(halves) for halves in blocks)

    def pairs(self) -> dict[str, Pair]:
        """The factors, by the name of the projection they change."""
        return {name: module for name, module in self.named_modules() if isinstance(module, Pair)}

    def delta(self, name: str) -> Tensor:
        """The change of a projection's weight, (out, in) or (P, out, in)."""
        pair = self.pairs()[name]
        return self.scale * pair.b @ pair.a

    @torch.no_grad()
    def moved(self, model: GPT) -> dict[str, float]:
        """The size of each projection's change as a share of its weight's, both by the Frobenius norm, of one person."""
        return {name: (self.delta(name).norm() / linear.weight.norm()).item() for name, linear in self._linears(model).items()}

    def parameter_count(self) -> int:
        """Number of trained scalars, of all people together."""
        return sum(parameter.numel() for parameter in self.parameters())

    def attach(self, model: GPT) -> None:
        """Change what `model` computes until `detach`; the changes of several adapters add up.

        Raises:
            RuntimeError: attached already.
            ValueError: the model has other projections; in a forward pass, B is not a multiple of P.
        """
        if self._hooks:
            raise RuntimeError("the adapter is attached already: detach it first")
        pairs = self.pairs()
        linears = self._linears(model)
        if self.invocation is not None:
            self._hooks.append(model.wte.register_forward_pre_hook(self._find_invocation))
            self._hooks.append(model.blocks[0].register_forward_pre_hook(self._follow_cache))
        for name, linear in linears.items():

            def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor, pair: Pair = pairs[name]) -> Tensor | None:
                return pair(inputs[0], output, self.scale, self._acting) if self.enabled else None

            self._hooks.append(linear.register_forward_hook(hook))

    def _find_invocation(self, _: nn.Module, inputs: tuple[Tensor]) -> None:
        self._acting = (inputs[0] == self.invocation).cumsum(1) > 0

    def _follow_cache(self, _: nn.Module, inputs: tuple[Tensor, KeyValueCache | None]) -> None:
        cache = inputs[1] if len(inputs) > 1 else None
        if cache is not None:
            if cache.length and cache in self._invoked:
                self._acting = self._acting | self._invoked[cache][:, None]
            self._invoked[cache] = self._acting[:, -1]

    def detach(self) -> None:
        """Leave the model as `attach` found it."""
        while self._hooks:
            self._hooks.pop().remove()
        self._acting = None

    @contextmanager
    def attached(self, model: GPT) -> Iterator["LoRA"]:
        """Attach for the length of a `with` block."""
        self.attach(model)
        try:
            yield self
        finally:
            self.detach()

    @torch.no_grad()
    def merge_into(self, model: GPT) -> None:
        """Add the changes of one person to the weights themselves; copies of the weights as they were are kept here."""
        if self.people is not None:
            raise ValueError("weights can be one person's only: merge person(p)")
        if self.invocation is not None:
            raise ValueError("merged weights would act everywhere, and this adapter acts from a token on")
        if self._merged:
            raise RuntimeError("the adapter is merged already: unmerge it first")
        for name, linear in self._linears(model).items():
            self._merged.append((linear.weight, linear.weight.clone()))  # subtracting would leave rounding errors behind
            linear.weight.add_(self.delta(name))

    @torch.no_grad()
    def unmerge_from(self, model: GPT) -> None:
        """Restore the weights before `merge_into`, bit for bit; of several merged adapters, the last must go first."""
        if [id(weight) for weight, _ in self._merged] != [id(linear.weight) for linear in self._linears(model).values()]:
            raise RuntimeError("the adapter is not merged into this model")
        while self._merged:
            weight, original = self._merged.pop()
            weight.copy_(original)

    def _linears(self, model: GPT) -> dict[str, nn.Linear]:
        mine, other = ((config.n_layer, config.n_embd) for config in (self.config, model.config))
        if mine != other:
            raise ValueError(f"an adapter of (n_layer, n_embd) {mine} does not fit a model of {other}")
        return {name: model.get_submodule(name) for name in self.pairs()}

    def person(self, p: int) -> "LoRA":
        """A copy of the adapter of person p."""
        if self.people is None:
            raise ValueError("the adapter is that of one person")
        return self._copy({name: value[p] for name, value in self.named_parameters()}, people=None)

    @staticmethod
    def stack(adapters: Sequence["LoRA"]) -> "LoRA":
        """The adapters of P people, alike in shape, targets and scale, copied into one."""
        tensors = _by_name(adapters, "config", "targets", "people", "invocation", "rank", "alpha")
        if adapters[0].people is not None:
            raise UserError("people: only adapters of one person can be stacked")
        return adapters[0]._copy({name: torch.stack(each) for name, each in tensors.items()}, people=len(adapters))

    @staticmethod
    def concatenate(adapters: Sequence["LoRA"], weights: Sequence[float] | None = None) -> "LoRA":
        """One adapter, of all their ranks together and of scale 1, whose change is the (weighted) sum of theirs."""
        tensors, rank = {}, sum(adapter.rank for adapter in adapters)
        weights = [1.0] * len(adapters) if weights is None else weights
        for name, each in _by_name(adapters, "config", "targets", "people", "invocation").items():
            if name.endswith(".b"):  # takes up the scales, since those of the parts may differ
                each = [b * (lora.scale * weight) for b, lora, weight in zip(each, adapters, weights, strict=True)]
            tensors[name] = torch.cat(each, dim=-1 if name.endswith(".b") else -2)
        return adapters[0]._copy(tensors, rank=rank, alpha=float(rank))

    def _copy(self, tensors: Mapping[str, Tensor], **changes: Any) -> "LoRA":
        settings = {name: getattr(self, name) for name in ("config", "rank", "alpha", "targets", "people", "invocation")}
        lora = LoRA(**settings | changes)
        lora.load_state_dict({name: tensor.detach().clone() for name, tensor in tensors.items()}, assign=True)
        return lora


def _by_name(adapters: Sequence[LoRA], *alike: str) -> dict[str, list[Tensor]]:
    """Each parameter in every adapter; a UserError if there are none, or if they differ in an attribute of `alike`."""
    if not adapters:
        raise UserError("adapters: there are none")
    for name in alike:
        values = [getattr(adapter, name) for adapter in adapters]
        if any(value != values[0] for value in values):
            raise UserError(f"{name}: the adapters differ ({', '.join(map(str, values))})")
    parameters = [dict(adapter.named_parameters()) for adapter in adapters]
    return {name: [each[name] for each in parameters] for name in parameters[0]}
