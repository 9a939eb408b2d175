"""The contenders of `overhead` match their names."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("numclip.train.torchvision_gap", reason="needs the extra train")
from numclip.research.studies import overhead  # noqa: E402
from numclip.train.tasks_file import load_task  # noqa: E402


def test_padding_changes_no_word() -> None:
    """Padded to CLIP's full context length, the sentences have the same embeddings as in their short form."""
    from numclip.train.method import Method
    from numclip.train.network import NumCLIP
    from numclip.train.prompts import Prompt
    from numclip.train.towers import build_towers, open_clip

    task, towers = load_task("age"), build_towers("nano", None, torch.empty(0))
    tokenize = open_clip.get_tokenizer("nano", context_length=77)
    prompt = Prompt.from_words(tokenize, towers.token_embedding, task.context, task.spec.words, 77)
    network = NumCLIP(task, towers, prompt, Method()).eval()
    with torch.no_grad():
        torch.testing.assert_close(overhead.plain_text_bins(network, 77), network.text_bins(), atol=1e-5, rtol=1e-5)


def test_zero_shot_answers_the_same_with_and_without_its_text_tower() -> None:
    """Zero-shot with cached words and with the text tower give the same values."""
    crops = torch.randint(0, 255, (3, 96, 96, 3), dtype=torch.uint8)
    cached, once = (overhead.contender("nano", "age", name)[0] for name in (overhead.CACHED, overhead.TEXT_ONCE))
    torch.testing.assert_close(torch.cat(cached(crops)), torch.cat(once(crops)), atol=1e-2, rtol=1e-3)


def test_what_each_contender_holds_and_computes() -> None:
    """Without the text tower there are fewer weights and operations; adapter and refinement add little."""
    found = {name: overhead.contender("nano", "age", name) for name in overhead.CONTENDERS}
    size = {name: weights for name, (_, weights) in found.items()}
    work = {name: overhead.flops(answer, 96) for name, (answer, _) in found.items()}

    assert size[overhead.TEXT_ONCE] - size[overhead.CACHED] >= 4 * 49408 * 128, "only the vocabulary"
    assert 0 < size[overhead.FROZEN] - size[overhead.CACHED] < 1e6
    assert work[overhead.CACHED] < work[overhead.FROZEN] < 1.01 * work[overhead.CACHED]
    assert work[overhead.TEXT_ONCE] > 1.5 * work[overhead.CACHED] and work[overhead.EVERY] > work[overhead.FROZEN]


def test_the_text_tower_is_read_once_or_for_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """For 60 pictures in batches of 25, the contenders run the text tower never, never, once and three times."""
    calls: list[str] = []
    whole = overhead.plain_text_bins
    monkeypatch.setattr(
        overhead, "plain_text_bins", lambda network, length: calls.append("x") or whole(network, length)
    )
    crops, counts = torch.zeros(60, 96, 96, 3, dtype=torch.uint8), {}
    for name in overhead.CONTENDERS:
        calls.clear()
        overhead.contender("nano", "age", name)[0](crops)
        counts[name] = len(calls)

    assert [counts[name] for name in overhead.CONTENDERS] == [0, 0, 1, 3]


def test_contenders_take_turns() -> None:
    """Each contender is called once as warm-up and once per round; a round starts after the previous one has ended."""
    order: list[str] = []
    times = overhead.take_turns({name: (lambda name=name: order.append(name)) for name in "abc"}, rounds=5)
    rounds = [order[i : i + 3] for i in range(0, len(order), 3)]

    assert all(sorted(r) == ["a", "b", "c"] for r in rounds) and len(rounds) == 1 + 5
    assert {name: len(t) for name, t in times.items()} == dict.fromkeys("abc", 5)
