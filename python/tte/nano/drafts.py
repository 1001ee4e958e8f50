"""What each of the nine tasks draws: a query, its target and near-duplicates, with their gold reasoning traces.

A trace is ``<think> steps</think> conclusion``. Each step restates what the next one needs right before it: the name,
then its cell; the cell, then what stands there. Targets of the image and video retrieval tasks carry a trace too
(their description), in the same words and order as the conclusion of the query's trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .world import (
    CELLS,
    DIGITS,
    KINDS,
    NUMBERS,
    PAIRS,
    RELATIONS,
    SIDE,
    WORD_VARIANTS,
    WORDS,
    Image,
    Placed,
    Rng,
    Split,
    Thing,
    draw_page,
    draw_scene,
    look_at,
    moved,
)

MOVES = ("left", "right", "up", "down", "stay")
TIMES = ("first", "second", "third")

LIST_PICTURE = "list the things in the picture"
LIST_CLIP = "list the things in the clip"
NAME_CROP = "what is in the picture ?"
FOLLOW_VIDEO = "follow the things in the video"
ADD_BILL = "add up the bill"
INSTRUCTIONS = (LIST_PICTURE, LIST_CLIP, NAME_CROP, FOLLOW_VIDEO, ADD_BILL)
"""What the task says of its targets, and of the queries of image_cls; all other prompts are the item's own text."""


@dataclass(frozen=True, eq=False)
class Item:
    """One input: text, and an image or the frames of a video (uint8, height x width x 3), with its gold trace.

    Where the task itself says what to do (the recipe's preset), ``instruction`` holds that and ``text`` is empty.
    """

    text: str
    image: Image | None = None
    video: tuple[Image, ...] | None = None
    trace: str | None = None
    instruction: str = ""

    @property
    def prompt(self) -> str:
        """What the user's turn says after the image or video."""
        return self.instruction or self.text


@dataclass(frozen=True, eq=False)
class Draft:
    """A query, its target and near-duplicates of the target; ``things`` lists what was drawn, for the split check.

    ``more`` holds further queries about the very same image or video (training shares the image's tokens).
    """

    query: Item
    target: Item
    hard: tuple[Item, ...]
    things: tuple[Placed, ...]
    more: tuple[Item, ...] = ()


def _item(prompt: str, image: Image | None, video: tuple[Image, ...] | None, trace: str) -> Item:
    if prompt in INSTRUCTIONS:
        return Item("", image, video, trace, prompt)
    return Item(prompt, image, video, trace)


def _trace(think: str, conclusion: str) -> str:
    return f"<think> {think}</think> {conclusion}"


def _pairs(split: Split, rng: Rng) -> tuple[Thing, ...]:
    """The pairs that may be drawn; validation mixes its few held-out pairs with training pairs."""
    return PAIRS["train"] if split == "val" and rng.below(2) == 0 else PAIRS[split]


def _things(n: int, split: Split, rng: Rng, kinds: Sequence[str] = KINDS) -> list[Thing]:
    """N things of n different kinds."""
    chosen: list[Thing] = []
    while len(chosen) < n:
        thing = rng.pick(_pairs(split, rng))
        if thing.kind in kinds and all(thing.kind != other.kind for other in chosen):
            chosen.append(thing)
    return chosen


def _place(things: Sequence[Thing], split: Split, rng: Rng) -> list[Placed]:
    cells = rng.sample(range(SIDE * SIDE), len(things))
    return [Placed(t, look_at(t, split, rng), c) for t, c in zip(things, cells, strict=True)]


def _at(scene: Sequence[Placed], cell: int | None) -> Placed | None:
    return next((p for p in scene if p.cell == cell), None)


def _at_cell(p: Placed, cell: int) -> Placed:
    return Placed(p.thing, p.look, cell)


def _listing(scene: Sequence[Placed]) -> str:
    """Cells and names in reading order: "A1 red circle C2 blue three"."""
    return " ".join(f"{CELLS[p.cell]} {p.thing.name}" for p in sorted(scene, key=lambda p: p.cell))


def _list_trace(scene: Sequence[Placed]) -> str:
    return _trace(" ".join(CELLS[p.cell] for p in sorted(scene, key=lambda p: p.cell)), _listing(scene))


def _background(rng: Rng) -> int:
    return rng.below(56)


