"""A transformers model on this machine as a writer: our code writes the JSON, the model only what is in
quotes.

Each text is begun with the template's words, so that its attributes are said whatever the model adds, and
ends at the first quote or at its budget of tokens. The reply is checked like anybody's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from counterpoise.errors import UsageError
from counterpoise.scenes.templates import Task, template_words
from counterpoise.scenes.writing import WriterProblem

# What a small model goes on from: the form, and that a text ends with what somebody does.
_EXAMPLES = """{"scene": "three people, a kitchen, in morning light", "phrase": "a person, cook, stirring"}
{"scene": "two people, a park, under tall trees", "phrase": "a person, gardener, watering the flowers"}
{"scene": "four people, a concert hall, on a stage", "phrase": "a person, musician, playing the violin"}
"""
_KEPT = frozenset(
    ("a", "an", "the", "in", "with", "without", "of", "people", "person", "any", "garment", "id", "scene")
)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ,'-")


@final
@dataclass(frozen=True, slots=True)
class LocalModel:
    """A folder with a causal language model (safetensors or one GGUF file). tokens: the most added to a
    text.
    """

    folder: Path
    tokens: int = 12
    _loaded: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    def reply(self, task: Task, *, problem: tuple[str, str] | None) -> str:
        """A JSON text that always has the right form; WriterProblem where the model cannot be loaded or
        run.
        """
        try:
            return self._filled(task, problem)
        except (OSError, ValueError, RuntimeError, ImportError, KeyError) as error:
            raise WriterProblem(f"the local model {self.name} cannot be used ({error})") from None

    def _filled(self, task: Task, problem: tuple[str, str] | None) -> str:
        draft = template_words(task)
        banned = self._banned(task, problem)
        # The number of people is code's, the rest of the scene is the model's to go on with.
        scene = self._text(f'{_EXAMPLES}{{"scene": ', draft.scene, banned)
        people: list[dict[str, str]] = []
        for slot in task.slots:
            before = f'{_EXAMPLES}{{"scene": {json.dumps(scene)}, "phrase": '
            people.append({"id": slot.id, "phrase": self._text(before, draft.phrases[slot.id], banned)})
        return json.dumps({"scene": scene, "negative": draft.negative, "people": people})

    def _banned(self, task: Task, problem: tuple[str, str] | None) -> list[list[int]]:
        """Tokens of words that would say something of a person, and, at a second try, of what was refused."""
        vocabulary = task.vocabulary
        phrases = [
            phrase for axis in vocabulary.axes.values() for said in axis.values.values() for phrase in said
        ]
        phrases += [
            term
            for terms in (*vocabulary.forbidden.values(), *vocabulary.pronouns.values())
            for term in terms
        ]
        if problem is not None:
            phrases.append(problem[0])
        words = {word.strip("'-") for phrase in phrases for word in re.findall(r"[A-Za-z'-]+", phrase)}
        tokenizer = self._parts()["tokenizer"]
        spelt = {
            f"{space}{form}"
            for word in words - _KEPT
            if word
            for form in (word, word.capitalize())
            for space in (" ", "")
        }
        return [
            ids for form in sorted(spelt) if (ids := tokenizer(form, add_special_tokens=False)["input_ids"])
        ]

    def _text(self, before: str, begun: str, banned: list[list[int]]) -> str:
        """`begun` and what the model writes after it, up to a quote or a second clause."""
        import torch
        from transformers import LogitsProcessorList

        parts = self._parts()
        tokenizer, model = parts["tokenizer"], parts["model"]
        ids = tokenizer(f'{before}"{begun},', return_tensors="pt")["input_ids"]
        with torch.no_grad():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.tokens,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id,
                eos_token_id=[*parts["closing"], tokenizer.eos_token_id],
                bad_words_ids=banned,
                logits_processor=LogitsProcessorList([parts["mask"]]),
            )
        added = tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).split('"')[0]
        # The first clause: a budget that ends inside a word would leave half of it.
        clause = (
            " ".join(added.partition(",")[0].split())
            if "," in added or len(made[0]) - len(ids[0]) < self.tokens
            else ""
        )
        return f"{begun}, {clause}".rstrip(" ,-'")

    def _parts(self) -> dict[str, Any]:
        if not self._loaded:
            self._loaded.update(_load(self.folder))
        return self._loaded


def local_model(folder: Path) -> LocalModel:
    """The writer for a folder; UsageError E_SCENE_LLM where there is no folder. Loaded when it first
    writes.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of a language model (--local-llm)", code="E_SCENE_LLM")
    return LocalModel(folder)


def _load(folder: Path) -> dict[str, Any]:
    """Tokenizer, model, and which tokens may stand in a text: letters and commas, and those that end it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = sorted(folder.glob("*.gguf"))
    if len(gguf) > 1:
        raise ValueError(f"{len(gguf)} GGUF files: expected one")
    where: dict[str, Any] = {"gguf_file": gguf[0].name} if gguf else {}
    # Never code from the folder, never the network.
    safe: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **where, **safe)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **where, **safe).eval()
    size = model.get_output_embeddings().weight.shape[0]
    texts = [tokenizer.decode([i]) for i in range(min(size, len(tokenizer)))]
    closing = [i for i, text in enumerate(texts) if text.startswith('"')]
    allowed = torch.zeros(size, dtype=torch.bool)
    allowed[[i for i, text in enumerate(texts) if text and set(text) <= _LETTERS]] = True
    allowed[closing] = True
    return {"tokenizer": tokenizer, "model": model, "closing": closing, "mask": _only(allowed)}


def _only(allowed: Any) -> Any:
    """A logits processor that leaves only the allowed tokens [vocabulary, bool] a chance."""
    from transformers import LogitsProcessor

    @final
    class Only(LogitsProcessor):
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return scores.masked_fill(~allowed, float("-inf"))

    return Only()
