"""What the teacher is asked for, as a row."""

from dataclasses import replace

from arte_plugin.rows import Order, Question


def test_an_order_is_named_after_all_that_it_holds_and_its_turn():
    seed = Question("q1", "sums", "1 + 1", "2")
    order = Order("", "sums", "new_question", seeds=(seed,)).named()
    assert order == Order("", "sums", "new_question", seeds=(seed,)).named() == order.named()
    others = [
        order.named("1"),
        replace(order, notes=("carries",)).named(),
        replace(order, seeds=(replace(seed, target="3"),)).named(),
        replace(order, parent=seed).named(),
    ]
    assert len({order.order_id, *(one.order_id for one in others)}) == 5
