"""Which slot answers whom: who comes again finds his conversation, and nobody reads on from another adapter's state."""

import threading

import pytest

from lorikeet.conversation import Message
from lorikeet.engine import Prompt
from lorikeet.engine.slots import Busy, Place, Slots

SYSTEM = Message("system", "You help, at some length, with whatever is asked.")


def asked(*turns: str) -> Prompt:
    return [SYSTEM, *(Message("assistant" if n % 2 else "user", text) for n, text in enumerate(turns))]


def placed(slots: Slots, prompt: Prompt, adapter: int = -1) -> Place:
    place = next(slots.take(prompt, adapter))
    assert place is not None
    return place


def answered(slots: Slots, prompt: Prompt, adapter: int = -1, answer: str = "Yes.") -> Place:
    place = placed(slots, prompt, adapter)
    slots.give_back(place, [*prompt, Message("assistant", answer)], 1.0)
    return place


def test_a_conversation_goes_on_in_its_slot_though_others_have_the_same_system_turn() -> None:
    slots = Slots(3, 4)
    first, second = answered(slots, asked("a nosebleed")), answered(slots, asked("a burn"))
    assert first.number != second.number
    assert answered(slots, asked("a burn", "Yes.", "and then?")) == Place(second.number, reuse=True)
    assert answered(slots, asked("a nosebleed", "Yes.", "and then?")) == Place(first.number, reuse=True)


def test_another_adapter_never_reads_on_from_a_slots_state() -> None:
    slots = Slots(1, 4)
    assert not answered(slots, asked("a burn"), 0).reuse
    assert not answered(slots, asked("a burn", "Yes.", "and then?"), 1).reuse
    assert not answered(slots, asked("a burn", "Yes.", "and then?"), -1).reuse
    assert answered(slots, asked("a burn", "Yes.", "and then?"), -1).reuse


def test_a_new_conversation_takes_the_slot_longest_idle() -> None:
    slots = Slots(2, 4)
    first = answered(slots, asked("a burn"))
    answered(slots, asked("a sting"))
    assert answered(slots, asked("a cramp")).number == first.number


def test_who_waits_is_served_when_a_place_is_free_and_the_line_is_bounded() -> None:
    slots = Slots(1, 1)
    place = placed(slots, asked("a burn"))
    waiting = slots.take(asked("a sting"), -1)
    assert next(waiting) is None
    with pytest.raises(Busy, match="about 10 seconds"):
        next(slots.take(asked("a cramp"), -1))
    threading.Timer(0.05, slots.give_back, (place, asked("a burn", "Yes."), 5.0)).start()
    assert next(place for place in waiting if place) is not None
    assert (slots.busy, slots.waiting) == (1, 0)


def test_who_leaves_the_line_makes_room_in_it() -> None:
    slots = Slots(1, 1)
    placed(slots, asked("a burn"))
    waiting = slots.take(asked("a sting"), -1)
    next(waiting)
    waiting.close()
    assert slots.waiting == 0
