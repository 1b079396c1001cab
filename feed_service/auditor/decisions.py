"""Decisions: what was answered about each item, compared with the rule.

A correct answer reflects one moment between its question, or the position in it, and its arrival:
that of the snapshot in which the posts were read. The connections are those of this moment or of a
later one in the same time. The auditor cannot know which moment it was, so it decides only about
items whose facts were the same at every moment of the call: what is wrong then is wrong at all of
them. The rest is unsettled.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from feed_service.auditor.facts import Facts
from feed_service.auditor.items import Item
from feed_service.auditor.metrics import AGREED, MISEXPLAINED, SHOWN, UNSETTLED, VIOLATED, WITHHELD
from feed_service.auditor.replays import Answer
from feed_service.auditor.rule import Clause, Ruling, is_muted, ruling


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What came of one item of an answer.

    `kind` says what is wrong, and is empty unless the outcome is a violation. `clause` is what
    decides by the rule. `reflects_past` is true where the answer fits only the state before the
    call.
    """

    item: Item
    outcome: str
    kind: str = ""
    clause: str = ""
    reflects_past: bool = False


def decisions(
    answer: Answer, before: Facts, after: Facts, *, among: Iterable[Item] | None = None
) -> Iterator[Decision]:
    """Yield a decision about each item that was shown or asked for, or about those `among` them."""
    items = answer.shown | answer.asked
    for item in sorted(items if among is None else items.intersection(among)):
        basis = before.basis(item, with_mutes=answer.leaves_out_muted)
        is_same = basis == after.basis(item, with_mutes=answer.leaves_out_muted)
        earlier, later = (_ruling(answer, facts, item) for facts in (before, after))
        if later is None or earlier is None:
            continue
        wrong = _wrong(answer, item, later)
        if is_same:
            yield Decision(
                item=item,
                outcome=VIOLATED if wrong else AGREED,
                kind=wrong,
                clause=later.clause,
            )
        else:
            reflects_past = bool(wrong) and not _wrong(answer, item, earlier)
            yield Decision(
                item=item, outcome=UNSETTLED, clause=later.clause, reflects_past=reflects_past
            )


def _ruling(answer: Answer, facts: Facts, item: Item) -> Ruling | None:
    ruled = ruling(facts, item)
    if ruled is None or not ruled.is_visible or item.author_id == facts.viewer_id:
        return ruled
    if answer.leaves_out_muted and is_muted(facts, item.author_id):
        return Ruling(is_visible=False, clause=Clause.MUTED)
    return ruled


def _wrong(answer: Answer, item: Item, ruled: Ruling) -> str:
    """Return what is wrong with an answer about an item, or nothing."""
    if item in answer.shown and not ruled.is_visible:
        return SHOWN
    if item in answer.asked - answer.shown and ruled.is_visible:
        return WITHHELD
    told = answer.clauses.get(item)
    return MISEXPLAINED if told is not None and told != ruled.clause else ""
