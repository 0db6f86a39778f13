"""The golden interactions: each story is played anew and must be drawn as its file has it."""

import difflib

import golden
import pytest


@pytest.mark.parametrize("name", golden.names())
def test_the_story_is_drawn_as_its_file_has_it(name: str) -> None:
    _, expected = golden.read(name)
    drawn = golden.play(name)
    if drawn != expected:
        lines = difflib.unified_diff(
            expected.splitlines(), drawn.splitlines(), f"golden/{name}.txt", "as it is drawn now", lineterm="", n=100
        )
        told = "\n".join(lines)
        pytest.fail(f"{told}\n\nIf that is how it shall be: tools/simulate --golden {name} --accept", pytrace=False)


def test_there_are_stories() -> None:
    assert len(golden.names()) > 12


def test_a_script_that_waits_for_what_never_comes_fails() -> None:
    with pytest.raises(golden.ScriptError, match="never came: log has Undo"):
        golden.Story(["terminal TERM0001 on b", "TERM0001 sends 0200", "wait until log has Undo"]).play()


def test_a_step_that_nobody_knows_fails() -> None:
    with pytest.raises(golden.ScriptError, match="nobody knows how to"):
        golden.Story(["terminal TERM0001 on b", "TERM0001 dances"]).play()
