"""The learnable sentence of each bin: `<SOT> context word . <EOT>`, in the text tower's embedding space."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import ModelError

SOT, STOP, EOT, PAD = 49406, 269, 49407, 0
Tokenizer = Callable[[str], Tensor]


class Prompt(nn.Module):
    """Context tokens shared by all bins, rank tokens of each bin, and CLIP's fixed tokens around them.

    Only these rows of the token embedding are kept, so a trained prompt needs no tokenizer and no vocabulary. With
    `base_ranks` the K words are not learned separately: each word is one token, interpolated linearly from that many learned
    tokens at equal steps along the scale (OrdinalCLIP, arXiv 2206.02338).
    """

    fixed: Tensor
    slots: Tensor
    end: Tensor
    mix: Tensor | None

    def __init__(self, context_length: int, counts: list[int], context: int, width: int, base_ranks: int = 0) -> None:
        """context: number of context tokens C; counts: number of word tokens n_k of each of the K bins."""
        super().__init__()
        longest = context + max(counts) + 3
        if longest > context_length:
            raise ModelError(
                f"expected at most {context_length} tokens per sentence, got {longest}; shorten the context or the words"
            )
        self.counts, self.base_ranks = counts, base_ranks
        self.context = nn.Parameter(torch.zeros(context, width))
        self.words = nn.Parameter(torch.zeros(base_ranks or sum(counts), width))
        self.register_buffer("mix", rank_weights(len(counts), base_ranks) if base_ranks else None, persistent=False)
        self.register_buffer("fixed", torch.zeros(4, width))  # SOT, full stop, EOT, pad
        sot, stop, eot, pad = range(4)
        slots = torch.full((len(counts), longest), pad)  # row of [fixed, context, words] in each slot
        first_word = 4 + context
        for k, count in enumerate(counts):
            row = [sot, *range(4, 4 + context), *range(first_word, first_word + count), stop, eot]
            slots[k, : len(row)] = torch.tensor(row)
            first_word += count
        self.register_buffer("slots", slots, persistent=False)
        self.register_buffer("end", torch.tensor([context + count + 2 for count in counts]), persistent=False)

    @staticmethod
    def from_words(
        tokenize: Tokenizer,
        embedding: nn.Embedding,
        context: str,
        words: tuple[str, ...],
        context_length: int,
        base_ranks: int = 0,
    ) -> Prompt:
        """Make a prompt from the pretrained embeddings of the context sentence and the K words.

        With `base_ranks` the learned ranks start from noise with the standard deviation of the embedding, as in OrdinalCLIP.
        """
        context_ids = token_ids(tokenize, context)
        word_ids = [[PAD] if base_ranks else token_ids(tokenize, word) for word in words]
        counts, width = [len(ids) for ids in word_ids], embedding.weight.shape[1]
        prompt = Prompt(context_length, counts, len(context_ids), width, base_ranks)
        with torch.no_grad():
            prompt.context.copy_(embedding.weight[context_ids])
            if base_ranks:
                prompt.words.normal_(std=float(embedding.weight.std()))
            else:
                prompt.words.copy_(embedding.weight[[i for ids in word_ids for i in ids]])
            prompt.fixed.copy_(embedding.weight[[SOT, STOP, EOT, PAD]])
        return prompt

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return the embeddings of the K sentences, float [K, L, W], and the slot of EOT in each, int64 [K]."""
        words = self.words if self.mix is None else self.mix @ self.words
        rows = torch.cat([self.fixed, self.context, words])
        return rows[self.slots], self.end


def rank_weights(num_ranks: int, base_ranks: int) -> Tensor:
    """Return the weight of each of B base ranks in each of K ranks, float [K, B]; base ranks are at equal steps.

    Linear in the distance: (1 - |i - a_j| / (K - 1)), normalised over j.
    """
    anchors = torch.linspace(0, num_ranks - 1, base_ranks)
    weights = 1 - (torch.arange(num_ranks)[:, None] - anchors[None, :]).abs() / (num_ranks - 1)
    return weights / weights.sum(dim=1, keepdim=True)


def token_ids(tokenize: Tokenizer, text: str) -> list[int]:
    """Return CLIP's token ids of a text, without SOT, EOT and padding; underscores count as spaces."""
    ids: list[int] = tokenize(text.replace("_", " "))[0].tolist()
    return ids[1 : ids.index(EOT)]
