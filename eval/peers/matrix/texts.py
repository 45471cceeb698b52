"""Written texts, kept in the scratch directory so that a run that was ended goes on."""
import hashlib
import json
import os
import re
import time

from matrix.model import PROMPTS


class Text:
    """What one writer wrote: token ids without the prompt, one list an answer."""

    def __init__(self, writer, mark, how, answers, seconds):
        self.writer, self.mark, self.how, self.seconds = writer, mark, how, seconds
        self.answers = [list(map(int, answer)) for answer in answers]

    @property
    def tokens(self):
        return sum(map(len, self.answers))

    def slug(self):
        return slug(self.writer, self.mark)


def slug(writer, mark):
    return re.sub(r"[^a-z0-9.]+", "-", f"{writer} {mark}".lower()).strip("-")


def replace(path, text):
    """The file has the old content or the new, never a part."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


class Shelf:
    """One file a text. `stamp(writer)` names what it was written with: another build or setting makes it anew."""

    def __init__(self, folder, stamp):
        self.folder, self.stamp = folder, stamp
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, writer, mark, how, make):
        """The text, and whether it was there."""
        path = self.folder / f"{slug(writer, mark)}.json"
        recipe = hashlib.sha256(json.dumps([writer, mark, how, PROMPTS, self.stamp(writer)]).encode()).hexdigest()
        if path.exists() and (kept := json.loads(path.read_text()))["recipe"] == recipe:
            return Text(writer, mark, how, kept["answers"], kept["seconds"]), True
        began = time.time()
        text = Text(writer, mark, how, make(), 0)
        text.seconds = round(time.time() - began)
        replace(path, json.dumps({"recipe": recipe, "writer": writer, "mark": mark, "seconds": text.seconds,
                                  "answers": text.answers}))
        return text, False
