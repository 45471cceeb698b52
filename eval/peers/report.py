"""The result as Markdown and as a figure."""
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt


def number(value):
    """Three significant digits, with thousands separated."""
    if value >= 100:
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def spread(values):
    return f"{number(values['q1'])} to {number(values['q3'])}"


def markdown(result):
    machine, words = result["machine"], []
    say = words.append
    say("# Peers and this toolkit, timed in one run\n")
    say(f"`eval/peers/run{' --quick' if result['quick'] else ''}` at commit `{(result['commit'] or 'unknown')[:12]}`"
        f"{' with uncommitted changes' if result['dirty'] else ''}: {result['rounds']} interleaved rounds, CPU time, one "
        "thread, batch of one, median and quartiles over rounds. The ratio is taken within a round, then its median. "
        "[How, and what is fair](../peers/README.md).\n")
    say(f"{machine['cpu']} (family {machine['family']}, model {machine['model']}; {', '.join(machine['vector'])}), "
        f"{machine['cores']} cores, {machine['memoryGiB']} GiB, {machine['system']}, Python {machine['python']}, "
        f"{machine['rustc']}; load average {result['loadAverage'][0]} to {result['loadAverage'][1]}: quote the ratios.\n")
    say("Versions: " + ", ".join(f"{name} {version}" for name, version in result["versions"].items()) + ".\n")
    if result["oursProblem"]:
        say(f"**Our own command failed: {result['oursProblem']}. Ratios are of the rounds before, if any.**\n")
    for operation in result["operations"]:
        rows = [row for row in result["rows"] if row["operation"] == operation["id"]]
        if not rows:
            continue
        reads = operation["unit"] == "tok/s"
        say(f"## {operation['title']}\n")
        say(f"| | {'tokens a CPU second' if reads else 'us'} | quartiles | times slower than ours |"
            + (" gives | tokens |" if reads else ""))
        say("|---|---:|---:|---:|" + ("---|---:|" if reads else ""))
        own = result["ours"].get(operation["ours"])
        if isinstance(own, dict):
            say(f"| **watermark** | {number(own['median'])} | {spread(own)} | 1 |" + (" exact p | |" if reads else ""))
        timed = [row for row in rows if "notRun" not in row]
        timed.sort(key=lambda row: row["median"], reverse=reads)
        for row in timed:
            ratio, tokens = row.get("timesSlower"), row.get("tokens")
            say(f"| {row['peer']}: {row['setting']} | {number(row['median'])} | {spread(row)} | "
                f"{number(ratio['median']) if ratio else 'not known'} |"
                + (f" {row['gives']} | {tokens:,} |" if tokens else f" {row['gives']} | |" if reads else ""))
        for row in rows:
            if "notRun" in row:
                say(f"| {row['peer']}: {row['setting']} | not run: {row['notRun']} | | |" + (" | |" if reads else ""))
        say("")
    say("## Not run\n\n| peer | what | why |\n|---|---|---|")
    for row in result["unavailable"]:
        say(f"| {row['peer']} | {row['what']} | {row['reason']} |")
    others = {key: value for key, value in result["ours"].items()
              if key not in {operation["ours"] for operation in result["operations"]}}
    if others:
        say("\n## Ours, for orientation\n\n| | |\n|---|---:|")
        for key, value in others.items():
            say(f"| `{key}` | {number(value['median']) if isinstance(value, dict) else value} |")
    return "\n".join(words) + "\n"


def figure(result, path):
    """One bar a case: how many times the CPU time of ours, on a log scale."""
    groups = []
    for operation in result["operations"]:
        rows = [row for row in result["rows"] if row["operation"] == operation["id"] and "timesSlower" in row]
        if rows:
            groups.append((operation, sorted(rows, key=lambda row: row["timesSlower"]["median"])))
    if not groups:
        path.unlink(missing_ok=True)
        return
    plt.rcParams.update({"svg.hashsalt": "peers", "svg.fonttype": "none", "font.size": 8, "font.family": "sans-serif"})
    count = sum(len(rows) + 1.6 for _, rows in groups)
    drawn, axes = plt.subplots(figsize=(9.5, 0.19 * count + 0.8))
    y, largest = 0.0, max(row["timesSlower"]["median"] for _, rows in groups for row in rows)
    ticks, labels = [], []
    for operation, rows in groups:
        axes.text(0, y, operation["title"], transform=axes.get_yaxis_transform(), weight="bold", va="center", fontsize=8)
        y += 1
        for row in rows:
            ratio = row["timesSlower"]
            low, high = sorted((1.0, ratio["median"]))
            axes.barh(y, high - low, left=low, height=0.72, color="#4c78a8" if ratio["median"] >= 1 else "#e45756")
            axes.plot([ratio["q1"], ratio["q3"]], [y, y], color="black", linewidth=0.8)
            axes.text(max(high, ratio["q3"]) * 1.1, y, number(ratio["median"]), va="center", fontsize=7)
            ticks.append(y)
            labels.append(f"{row['peer']}: {row['setting']}")
            y += 1
        y += 0.6
    axes.set_yticks(ticks, labels, fontsize=7)
    axes.set_ylim(y, -1)
    axes.set_xscale("log")
    smallest = min(row["timesSlower"]["median"] for _, rows in groups for row in rows)
    axes.set_xlim(min(0.5, smallest / 2), largest * 4)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("CPU time as a multiple of ours (1: as fast; red: faster than ours; line: quartiles over rounds)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    drawn.tight_layout()
    drawn.savefig(path, metadata={"Date": None})
    plt.close(drawn)
