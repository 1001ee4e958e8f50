"""How processes end: raised callbacks, threads in calls, forked children, Ctrl-C. Each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tte

NANO = Path(tte.__file__).parent / "models" / "nano"
HARD_LIMIT = 240
"""Seconds after which a process hangs. Nothing here takes more than a few."""

HEADER = f"""
import os, sys, threading, time, signal
import tte
backend = tte.Backend("cpu", threads=1, media_threads=1)
reasoner = tte.Reasoner({str(NANO / "reasoner")!r}, backend=backend)
embedder = tte.Embedder({str(NANO / "embedder")!r}, backend=backend)
LONG = dict(max_new_tokens=1500, ignore_eos=True, progress=False)

def wait_for(child):
    status = os.waitpid(child, 0)[1]
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
"""
TWO = HEADER.replace("threads=1, media", "threads=2, replicas=2, media")
"""With two replicas of each model."""
both = pytest.mark.parametrize("header", [HEADER, TWO], ids=["one", "two"])


def run(program: str, header: str = HEADER) -> subprocess.CompletedProcess[str]:
    code = header + textwrap.dedent(program)
    try:
        return subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, timeout=HARD_LIMIT,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"the process did not end:\n{error.stdout!r}\n{error.stderr!r}")


def check(program: str, code: int = 0, out: str = "", header: str = HEADER) -> str:
    """Run a program; returns what it wrote to stderr."""
    done = run(program, header)
    assert done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stdout.split() == out.split(), done.stderr
    return done.stderr


def test_a_callback_that_raises_ends_the_program_as_an_exception_does() -> None:
    errors = check(
        """
        def on_token(item, text, token):
            raise LookupError("from the callback")
        reasoner.think(["a", "b"], on_token=on_token, **LONG)
        """,
        code=1,
    )
    assert "LookupError: from the callback" in errors


@pytest.mark.parametrize("name", ["on_token", "on_result", "progress"])
def test_the_program_may_end_right_after_a_callback_raised(name: str) -> None:
    check(
        f"""
        def callback(*arguments):
            raise LookupError("from the callback")
        try:
            reasoner.think(["a", "b"], **{{**LONG, "max_new_tokens": 3, "{name}": callback}})
        except LookupError:
            print("caught")
        """,
        out="caught",
    )


@pytest.mark.parametrize("code", [0, 3])
@pytest.mark.parametrize("callback", ["None", "lambda *a: None", "lambda *a: time.sleep(0.01)"])
@both
def test_daemon_threads_in_calls_do_not_disturb_the_end(code: int, callback: str, header: str) -> None:
    check(
        f"""
        started = threading.Barrier(4)
        def work():
            started.wait()
            while True:
                reasoner.think(["a", "b"], on_token={callback}, **LONG)
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        started.wait()
        time.sleep(0.05)
        sys.exit({code})
        """,
        code=code,
        header=header,
    )


def test_models_may_go_in_daemon_threads_at_the_end() -> None:
    check(
        f"""
        def work():
            while True:
                tte.Embedder({str(NANO / "embedder")!r}, backend=tte.Backend("cpu", max_running=3)).embed("a")
        for _ in range(2):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        """
    )


def test_calls_in_atexit_handlers() -> None:
    check(
        """
        atexit.register(lambda: print("after", reasoner.think("a", max_new_tokens=1)[0].prompt_tokens > 0))
        """,
        out="after True before True",
        header="import atexit\n"
        'atexit.register(lambda: print("before", reasoner.think("a", max_new_tokens=1)[0].prompt_tokens > 0))\n'
        + HEADER,
    )


@pytest.mark.parametrize(
    "end", ["sys.exit(5)", "raise SystemExit(5)", "del reasoner, embedder, backend; sys.exit(5)", "os._exit(5)"]
)
@both
def test_a_forked_child_ends(end: str, header: str) -> None:
    check(
        f"""
        reasoner.think("a", max_new_tokens=2)
        child = os.fork()
        if child == 0:
            {end}
        print(wait_for(child), len(reasoner.think("a", max_new_tokens=2, ignore_eos=True)[0].token_ids))
        """,
        out="5 2",
        header=header,
    )


@both
def test_a_child_that_is_forked_while_calls_run_ends(header: str) -> None:
    check(
        """
        def work():
            while not done:
                reasoner.think(["a", "b", "c"], on_token=lambda *a: None, max_new_tokens=50, progress=False)
        done = False
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        ends = []
        for _ in range(5):
            child = os.fork()
            if child == 0:
                threading._shutdown = lambda: None  # The threads are not here; Python knows.
                sys.exit(5)
            ends.append(wait_for(child))
        done = True
        for thread in threads:
            thread.join()
        print(ends)
        """,
        out="[5, 5, 5, 5, 5]",
        header=header,
    )


@both
def test_a_forked_child_that_calls_is_told(header: str) -> None:
    check(
        """
        child = os.fork()
        if child == 0:
            for call in (lambda: reasoner.think("a"), lambda: embedder.embed("a"), lambda: tte.Embedder("nano")):
                try:
                    call()
                except tte.DeviceError as error:
                    print("forked" in str(error), flush=True)
            sys.exit(0)
        print(wait_for(child))
        """,
        out="True True True 0",
        header=header,
    )


def test_a_forked_child_that_uses_a_store_is_told_and_opens_its_own(tmp_path: Path) -> None:
    check(
        f"""
        store = tte.TraceStore({str(tmp_path / "traces.sqlite")!r})
        request = store.request(reasoner, "a")
        store.put(request, tte.Trace("<think>a</think> b"))
        store._lock.acquire()  # As another thread would have it that is writing.
        child = os.fork()
        if child == 0:
            for call in (lambda: store.get(request), lambda: store.put(request, tte.Trace("c"))):
                try:
                    call()
                except tte.InputError as error:
                    print("forked" in str(error), flush=True)
            store.close()
            with tte.TraceStore(store.path) as own:
                print(own.get(request).trace.conclusion, flush=True)
            sys.exit(0)
        store._lock.release()
        print(wait_for(child), store.get(request).trace.conclusion)
        """,
        out="True True b 0 b",
    )


def test_a_forked_child_reads_documents() -> None:
    check(
        """
        import io
        from PIL import Image
        file = io.BytesIO()
        Image.new("L", (9, 9)).save(file, "PDF")
        pages = tte.pages(file.getvalue())
        first = pages[0]
        held, done = threading.Event(), threading.Event()
        def hold():
            with pages._document.lock:
                held.set()
                done.wait()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if child == 0:
            print(pages[0] == first, len(tte.pages(file.getvalue())), flush=True)
            os._exit(0)
        print(wait_for(child))
        done.set()
        thread.join()
        print(pages[0] == first)
        """,
        out="True 1 0 True",
    )


@both
def test_a_callback_may_fork(header: str) -> None:
    check(
        """
        children = []
        def on_token(item, text, token):
            child = os.fork()
            if child:
                children.append(child)
            return len(children) < 3
        try:
            trace, = reasoner.think("a", on_token=on_token, **LONG)
        except tte.DeviceError:
            os._exit(7)
        print([wait_for(child) for child in children], len(trace.token_ids))
        """,
        out="[7, 7, 7] 3",
        header=header,
    )


def test_a_pool_of_forked_processes() -> None:
    check(
        """
        import multiprocessing
        embedder.embed("a")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(sum(pool.map(abs, range(-50, 50))))
        print(embedder.embed("a").shape[0])
        """,
        out="2500 1",
    )


def test_spawned_processes_load_models_again(tmp_path: Path) -> None:
    script = tmp_path / "main.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import multiprocessing
            import tte

            def work(task):
                model, text = task
                return model.embed(text).tolist()

            if __name__ == "__main__":
                embedder = tte.Embedder({str(NANO / "embedder")!r}, device="cpu")
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    assert pool.map(work, [(embedder, "a"), (embedder, "b")]) == [
                        embedder.embed(text).tolist() for text in "ab"
                    ]
            """
        )
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=HARD_LIMIT, check=False)
    assert done.returncode == 0, done.stderr


