"""The Dockerfile parser: lines, here-documents, forms of arguments, variables, stages, and errors with lines."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.errors import UsageError
from backends.native.build.changes import change, changes_of
from backends.native.build.dockerfile import DockerfileError, read
from backends.native.build.instruction import Instruction
from backends.native.build.stages import recipe
from backends.native.build.words import WordError, expand, expand_words


def parsed(text: str) -> list[Instruction]:
    return list(read(text.encode()).instructions)


def test_lines_are_joined_and_comments_between_them_left_out() -> None:
    text = "# syntax=docker/dockerfile:1\n\n# a comment\nfrom a\nRUN one \\\n  # not this\n\n  two \\\n  three\nCMD x\n"
    steps = parsed(text)
    assert [(step.keyword, step.line) for step in steps] == [("FROM", 4), ("RUN", 5), ("CMD", 10)]
    assert steps[1].words == ("one   two   three",)


def test_the_escape_directive_changes_what_joins_lines_and_what_escapes() -> None:
    file = read(b"# escape=`\nFROM a\nRUN dir `\n c:\\\nENV A=`$x B=$A\n")
    assert file.escape == "`"
    assert file.instructions[1].words == ("dir  c:\\",)
    assert change(file.instructions[2], {}, {"x": "no", "A": "old"}, file.escape) == {"Env": ["A=$x", "B=old"]}


def test_a_directive_after_a_comment_is_a_comment() -> None:
    assert read(b"# hello\n# escape=`\nFROM a\n").escape == "\\"


@pytest.mark.parametrize(
    "text, line, says",
    [
        ("", 1, "no FROM"),
        ("RUN x\n", 1, "before any FROM"),
        ("FROM a\nFOO x\n", 2, "no instruction"),
        ("FROM a\n\n\nRUN\n", 4, "needs a command"),
        ("FROM a b\n", 1, "FROM needs"),
        ("FROM a AS 1x\n", 1, "name of a stage"),
        ("FROM a AS x\nFROM b AS X\n", 2, "taken"),
        ("FROM $X\n", 1, "names no image"),
        ("FROM a\nCOPY x\n", 2, "source and a destination"),
        ("FROM a\nCOPY --foo=1 x y\n", 2, "no option --foo"),
        ("FROM a\nCOPY --from x y\n", 2, "needs a value"),
        ("FROM a\nENV X\n", 2, "needs a value"),
        ("FROM a\nENV A=1 B\n", 2, "not NAME=VALUE"),
        ("FROM a\nSHELL sh\n", 2, "JSON"),
        ("FROM a\nONBUILD ONBUILD RUN x\n", 2, "cannot be"),
        ("FROM a\nONBUILD FROM x\n", 2, "cannot be"),
        ("FROM a\nHEALTHCHECK x\n", 2, "CMD and a command, or NONE"),
        ("FROM a\nRUN cat <<EOF\nx\n", 2, "does not end"),
        ("# escape=x\nFROM a\n", 1, "escape"),
        ("# escape=`\n# escape=`\nFROM a\n", 2, "twice"),
        ("FROM a\nRUN x\0y\n", 2, "NUL"),
    ],
)
def test_an_error_says_in_which_line_it_is(text: str, line: int, says: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        recipe(read(text.encode()), {}, {})
    assert caught.value.line == line
    assert says in caught.value.message


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    with pytest.raises(DockerfileError, match="line 2: it is not UTF-8"):
        read(b"FROM a\nRUN \xff\n")


def test_here_documents_end_at_their_names() -> None:
    steps = parsed("FROM a\nCOPY <<A <<-'B' /x/\none $V\nA\n\ttwo\n\tB\nRUN <<EOF cat\nx\nEOF\nCMD y\n")
    first, second = steps[1].heredocs
    assert (first.name, first.body, first.is_plain) == ("A", "one $V\n", False)
    assert (second.name, second.body, second.is_plain) == ("B", "two\n", True)
    assert steps[2].heredocs[0].body == "x\n"
    assert steps[3].keyword == "CMD"


def test_json_and_shell_forms_are_told_apart() -> None:
    steps = parsed('FROM a\nCMD ["a", "b c"]\nCMD [a, b]\nENTRYPOINT echo "$X"\nCOPY ["a b", "c d/"]\n')
    assert (steps[1].words, steps[1].is_json) == (("a", "b c"), True)
    assert (steps[2].words, steps[2].is_json) == (("[a, b]",), False)
    assert steps[3].words == ('echo "$X"',)
    assert steps[4].words == ("a b", "c d/")


@pytest.mark.parametrize(
    "text, value",
    [
        ("$A-${A}", "1-1"),
        ("${X:-d} ${X-d} ${E:-d} ${E-d}", "d d d "),
        ("${A:+y}${X:+n}${E:+n}${E+y}", "yy"),
        ('\\$A \'$A\' "$A" "\\$A"', "$A $A 1 $A"),
        ("a\\ b", "a b"),
        ("${X:-${Y:-deep}}", "deep"),
        ("$1$@$", "$"),
        ("${P#*/}|${P##*/}|${P%/*}|${P%%/*}", "b/c|c|a/b|a"),
        ("${P/\\//-}|${P//b/x}", "a-b/c|a/x/c"),
        ('"a\\b" \'it"s\'', 'a\\b it"s'),
        ("$A_$Ab", ""),
    ],
)
def test_variables_are_replaced_as_docker_does(text: str, value: str) -> None:
    assert expand(text, {"A": "1", "E": "", "P": "a/b/c"}) == value


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${A:x}", "'a", '"a', "${X:?gone}", "${A:-${B}"])
def test_words_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(WordError):
        expand(text, {"A": "1"})


def test_a_bomb_of_variables_is_refused() -> None:
    def explode() -> None:
        values = {"A0": "x" * 10}
        for depth in range(40):
            values[f"A{depth + 1}"] = expand(f"$A{depth}$A{depth}", values)

    with pytest.raises(WordError, match="longer than"):
        explode()
    with pytest.raises(WordError, match="deep"):
        expand("${X:-" * 5000 + "}" * 5000, {})


def test_variables_with_spaces_become_several_words_unless_quoted() -> None:
    assert expand_words('$P "$P" x', {"P": "80 81"}) == ["80", "81", "80 81", "x"]


def test_variables_of_an_instruction_are_those_before_it() -> None:
    step = parsed("FROM a\nENV abc=bye def=$abc\n")[1]
    assert change(step, {"Env": ["abc=hello"]}, {"abc": "hello"}) == {"Env": ["abc=bye", "def=hello"]}


def test_the_older_form_of_env_takes_the_rest_of_the_line() -> None:
    step = parsed("FROM a\nENV KEY a b  c\n")[1]
    assert change(step, {}, {}) == {"Env": ["KEY=a b  c"]}


def test_each_instruction_changes_its_key() -> None:
    texts = ['CMD ["a"]', "ENTRYPOINT run it", "EXPOSE 80 53/UDP 8000-8002", "LABEL a=b 'c d'=\"e f\"", "USER me:us",
             "WORKDIR /a/../b", "VOLUME /v /w", "STOPSIGNAL SIGINT",
             "HEALTHCHECK --interval=1m30s --retries=2 CMD true", "ONBUILD RUN x"]  # fmt: skip
    found, written = changes_of(texts, {})
    assert found == {
        "Cmd": ["a"], "Entrypoint": ["/bin/sh", "-c", "run it"],
        "ExposedPorts": {f"{port}": {} for port in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp")},
        "Labels": {"a": "b", "c d": "e f"}, "User": "me:us", "WorkingDir": "/b", "Volumes": {"/v": {}, "/w": {}},
        "StopSignal": "SIGINT",
        "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 90 * 10**9, "Retries": 2}, "OnBuild": ["RUN x"],
    }  # fmt: skip
    assert written == texts


@pytest.mark.parametrize("text", ["RUN x", "COPY a b", "FROM a", "EXPOSE x", "STOPSIGNAL FOO", "USER a b c",
                                  "HEALTHCHECK --interval=x CMD y", "NO"])  # fmt: skip
def test_what_cannot_be_a_change_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        changes_of([text], {})


def test_stages_that_a_target_does_not_need_are_left_out() -> None:
    text = """ARG V=1
