"""Generation through the public call: lengths, stops, seeds, callbacks, budgets, cancellation."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import tte
from checkpoints import Shape

UNTIED = Shape("untied-generation", tied=False, scale=4.0)


@pytest.fixture(scope="module")
def folder(checkpoint: Callable[[Shape], Path]) -> Path:
    return checkpoint(UNTIED)


@pytest.fixture(scope="module")
def reasoner(folder: Path) -> tte.Reasoner:
    return tte.Reasoner(folder, device="cpu")


def test_a_trace_tells_its_length_and_why_it_ended(reasoner: tte.Reasoner) -> None:
    (trace,) = reasoner.think("the cat", max_new_tokens=5, ignore_eos=True)
    assert len(trace.token_ids) == 5
    assert trace.finish == tte.FinishReason.LENGTH
    assert trace.prompt_tokens > 5
    assert trace.timings.prefill > 0


def test_each_item_has_its_own_options(reasoner: tte.Reasoner) -> None:
    traces = reasoner.think(
        ["the cat", "the dog", "a red circle"], max_new_tokens=[1, 4, 9], ignore_eos=True, progress=False
    )
    assert [len(t.token_ids) for t in traces] == [1, 4, 9]


def test_a_seed_repeats_itself_whatever_else_runs(reasoner: tte.Reasoner) -> None:
    options = {"temperature": 1.5, "max_new_tokens": 12, "ignore_eos": True, "progress": False}
    alone = reasoner.think("the cat", seed=7, **options)[0].token_ids
    crowd = reasoner.think(["a", "the cat", "red blue", "x"], seed=[1, 7, 3, 4], **options)
    assert crowd[1].token_ids == alone
    assert reasoner.think("the cat", seed=8, **options)[0].token_ids != alone


def test_top_k_of_one_is_greedy(reasoner: tte.Reasoner) -> None:
    greedy = reasoner.think("the cat", max_new_tokens=8, ignore_eos=True)[0].token_ids
    top1 = reasoner.think("the cat", max_new_tokens=8, ignore_eos=True, temperature=2.0, top_k=1, seed=3)
    assert top1[0].token_ids == greedy


def test_a_stop_string_ends_the_text_and_is_cut_off(reasoner: tte.Reasoner) -> None:
    whole = reasoner.think("the cat", max_new_tokens=24, ignore_eos=True)[0].text
    stop = whole[4:7]
    (trace,) = reasoner.think("the cat", max_new_tokens=24, ignore_eos=True, stop=stop)
    assert trace.finish == tte.FinishReason.STOP
    assert trace.text == whole[: whole.index(stop)]


def test_a_callback_sees_every_token_and_can_stop(reasoner: tte.Reasoner) -> None:
    seen: list[tuple[int, int]] = []

    def on_token(item: int, text: str, token: int) -> bool:
        seen.append((item, token))
        return len(seen) < 6

    (trace,) = reasoner.think("the cat", max_new_tokens=50, ignore_eos=True, on_token=on_token)
    assert trace.finish == tte.FinishReason.CALLBACK
    assert [token for _, token in seen] == trace.token_ids
    assert len(seen) == 6


def test_the_engine_writes_on_while_a_callback_holds_the_interpreters_lock(reasoner: tte.Reasoner) -> None:
    written: list[int] = []

    def on_token(item: int, text: str, token: int) -> bool:
        until, before = time.monotonic() + 60, reasoner.backend.stats.decode_tokens
        while (more := reasoner.backend.stats.decode_tokens - before) < 3 and time.monotonic() < until:
            pass
        written.append(more)
        return False

    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)  # No other thread gets the lock.
    try:
        (trace,) = reasoner.think("the cat", max_new_tokens=400, ignore_eos=True, on_token=on_token)
    finally:
        sys.setswitchinterval(interval)
    assert written[0] >= 3
    assert len(written) == len(trace.token_ids) == 1
    assert trace.finish == tte.FinishReason.CALLBACK


def test_what_a_callback_raises_comes_out(reasoner: tte.Reasoner) -> None:
    def on_token(item: int, text: str, token: int) -> bool:
        raise LookupError("from the callback")

    with pytest.raises(LookupError, match="from the callback"):
        reasoner.think("the cat", max_new_tokens=5, on_token=on_token)
    assert reasoner.think("the cat", max_new_tokens=2, ignore_eos=True)[0].token_ids  # The engine lives on.


def test_the_thinking_budget_closes_the_tag(reasoner: tte.Reasoner) -> None:
    messages = [
        {"role": "user", "content": "the cat"},
        {"role": "assistant", "content": "<think>"},
    ]
    (trace,) = reasoner.think(messages, max_new_tokens=30, ignore_eos=True, max_think_tokens=5)
    close = reasoner.tokenizer.id_of("</think>")
    assert trace.token_ids.index(close) <= 5


def test_results_come_one_by_one(reasoner: tte.Reasoner) -> None:
    order: list[int] = []
    reasoner.think(
        ["a", "b", "c"], max_new_tokens=[300, 1, 40], ignore_eos=True, on_result=lambda i, _: order.append(i),
        progress=False,
    )  # fmt: skip
    assert order == [1, 2, 0]


def test_a_bar_that_cannot_be_shown_stops_nothing(reasoner: tte.Reasoner, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    full = open("/dev/full", "w")  # noqa: SIM115
    for stream in (closed, full, None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert len(reasoner.think(["a", "b", "c"], max_new_tokens=1)) == 3
    monkeypatch.undo()
    with contextlib.suppress(OSError):
        full.close()


def test_progress_counts_to_the_end(reasoner: tte.Reasoner) -> None:
    counts: list[tuple[int, int]] = []
    reasoner.think(["a", "b"], max_new_tokens=1, progress=lambda done, total: counts.append((done, total)))
    assert counts[-1] == (2, 2)


def test_a_token_cancels_from_another_thread(reasoner: tte.Reasoner) -> None:
    cancel = tte.CancelToken()
    tokens = 0

    def on_token(item: int, text: str, token: int) -> None:
        nonlocal tokens
        tokens += 1
        thread = threading.Thread(target=cancel.cancel)
        thread.start()
        thread.join()

    with pytest.raises(tte.CancelledError):
        reasoner.think("the cat", max_new_tokens=3000, ignore_eos=True, cancel=cancel, on_token=on_token)
    assert tokens < 3000


def test_ctrl_c_is_a_keyboard_interrupt(folder: Path) -> None:
    program = f"""
        import sys, tte
        reasoner = tte.Reasoner({str(folder)!r}, device="cpu")
        try:
            print("ready", flush=True)
            while True:
                reasoner.think("the cat", max_new_tokens=2000, ignore_eos=True, progress=False)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "ready"
    time.sleep(0.5)  # Most likely while it writes; at any other moment it ends as well.
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline().strip() == "interrupted"
    assert process.wait(300) == 0


