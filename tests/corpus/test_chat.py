"""Which tokens of a conversation are the assistant's, with and without marks in the template."""

from __future__ import annotations

import pytest

from lorarank.corpus import tokenize
from lorarank.corpus.chat import tokenize_chats
from lorarank.corpus.documents import Document
from lorarank.errors import CorpusError

PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}" + PROMPT
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>\n{% endgeneration %}"
    "{% else %}{{ m['content'] }}<|im_end|>\n{% endif %}{% endfor %}" + PROMPT
)
CLOSED = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
THINKS_LAST = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if loop.last and m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}" + PROMPT
)
OPENS_A_THOUGHT = CHATML.replace("<|im_start|>assistant\n{% endif %}", "<|im_start|>assistant\n<think>\n{% endif %}")
SHOWS_NEW_THOUGHTS = (
    "{% set seen = namespace(asked=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set seen.asked = loop.index0 %}{% endif %}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] if loop.index0 > seen.asked else m['content'].split('</think>')[-1] }}"
    "{% for call in m['tool_calls'] or [] %}<call>{{ call.function.name }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
)
ASKS_FOR_A_THOUGHT = PROMPT.replace("assistant\n", "assistant\n<think>")
CLOSES_THE_LAST = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if loop.last and m['role'] == 'assistant' %}{{ eos_token }}{% else %}<|im_end|>{% endif %}{% endfor %}" + PROMPT
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}" + (
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
COUNTS_DOWN = CHATML.replace("<|im_start|>{{ m['role'] }}", "<|im_start|>{{ loop.revindex }} {{ m['role'] }}", 1)
LEAVES_OUT = CHATML.replace("{{ m['content'] }}", "{% for b in m['content'] %}{{ b['text'] }}{% endfor %}")