ARG B=base:$V
FROM $B AS one
FROM scratch AS two
FROM one AS three
COPY --from=two /a /b
FROM three
COPY --from=0 /x /y
"""
    found = recipe(read(text.encode()), {"V": "2"}, {})
    assert [stage.base for stage in found.stages] == ["base:2", "scratch", "one", "three"]
    assert found.needed(found.target("one")) == [0]
    assert found.needed(found.target("three")) == [0, 1, 2]
    assert found.needed(found.target("")) == [0, 1, 2, 3]
    with pytest.raises(UsageError, match="no stage 'four'"):
        found.target("four")


_PIECES = st.sampled_from(["FROM a\n", "RUN ", "COPY ", "ENV ", "A=", "$A", "${", "}", ":-", "\\", "\n", "'", '"', "[",
                           "]", '"x"', ",", "<<E", "\nE\n", "--from=", "#", " ", "\t", "HEALTHCHECK ", "ONBUILD ", "é",
                           "ARG ", "EXPOSE ", "/", "*", "%", "VOLUME ", "LABEL ", "WORKDIR ", "AS x"])  # fmt: skip


@given(st.one_of(st.lists(_PIECES, max_size=40).map("".join), st.text(max_size=200)))
@settings(max_examples=300, deadline=None)
def test_any_text_is_parsed_or_refused_with_a_line(text: str) -> None:
    with suppress(UsageError):
        found = recipe(read(text.encode("utf-8", "replace")), {}, {})
        for stage in found.stages:
            changes_of([step.text for step in stage.steps], {})


def test_mutated_texts_are_taken_or_refused_with_one_line() -> None:
    from tests.tools.fuzz_dockerfiles import fuzz

    assert fuzz(seconds=10, seed=7, most=400) == []