def _another(thing: Thing, split: Split, rng: Rng, taken: Sequence[Thing]) -> Thing:
    """A different thing whose kind is not taken by others."""
    kinds = {t.kind for t in taken if t != thing}
    while True:
        other = rng.pick(_pairs(split, rng))
        if other != thing and other.kind not in kinds:
            return other


def _image_item(scene: Sequence[Placed], rng: Rng, text: str, trace: str) -> Item:
    return _item(text, draw_scene(scene, _background(rng)), None, trace)


def _video_item(steps: Sequence[Sequence[Placed]], rng: Rng, text: str, trace: str) -> Item:
    """Every step is shown for two frames: one temporal patch of the model."""
    background = _background(rng)
    frames = [draw_scene(scene, background) for scene in steps]
    return _item(text, None, tuple(f for frame in frames for f in (frame, frame)), trace)


def _ask(visual: Item, text: str, trace: str) -> Item:
    """Another query about the same image or video."""
    return Item(text, visual.image, visual.video, trace)


def image_cls(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Image classification: one thing somewhere in the image; the label is its name (128 labels)."""
    scene = _place(_things(1, split, rng), split, rng)
    name = scene[0].thing.name
    query = _image_item(scene, rng, NAME_CROP, _trace(_listing(scene), name))
    return Draft(query, Item(name), (), tuple(scene))


def _walk(scene: Sequence[Placed], start: int, rng: Rng) -> tuple[str, str, Placed] | None:
    """Two random steps from a cell that end on another thing."""
    first, second = rng.pick(tuple(RELATIONS)), rng.pick(tuple(RELATIONS))
    middle = moved(start, first)
    end = moved(middle, second) if middle is not None else None
    found = _at(scene, end) if end != start else None
    return (first, second, found) if found is not None else None


def _image_walk(split: Split, rng: Rng, more: int) -> Draft:
    while True:
        scene = _place(_things(5, split, rng), split, rng)
        walks: dict[str, tuple[str, Placed]] = {}
        for _ in range(12 + 8 * more):
            key = rng.pick(scene)
            walk = _walk(scene, key.cell, rng)
            if walk is None:
                continue
            one, two, found = walk
            middle = moved(key.cell, one)
            assert middle is not None
            think = f"{key.thing.name} {CELLS[key.cell]} {one} {CELLS[middle]} {two} {_listing([found])}"
            text = f"what is {one} then {two} from the {key.thing.name} ?"
            walks[text] = _trace(think, found.thing.name), found
            if len(walks) == 1 + more:
                break
        if walks:
            (text, (trace, found)), *others = walks.items()
            query = _image_item(scene, rng, text, trace)
            extra = tuple(_ask(query, text, trace) for text, (trace, _) in others)
            return Draft(query, Item(found.thing.name), (), tuple(scene), extra)


def _image_sum(split: Split, rng: Rng) -> Draft:
    digits = _things(2, split, rng, DIGITS)
    scene = _place(digits + _things(2, split, rng, KINDS[:6]), split, rng)
    a, b = sorted(scene[:2], key=lambda p: p.cell)
    total = NUMBERS[DIGITS.index(a.thing.kind) + DIGITS.index(b.thing.kind)]
    think = f"{_listing([a, b])} {a.thing.kind} plus {b.thing.kind} is {total}"
    query = _image_item(scene, rng, "what is the sum of the digits ?", _trace(think, total))
    return Draft(query, Item(total), (), tuple(scene))


def image_qa(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Image QA: what stands two steps away from a named thing (2 of 3), or the sum of the two digits (1 of 3)."""
    return _image_walk(split, rng, more) if rng.below(3) else _image_sum(split, rng)


def image_ret(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Composed image retrieval: the same image, but the thing next to a named one becomes another thing."""
    while True:
        scene = _place(_things(3, split, rng), split, rng)
        key = rng.pick(scene)
        step = rng.pick(tuple(RELATIONS))
        old = _at(scene, moved(key.cell, step))
        if old is not None:
            break
    things = [p.thing for p in scene]
    new = _another(old.thing, split, rng, things)

    def edited(cell: int, thing: Thing) -> list[Placed]:
        return [Placed(thing, look_at(thing, split, rng), p.cell) if p.cell == cell else p for p in scene]

    def drawn(parts: Sequence[Placed]) -> Item:
        fresh = [Placed(p.thing, look_at(p.thing, split, rng), p.cell) for p in parts]
        return _image_item(fresh, rng, LIST_PICTURE, _list_trace(parts))

    def change(key: Placed, step: str, old: Placed, new: Thing) -> tuple[str, str]:
        think = f"{key.thing.name} {CELLS[key.cell]} {step} {CELLS[old.cell]} {new.name}"
        text = f"same but the thing {RELATIONS[step]} the {key.thing.name} becomes a {new.name}"
        return text, _trace(think, _listing(edited(old.cell, new)))

    target = edited(old.cell, new)
    query = _image_item(scene, rng, *change(key, step, old, new))
    extra: list[Item] = []
    for _ in range(3 * more):
        p, side = rng.pick(scene), rng.pick(tuple(RELATIONS))
        near = _at(scene, moved(p.cell, side))
        if near is not None and len(extra) < more:
            extra.append(_ask(query, *change(p, side, near, _another(near.thing, split, rng, things))))
    wrong: list[Item] = []
    for i in range(hard):
        if i == 0:
            wrong.append(drawn(scene))  # nothing changed
        elif i == 1:  # the wrong thing changed
            wrong.append(drawn(edited(rng.pick([p.cell for p in scene if p.cell != old.cell]), new)))
        elif i == 2:  # it became something else
            wrong.append(drawn(edited(old.cell, _another(new, split, rng, [*things, old.thing]))))
        else:  # another thing of the target is different
            p = rng.pick([p for p in target if p.cell != old.cell])
            other = _another(p.thing, split, rng, [t.thing for t in target])
            wrong.append(drawn([Placed(other, p.look, p.cell) if q is p else q for q in target]))
    return Draft(query, drawn(target), tuple(wrong), tuple(target) + tuple(scene), tuple(extra))


def image_vg(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Visual grounding: the crop of the thing next to the twin (the other thing of the same colour) of a named one."""
    while True:
        key, twin, *rest = _things(5, split, rng)
        if key.colour != twin.colour or any(t.colour == key.colour for t in rest):
            continue
        scene = _place([key, twin, *rest], split, rng)
        step = rng.pick(tuple(RELATIONS))
        found = _at(scene, moved(scene[1].cell, step))
        if found is not None and found.thing != key:
            break
    background = _background(rng)

    def crop(p: Placed) -> Item:
        trace = _trace(f"A1 {p.thing.name}", p.thing.name)
        return _item(NAME_CROP, draw_scene([_at_cell(p, 0)], background, side=1), None, trace)

    def point(key: Placed, twin: Placed, step: str, found: Placed) -> tuple[str, str]:
        think = f"{key.thing.name} {CELLS[key.cell]} {twin.thing.name} {CELLS[twin.cell]} {step} {_listing([found])}"
        return f"the thing {RELATIONS[step]} the twin of the {key.thing.name}", _trace(think, found.thing.name)

    text, trace = point(scene[0], scene[1], step, found)
    query = Item(text, image=draw_scene(scene, background), trace=trace)
    extra: list[Item] = []
    for _ in range(3 * more):
        side, turn = rng.pick(tuple(RELATIONS)), rng.below(2)
        near = _at(scene, moved(scene[turn].cell, side))
        if near is not None and near is not scene[1 - turn] and len(extra) < more:
            extra.append(_ask(query, *point(scene[1 - turn], scene[turn], side, near)))
    others = [p for p in scene if p is not found]
    return Draft(query, crop(found), tuple(crop(p) for p in others[:hard]), tuple(scene), tuple(extra))


def _path(start: int, rng: Rng, moves: Sequence[str]) -> tuple[list[int], list[str]]:
    """Three cells and the two moves between them."""
    while True:
        steps = [rng.pick(moves), rng.pick(moves)]
        middle = moved(start, steps[0])
        end = moved(middle, steps[1]) if middle is not None else None
        if middle is not None and end is not None:
            return [start, middle, end], steps


def _video(
    things: Sequence[Thing], movers: int, split: Split, rng: Rng, moves: Sequence[str] = MOVES
) -> tuple[list[list[Placed]], list[list[int]], list[list[str]]]:
    """Three steps of a scene whose first things move; never two in one cell, and no two swap places."""
    while True:
        placed = _place(things, split, rng)
        paths = [
            _path(p.cell, rng, moves) if i < movers else ([p.cell] * 3, ["stay", "stay"]) for i, p in enumerate(placed)
        ]
        cells = [path[0] for path in paths]
        if all(len({c[t] for c in cells}) == len(cells) for t in range(3)):
            steps = [[_at_cell(p, c[t]) for p, c in zip(placed, cells, strict=True)] for t in range(3)]
            return steps, cells, [path[1] for path in paths]


def _track(cells: Sequence[int]) -> str:
    return " ".join(CELLS[c] for c in cells)


def video_cls(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Video classification: which two moves the named thing makes (25 labels), beside another mover."""
    things = _things(3, split, rng)
    steps, cells, moves = _video(things, 2, split, rng)

    def ask(i: int) -> tuple[str, str]:
        name, answer = things[i].name, " ".join(moves[i])
        return f"how does the {name} move ?", _trace(f"{name} {_track(cells[i])} {answer}", answer)

    query = _video_item(steps, rng, *ask(0))
    extra = tuple(_ask(query, *ask(i)) for i in range(1, min(3, 1 + more)))
    return Draft(query, Item(" ".join(moves[0])), (), tuple(steps[0]), extra)


def video_qa(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Video QA: what is next to the named, moving thing at the end (128 answers)."""
    while True:
        things = _things(4, split, rng)
        steps, cells, _ = _video(things, 2, split, rng)
        step = rng.pick(tuple(RELATIONS))
        found = _at(steps[2], moved(cells[0][2], step))
        if found is not None:
            break

    def ask(i: int, step: str, found: Placed) -> tuple[str, str]:
        think = f"{things[i].name} {_track(cells[i])} {step} {_listing([found])}"
        return f"what is {RELATIONS[step]} the {things[i].name} at the end ?", _trace(think, found.thing.name)

    query = _video_item(steps, rng, *ask(0, step, found))
    extra: list[Item] = []
    for _ in range(3 * more):
        i, side = rng.below(4), rng.pick(tuple(RELATIONS))
        near = _at(steps[2], moved(cells[i][2], side))
        if near is not None and len(extra) < more:
            extra.append(_ask(query, *ask(i, side, near)))
    return Draft(query, Item(found.thing.name), (), tuple(steps[0]), tuple(extra))


def video_ret(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Video retrieval: from a caption that names the start and the moves of two things to the video."""
    things = _things(2, split, rng)
    steps, cells, moves = _video(things, 2, split, rng)

    def video(steps: Sequence[Sequence[Placed]]) -> Item:
        first = sorted(range(2), key=lambda i: steps[0][i].cell)
        starts = " ".join(CELLS[steps[0][i].cell] for i in first)
        tracks = " ".join(f"{steps[0][i].thing.name} {_track([s[i].cell for s in steps])}" for i in first)
        return _video_item(steps, rng, FOLLOW_VIDEO, _trace(starts, tracks))

    order = sorted(range(2), key=lambda i: cells[i][0])
    text = " and ".join(
        f"the {things[i].name} starts at {CELLS[cells[i][0]]} and goes {moves[i][0]} then {moves[i][1]}" for i in order
    )
    think = " ".join(
        f"{things[i].name} {CELLS[cells[i][0]]} {moves[i][0]} {CELLS[cells[i][1]]} {moves[i][1]} {CELLS[cells[i][2]]}"
        for i in order
    )
    query = Item(text, trace=_trace(think, " ".join(f"{things[i].name} {_track(cells[i])}" for i in order)))
    wrong: list[Item] = []
    while len(wrong) < hard:
        if len(wrong) == hard - 1 and hard > 1:  # other things on the same paths
            i = rng.below(2)
            other = _another(things[i], split, rng, things)
            look = look_at(other, split, rng)
            wrong.append(
                video([[Placed(other, look, p.cell) if j == i else p for j, p in enumerate(s)] for s in steps])
            )
            continue
        i = rng.below(2)  # one of the two moves differently, sometimes from elsewhere
        start = cells[i][0] if rng.below(2) else rng.below(SIDE * SIDE)
        path = _path(start, rng, MOVES)[0]
        if path != cells[i] and all(path[t] != cells[1 - i][t] for t in range(3)):
            wrong.append(
                video([[_at_cell(p, path[t]) if j == i else p for j, p in enumerate(s)] for t, s in enumerate(steps)])
            )
    fresh = [look_at(t, split, rng) for t in things]
    target = video([[Placed(p.thing, fresh[j], p.cell) for j, p in enumerate(s)] for s in steps])
    return Draft(query, target, tuple(wrong), tuple(steps[0]))


def video_mret(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Moment retrieval: the clip of the video in which a moving thing is next to a still one."""
    while True:
        mover, landmark, still = _things(3, split, rng)
        steps, cells, _ = _video([mover, landmark, still], 1, split, rng, MOVES[:4])
        step = rng.pick(tuple(RELATIONS))
        goal = moved(cells[1][0], step)
        times = [t for t in range(3) if cells[0][t] == goal]
        if len(times) == 1 and len(set(cells[0])) == 3:
            break
    time = times[0]

    def clip(scene: Sequence[Placed]) -> Item:
        return _video_item([scene], rng, LIST_CLIP, _list_trace(scene))

    def ask(i: int, step: str, t: int) -> tuple[str, str]:
        near = steps[0][i].thing
        think = (
            f"{mover.name} {_track(cells[0])} {near.name} {CELLS[cells[i][0]]} {step} {CELLS[cells[0][t]]} {TIMES[t]}"
        )
        return f"when is the {mover.name} {RELATIONS[step]} the {near.name} ?", _trace(think, _listing(steps[t]))

    query = _video_item(steps, rng, *ask(1, step, time))
    others = [
        (i, side, t) for i in (1, 2) for side in RELATIONS for t in range(3)
        if moved(cells[i][0], side) == cells[0][t] and (i, side, t) != (1, step, time)
    ]  # fmt: skip
    extra = tuple(_ask(query, *ask(*o)) for o in rng.sample(others, min(more, len(others))))
    wrong = [clip(steps[t]) for t in range(3) if t != time][:hard]
    seen = {_listing(s) for s in steps}
    while len(wrong) < hard:  # moments of other videos with almost the same things
        scene = list(steps[time])
        if rng.below(2):
            i = rng.below(3)
            other = _another(scene[i].thing, split, rng, [mover, landmark, still])
            scene[i] = Placed(other, look_at(other, split, rng), scene[i].cell)
        else:
            i, free = rng.below(3), rng.below(SIDE * SIDE)
            if _at(scene, free) is not None:
                continue
            scene[i] = _at_cell(scene[i], free)
        if _listing(scene) not in seen:
            seen.add(_listing(scene))
            wrong.append(clip(scene))
    return Draft(query, clip(steps[time]), tuple(wrong), tuple(steps[0]), extra)


def visdoc(split: Split, rng: Rng, hard: int, more: int = 0) -> Draft:
    """Visual documents: the page (a bill of two printed items with handwritten prices) with a given total."""

    def page(items: Sequence[str], prices: Sequence[int]) -> tuple[Item, list[Placed]]:
        rows: list[tuple[str, int, Placed]] = []
        for word, price in zip(items, prices, strict=True):
            thing = rng.pick([t for t in PAIRS["train" if split == "val" else split] if t.kind == DIGITS[price]])
            rows.append((word, rng.pick(WORD_VARIANTS[split]), Placed(thing, look_at(thing, split, rng), 0)))
        total = NUMBERS[sum(prices)]
        a, b = (DIGITS[p] for p in prices)
        think = f"{items[0]} {a} {items[1]} {b} {a} plus {b} is {total}"
        trace = _trace(think, f"{items[0]} {items[1]} {total}")
        return _item(ADD_BILL, draw_page(rows, _background(rng)), None, trace), [r[2] for r in rows]

    items = rng.sample(WORDS, 2)
    prices = [rng.below(10), rng.below(10)]
    total = sum(prices)
    target, digits = page(items, prices)
    text = f"which bill has {items[0]} and {items[1]} and a total of {NUMBERS[total]} ?"
    goal = f"{items[0]} {items[1]} {NUMBERS[total]}"
    query = Item(text, trace=_trace(f"{items[0]} {items[1]} total {NUMBERS[total]}", goal))
    wrong: list[Item] = []
    while len(wrong) < hard:
        if len(wrong) < hard - 1:  # the same items with another total
            other = [prices[0], rng.below(10)] if rng.below(2) else [rng.below(10), rng.below(10)]
            if sum(other) != total:
                wrong.append(page(items, other)[0])
        else:  # one other item with the same total
            word = rng.pick([w for w in WORDS if w not in items])
            wrong.append(page([items[0], word], prices)[0])
    return Draft(query, target, tuple(wrong), tuple(digits))