def chat(*turns, key="k", row=1, context=0, template=None):
    """``chat("u:hi", "a:hello")``; ``c:look`` is a call of the tool ``look`` after a thought, ``t:`` its answer."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}

    def message(turn):
        if turn[0] == "c":
            call = {"type": "function", "function": {"name": turn[2:], "arguments": {}}}
            return {"role": "assistant", "content": "<think>hm</think>", "tool_calls": [call]}
        return {"role": roles[turn[0]], "content": turn[2:]}

    messages = tuple(map(message, turns))
    return Document(key, "completion" if context else "messages", "", "", messages, row, context, template or {})


def targets(tokenizer, *documents, max_length=1000):
    """The runs of targets of each document, as text."""
    found = []
    for tokens in tokenize(documents, tokenizer, max_length=max_length).documents:
        runs, before = [], False
        for token, target in zip(tokens.input_ids, tokens.loss_mask, strict=True):
            if target:
                runs = [*runs, []] if not before else runs
                runs[-1].append(token)
            before = target
        found.append([tokenizer.decode(run) for run in runs])
    return found


CONVERSATIONS = [
    (("u:hi", "a:nine eggs é😀"), ["nine eggs é😀<|im_end|>\n"]),
    (("s:be kind", "u:hi", "a:nine"), ["nine<|im_end|>\n"]),
    (("u:hi", "a:hi", "u:hi", "a:hi\n\nhi"), ["hi<|im_end|>\n", "hi\n\nhi<|im_end|>\n"]),
    (("u:hi", "a: spaces ", "u:more"), [" spaces <|im_end|>\n"]),
    (("a:first", "u:hi", "a:second"), ["first<|im_end|>\n", "second<|im_end|>\n"]),
]


@pytest.mark.parametrize(("turns", "expected"), CONVERSATIONS)
@pytest.mark.parametrize("template", [CHATML, MARKED, {"default": CHATML, "other": "x"}])
@pytest.mark.parametrize("around", [None, "<bos> $A <eos>"])
def test_assistant_turns_are_targets(make_tokenizer, around, template, turns, expected):
    tokenizer = make_tokenizer(around, template)
    document = chat(*turns)
    assert targets(tokenizer, document) == [expected]
    [tokens] = tokenize([document], tokenizer, max_length=1000).documents
    assert tokenizer.decode(tokens.input_ids) == tokenizer.apply_chat_template(document.messages, tokenize=False)


@pytest.mark.parametrize(
    ("template", "turns", "expected"),
    [
        (CLOSED, ("u:hi", "a:one", "u:more", "a:two"), ["one<|im_end|>\n", "two<|im_end|>\n<eos>"]),
        (
            THINKS_LAST,
            ("u:hi", "a:one", "u:more", "a:two"),
            ["one<|im_end|>\n", "<think>\n\n</think>\n\ntwo<|im_end|>\n"],
        ),
        (
            THINKS_LAST,
            ("u:n?", "a:n", "u:end?", "a:end", "u:d?", "a:d"),
            ["n<|im_end|>\n", "end<|im_end|>\n", "<think>\n\n</think>\n\nd<|im_end|>\n"],
        ),
        (
            SHOWS_NEW_THOUGHTS + PROMPT,
            ("u:hi", "a:<think>hm</think>one", "u:more", "a:<think>ha</think>two"),
            ["one<|im_end|>\n", "<think>ha</think>two<|im_end|>\n"],
        ),
        (
            SHOWS_NEW_THOUGHTS + ASKS_FOR_A_THOUGHT,
            ("u:hi", "a:<think>hm</think><table>", "u:more", "a:<think>ha</think>two"),
            ["<table><|im_end|>\n", "ha</think>two<|im_end|>\n"],
        ),
        *(
            (
                SHOWS_NEW_THOUGHTS + prompt,
                ("u:hi", "c:look", "t:3", "a:<think>ha</think>two", "u:more", "c:wait", "t:4", "a:five"),
                [
                    "<call>look</call><|im_end|>\n",
                    "two<|im_end|>\n",
                    thought + "hm</think><call>wait</call><|im_end|>\n",
                    "five<|im_end|>\n",
                ],
            )
            for prompt, thought in ((PROMPT, "<think>"), (ASKS_FOR_A_THOUGHT, ""))
        ),
        (CLOSES_THE_LAST, ("u:hi", "a:one", "u:more", "a:two"), ["one<|im_end|>", "two<eos>"]),
        (CLOSES_THE_LAST, ("u:hi", "a:one", "u:more"), ["one<|im_end|>"]),
        (OPENS_A_THOUGHT, ("u:hi", "a:one"), ["one<|im_end|>\n"]),
        (OPENS_A_THOUGHT, ("u:hi", "a:<think>\nhm"), ["hm<|im_end|>\n"]),
        (PLAIN, ("u:hi", "a:nine eggs", "u:more", "a:two"), [" nine eggs\n", " two\n"]),
    ],
)
def test_templates_of_many_habits(make_tokenizer, template, turns, expected):
    assert targets(make_tokenizer(None, template), chat(*turns)) == [expected]


class Slow:
    """A tokenizer that does not tell where in the text its tokens lie."""

    is_fast = False

    def __init__(self, fast):
        self.fast = fast

    def __call__(self, *args, **options):
        assert "return_offsets_mapping" not in options
        return self.fast(*args, **options)

    def __getattr__(self, name):
        return getattr(self.fast, name)


@pytest.mark.parametrize("template", [CHATML, MARKED])
def test_a_tokenizer_without_offsets_gives_the_same(make_tokenizer, template):
    fast = make_tokenizer(None, template)
    documents = [chat(*turns) for turns, _ in CONVERSATIONS]
    for first, second in zip(tokenize_chats(documents, fast), tokenize_chats(documents, Slow(fast)), strict=True):
        assert first.ids.tolist() == second.ids.tolist()
        assert first.mask.tolist() == second.mask.tolist()


def test_a_conversational_completion_trains_on_all_that_follows_the_prompt(make_tokenizer):
    tokenizer = make_tokenizer(None, CHATML)
    first = chat("u:hi", "a:no target", "u:more", "a:one", context=3)
    second = chat("u:hi", "a:one", "u:more", "a:two", context=1)
    expected = ["one<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n"]
    assert targets(tokenizer, first, second) == [["one<|im_end|>\n"], expected]


def test_rows_with_template_arguments_of_their_own(make_tokenizer):
    tokenizer = make_tokenizer(None, "{{ tools[0] if tools else 'none' }}\n" + CHATML)
    tool = {"type": "function", "function": {"name": "f"}}
    documents = [chat("u:hi", "a:one"), chat("u:hi", "a:two", template={"tools": [tool]}), chat("u:hi", "a:three")]
    texts = [tokenizer.decode(encoded.ids) for encoded in tokenize_chats(documents, tokenizer)]
    assert [text.startswith("none\n") for text in texts] == [True, False, True]
    assert targets(tokenizer, *documents) == [["one<|im_end|>\n"], ["two<|im_end|>\n"], ["three<|im_end|>\n"]]


def test_a_long_conversation_is_cut_at_its_end(make_tokenizer):
    tokenizer = make_tokenizer(None, CHATML)
    document = chat("u:hi", "a:nine", "u:more", "a:eggs")
    [whole] = tokenize_chats([document], tokenizer)
    result = tokenize([document], tokenizer, max_length=len(whole.ids) - 3)
    assert result.documents[0].input_ids.tolist() == whole.ids[:-3].tolist()
    assert result.truncated == 1


def test_a_long_question_is_cut_before_the_first_answer(make_tokenizer):
    tokenizer = make_tokenizer(None, CHATML)
    document = chat("u:" + "hi " * 40, "a:nine", "u:more", "a:eggs")
    assert targets(tokenizer, document, max_length=20) == [["nine<|im_end|>\n"]]
    [tokens] = tokenize([document], tokenizer, max_length=20).documents
    assert len(tokens.input_ids) == 20
    assert targets(tokenizer, document, max_length=2) == [["n"]]  # a token of the prompt, one of the answer


@pytest.mark.parametrize(
    ("template", "document", "where", "what"),
    [
        (None, chat("u:hi", "a:one"), "tokenizer", "no chat template"),
        ({"tool_use": CHATML}, chat("u:hi", "a:one"), "tokenizer", "no chat template"),
        (COUNTS_DOWN, chat("u:hi", "a:one", row=4), "row 4", "renders turn 2 differently"),
        (LEAVES_OUT, chat("u:hi", "a:one", row=4), "row 4", "leaves out what the assistant says"),
        (LEAVES_OUT, chat("u:hi", "a:one", row=4, context=1), "row 4", "leaves out what the assistant says"),
        (
            "{{ raise_exception('roles must alternate') }}",
            chat("u:hi", "a:one", row=4),
            "row 4",
            "does not accept this conversation (roles must alternate)",
        ),
    ],
)
def test_templates_that_cannot_be_used(make_tokenizer, template, document, where, what):
    with pytest.raises(CorpusError) as caught:
        tokenize([document], make_tokenizer(None, template), max_length=100)
    assert caught.value.where == where
    assert what in str(caught.value)


def test_what_is_in_blocks_already_is_not_told_to_be(make_tokenizer):
    turns = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": [{"type": "text", "text": "one"}]})
    document = Document("k", "messages", "", "", turns, 1)
    leaves_out = CHATML.replace("{{ m['content'] }}", "{{ m['content'] if m['content'] is string }}")
    with pytest.raises(CorpusError, match=r"leaves out what the assistant says\. Use another template\.$"):
        tokenize([document], make_tokenizer(None, leaves_out), max_length=100)


def test_the_first_conversation_a_template_refuses_is_named(make_tokenizer):
    template = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    documents = [chat("u:hi", "a:one", row=1), chat("s:x", "u:hi", "a:one", row=2), chat("s:y", "u:hi", "a:b", row=3)]
    with pytest.raises(CorpusError, match=r"row 2: .*\(no system\)"):
        tokenize(documents, make_tokenizer(None, template), max_length=100)
