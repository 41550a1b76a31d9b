"""Functions written where they are called: when, and that nothing else comes of it."""

from __future__ import annotations

import textwrap

import pytest

from flambeau.eject.inlining import shortened


def short(text: str, *kept: str) -> str:
    return shortened(textwrap.dedent(text).lstrip(), kept).strip()


def test_an_expression_stands_where_it_was_called() -> None:
    made = short(
        """
        def half(x):
            return x + 1 / 2


        def f(values):
            return 3 * half(values[0])
        """
    )
    assert made == "def f(values):\n    return 3 * (values[0] + 1 / 2)"


def test_statements_come_with_what_their_docstring_says() -> None:
    made = short(
        """
        def scaled(values, by):
            \"\"\"The values made smaller.\"\"\"
            largest = max(values)
            return [by * value / largest for value in values]


        def f(values):
            values = scaled(values, by=2)
            return sum(values)
        """
    )
    assert made == (
        "def f(values):\n    # The values made smaller.\n    largest = max(values)\n"
        "    values = [2 * value / largest for value in values]\n    return sum(values)"
    )


@pytest.mark.parametrize("asked", ['getattr(net, "features", None)', 'hasattr(net, "features")'])
def test_a_method_that_is_asked_for_by_its_name_stays(asked: str) -> None:
    text = (
        "class Net:\n    def features(self, x):\n        return x + 1\n\n    def forward(self, x):\n"
        f"        return 2 * self.features(x)\n\n\ndef run(net, x):\n    return net.forward(x), {asked}"
    )
    assert short(text, "run") == text
    assert "def features" not in short(text.replace(f", {asked}", ""), "run")


@pytest.mark.parametrize(
    ("helper", "caller"),
    [
        ("def g(x):\n    y = x + 1\n    return y * y", "def f(x, y):\n    z = g(x)\n    return z + y"),  # y is taken
        ("def g(x):\n    return x * x", "def f(draw):\n    return [g(draw()) for _ in 'ab']"),  # would draw twice
        ("def g(x):\n    return start() + x", "def f(draw):\n    return end() - g(draw())"),  # would start first
        ("def g(x):\n    return x + 1", "def f(x):\n    return g(x) + g(2)"),  # called twice
        ("def g(n):\n    return lambda x: x + n", "def f(n):\n    h = g(n)\n    n = 3\n    return h(n)"),  # n changes
        ("def g(x):\n    if x:\n        return 1\n    return 2", "def f(x):\n    return g(x)"),  # two ways out
        ("def g(x):\n    y = max(x)\n    return y", "def f(x):\n    return x and g(x)"),  # not always called
        ("def g(x):\n    return x + 1", "def f(x):\n    return map(g, x)"),  # not called here
    ],
)
def test_a_function_stays_where_it_would_mean_something_else(helper: str, caller: str) -> None:
    text = f"{helper}\n\n\n{caller}"
    assert short(text) == text


def test_what_is_computed_first_stays_first() -> None:
    made = short("def g(x):\n    return start() + x * x\n\n\ndef f(draw):\n    return 2 * g(draw())")
    assert made == "def f(draw):\n    x = draw()\n    return 2 * (start() + x * x)"


def test_what_is_changed_on_the_way_is_looked_up_before() -> None:
    made = short(
        """
        def g(state, rate):
            state["rate"] = 2
            return state["step"] * rate


        def f(state):
            return g(state, state["rate"])
        """
    )
    assert made.endswith('    rate = state["rate"]\n    state["rate"] = 2\n    return state["step"] * rate')


def test_a_text_of_several_lines_keeps_its_function() -> None:
    text = 'def g(x):\n    y = """a\n    b"""\n    return x + y\n\n\ndef f(x):\n    return g(x)'
    assert short(text) == text


def test_a_name_in_a_formatted_text_keeps_its_function() -> None:
    text = 'def g(name):\n    return f"{name}.gz"\n\n\ndef f(part):\n    return g(part + "s")'
    assert short(text) == text


def test_methods_that_nobody_calls_are_left_out() -> None:
    made = short(
        "class Net(nn.Module):\n    def forward(self, x):\n        return x\n\n    def idle(self):\n        pass"
    )
    assert made == "class Net(nn.Module):\n    def forward(self, x):\n        return x"


def test_a_function_that_is_to_stay_does() -> None:
    text = "def g(x):\n    return x + 1\n\n\ndef f(x):\n    return g(x)"
    assert short(text, "g") == text and short(text) == "def f(x):\n    return x + 1"


def test_a_method_that_one_other_calls_goes_into_it() -> None:
    made = short(
        """
        class Net:
            def forward(self, x):
                return self.outer(self.scaled(x))

            def scaled(self, x):
                return x / self.largest
        """
    )
    assert made == "class Net:\n    def forward(self, x):\n        return self.outer(x / self.largest)"


def test_a_loop_over_what_another_makes_is_one_loop() -> None:
    made = short(
        """
        def predict(model, batch):
            scores = model(batch)
            return {"score": scores, "probability": torch.softmax(scores, 1)}


        def f(model, rows):
            total = 0
            for outputs, batch in ((predict(model, batch), batch) for batch in (read(row) for row in rows)):
                total += outputs["score"] * len(batch)
            return total
        """
    )
    assert made == (
        "def f(model, rows):\n    total = 0\n    for row in rows:\n        batch = read(row)\n"
        "        scores = model(batch)\n        total += scores * len(batch)\n    return total"
    )


def test_entries_of_a_dictionary_that_nobody_asks_for_are_left_out() -> None:
    made = short(
        """
        def f(model, batch):
            outputs = {"score": model(batch), "probability": torch.softmax(batch, 1)}
            return outputs["score"].sum() + outputs["score"].max()
        """
    )
    assert made == "def f(model, batch):\n    score = model(batch)\n    return score.sum() + score.max()"