def test_ctrl_c_during_a_long_callback() -> None:
    check(
        """
        def on_token(item, text, token):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
            time.sleep(3600)
        try:
            reasoner.think("a", on_token=on_token, **LONG)
        except KeyboardInterrupt:
            print("interrupted", len(reasoner.think("a", max_new_tokens=2, ignore_eos=True)[0].token_ids))
        """,
        out="interrupted 2",
    )


@both
def test_ctrl_c_at_any_moment(header: str) -> None:
    check(
        """
        import random
        random.seed(3)
        interrupted = 0
        for _ in range(40):
            timer = threading.Timer(random.random() * 0.05, os.kill, (os.getpid(), signal.SIGINT))
            try:
                try:
                    timer.start()
                    tte.think_then_embed(
                        ["a", "b"], reasoner=reasoner, embedder=embedder, on_token=lambda *a: None,
                        on_trace=lambda *a: None, on_vector=lambda *a: None, **LONG,
                    )
                finally:
                    timer.join()
                    time.sleep(0.01)
            except KeyboardInterrupt:
                interrupted += 1
        print(interrupted, embedder.embed("a").shape[0])
        """,
        out="40 1",
        header=header,
    )


def test_ctrl_c_that_nobody_catches() -> None:
    errors = check(
        """
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        while True:
            reasoner.think("a", on_token=lambda *a: None, **LONG)
        """,
        code=-2,
    )
    assert "KeyboardInterrupt" in errors


def test_a_callback_may_call_models() -> None:
    check(
        """
        seen = []
        def on_token(item, text, token):
            seen.append(embedder.embed("a").shape[0] + len(reasoner.think("b", max_new_tokens=1)))
        reasoner.think(["a", "b"], on_token=on_token, max_new_tokens=3, ignore_eos=True, progress=False)
        print(seen)
        """,
        out="[2, 2, 2, 2, 2, 2]",
    )


def test_a_model_goes_without_the_interpreters_lock() -> None:
    # Another thread runs only where this one gives the lock up by itself. Whether the engine is in a step when
    # the model goes is not certain, so there are many tries; with the lock held none would ever succeed.
    check(
        f"""
        sys.setswitchinterval(3600)
        count, done = 0, False
        def work():
            global count
            while not done:
                count += 1
                time.sleep(0)
        def one():
            mine = tte.Embedder(
                {str(NANO / "embedder")!r}, backend=tte.Backend("cpu", threads=1, media_threads=1, max_running=3)
            )
            cancel = tte.CancelToken()
            try:
                mine.embed(["red " * 400] * 8, progress=lambda *a: cancel.cancel(), cancel=cancel)
            except tte.CancelledError:
                pass
            before = count
            del mine
            return count > before
        thread = threading.Thread(target=work)
        thread.start()
        print(any(one() for _ in range(200)))
        done = True
        thread.join()
        """,
        out="True",
    )
