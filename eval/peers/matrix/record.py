"""The result as Markdown."""
import math


def p(row):
    """log10 of p under the key, and beside it under another one."""
    bits = row.get("keyBits")
    least = bits and row["pLog10"] < -bits * math.log10(2) + 0.01
    note = f" (floor; z {row['z']:.0f})" if least else ""
    return f"{row['pLog10']:.1f}{note} / {row['wrongKeyPLog10']:.2f}"


def markdown(result):
    words = []
    say = words.append
    say("# Who reads whose mark\n")
    say(f"`{result['command']}` at commit `{(result['commit'] or 'unknown')[:12]}`{' with uncommitted changes' if result['dirty'] else ''}, "
        f"{result['date']}: {len(result['texts'])} texts, {result['secondsWriting']} s of writing and {result['secondsReading']} s of "
        f"reading on {result['machine']} (shared, so read the seconds with care).\n")
    say("Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items()) + ".\n")
    say(f"All write with {result['model']}, {result['answers']} answers of {result['tokensAsked']} tokens (ours end earlier if the "
        "model does), at temperature 1. **Each cell is log10 p under the key / under one other key.** Both keys are derived from "
        "master keys of this toolkit, engines' integers included. H0: text and key are independent. `watermark detect` "
        "tests all answers as one exhibit and counts each cell once; p is exact or an upper bound, and never below 2^-b for a "
        "function of b bits of key, where an engine's own reader goes on: then `floor`, and z in its place. How each other reader "
        "was asked stands below. No code of an engine is re-implemented here: where the engine itself cannot run, its package's "
        "functions run in a plain loop, or the row says `not run`.\n")
    marks = list(dict.fromkeys(row["mark"] for row in result["matrix"]))
    for mark in marks:
        rows = [row for row in result["matrix"] if row["mark"] == mark]
        readers = list(dict.fromkeys(row["reader"] for row in rows))
        say(f"## {mark}\n")
        say("| writer | " + " | ".join(readers) + " | scored of tokens | how it was written |")
        say("|---|" + "---:|" * len(readers) + "---:|---|")
        for writer in dict.fromkeys(row["writer"] for row in rows):
            own = {row["reader"]: row for row in rows if row["writer"] == writer}
            first = next(iter(own.values()))
            cells = [p(own[reader]) if reader in own else "not run" for reader in readers]
            say(f"| {writer} | " + " | ".join(cells) + f" | {first['scored']} of {first['tokens']} | {first['written']} |")
        say("")
    for one in result["together"]:
        say("## One call for several engines\n")
        say(f"The same profile and key file in {len(one['writers'])} programs, their bare texts, one call:\n")
        say(f"    {one['command']}\n")
        say("| writer | answers found (p < 1e-5) | log10 p of an answer: best, worst |\n|---|---:|---:|")
        for row in one["writers"]:
            say(f"| {row['writer']} | {row['found']} of {row['answers']} | {row['best']:.1f}, {row['worst']:.1f} |")
        say(f"\nAll together: {p(one)}, {one['scored']} cells.\n")
    if result["same"]:
        say("## The same text\n")
        say("Under one key and one seed of the rest, these wrote the same answers, token for token:\n")
        for one in result["same"]:
            say(f"- {one['mark']}: {' and '.join(one['writers'])}, {one['answers']} of {result['answers']} answers")
        say("")
    wrong = result["wrongKeys"]
    say("## More wrong keys\n")
    say(f"Each text under {wrong['each']} keys that nobody used (wheel, `Detector`): {wrong['looks']} p-values, smallest "
        f"log10 p {wrong['least']:.2f}; {wrong['below2']} are at most 0.01 ({wrong['expected2']:.1f} expected if exact, at most "
        f"{wrong['allowed2']} allowed), {wrong['below3']} at most 0.001 (at most {wrong['allowed3']} allowed). Allowed is the "
        "binomial quantile at 1 - 1e-3: sizes that are 1.3 times (0.01) or 2 times (0.001) too large would be seen.")
    say(f"The wheel's p under the key equals the command's in {wrong['equal']} of {wrong['compared']} texts, to 1e-9 of its logarithm.\n")
    say("## Not run\n\n| what | why |\n|---|---|")
    for row in result["notRun"]:
        say(f"| {', '.join(row[name] for name in ('writer', 'reader', 'mark') if name in row)} | {row['why']} |")
    say("\n## How the readers were asked\n\n| reader | marks | how |\n|---|---|---|")
    for reader in dict.fromkeys(row["reader"] for row in result["matrix"]):
        rows = [row for row in result["matrix"] if row["reader"] == reader]
        for how in dict.fromkeys(row["read"] for row in rows):
            of = ", ".join(dict.fromkeys(row["mark"] for row in rows if row["read"] == how))
            say(f"| {reader} | {'all' if reader == 'watermark detect' else of} | {how} |")
    return "\n".join(words) + "\n"