def test_many_threads_join_the_same_batches(reasoner: tte.Reasoner) -> None:
    words = ["the cat", "a dog", "red", "blue square", "one word", "x"]
    expected = {w: reasoner.think(w, max_new_tokens=10, ignore_eos=True)[0].token_ids for w in words}
    results: dict[str, list[int]] = {}

    def run(word: str) -> None:
        results[word] = reasoner.think(word, max_new_tokens=10, ignore_eos=True)[0].token_ids

    threads = [threading.Thread(target=run, args=(word,)) for word in words]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == expected


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": -0.5}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -3}, "top_k"),
        ({"min_p": 2.0}, "min_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"min_new_tokens": 9, "max_new_tokens": 3}, "min_new_tokens"),
        ({"max_new_tokens": [1, 2, 3]}, "max_new_tokens has 3 values for 1 items"),
        ({"stop": ""}, "stop"),
        ({"max_new_tokens": 10**9}, "state_bytes|positions"),
        ({"side": "left"}, "side"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_bad_options_are_named(reasoner: tte.Reasoner, options: dict, words: str) -> None:
    with pytest.raises(tte.InputError, match=words):
        reasoner.think("the cat", **options)


def test_traces_are_equal_whatever_was_read_before(reasoner: tte.Reasoner) -> None:
    first, again = (reasoner.think("a prompt of this test alone", max_new_tokens=2)[0] for _ in range(2))
    assert again.reused_tokens > first.reused_tokens
    assert again == first
    assert again != reasoner.think("another prompt", max_new_tokens=2)[0]


@pytest.mark.parametrize(("written", "is_thinking"), [("<think>\n", True), ("<think>\n\n</think>\n\n", False)])
def test_a_template_may_open_the_thinking(folder: Path, tmp_path: Path, written: str, is_thinking: bool) -> None:
    made = shutil.copytree(folder, tmp_path / "made")
    (made / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.content if m.content is string else m.content[0].text }}<|im_end|>\n"
        "{% endfor %}<|im_start|>assistant\n" + written
    )
    (trace,) = tte.Reasoner(made, device="cpu").think("a", max_new_tokens=6, ignore_eos=True, progress=False)
    assert trace.text
    assert (trace.thinking, trace.conclusion) == ((trace.text.strip(), "") if is_thinking else ("", trace.text.strip()))
