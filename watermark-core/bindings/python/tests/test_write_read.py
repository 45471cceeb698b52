"""What was written is found, under its key alone; a batch is its rows."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import KEY, MASTER_LINE, OTHER_KEY, flat_model, scheme, write
from watermark import Coins, Detector, Pool, Session, built_in_profiles, distill, sample_rows

RNG = np.random.default_rng(7)


@pytest.mark.parametrize("profile", built_in_profiles())
def test_a_mark_is_found_and_no_other_key_finds_it(profile: str) -> None:
    """H0: text and key independent. The right key must reach p < 1e-20. A wrong key has one look at alpha 1e-4, eight
    in all: a false alarm in 1 of 1250 choices of seeds, and seeds are fixed."""
    text = write(profile, 600)
    detector = Detector(scheme(profile))
    detector.push(text)
    found = detector.result()
    assert found.log10_p < -20 and found.verdict == "rejected"
    other = Detector(scheme(profile, OTHER_KEY))
    other.push(text)
    assert other.result().log10_p > -4
    assert other.result().verdict == "not-rejected"


def test_results_are_numbers_and_never_zero() -> None:
    detector = Detector(scheme())
    empty = detector.result()
    assert (empty.n_scored, empty.ln_p, empty.p, empty.verdict) == (0, 0.0, "1.00", "insufficient-evidence")
    detector.push(write("gumbel-dual-h2", 2000))
    far = detector.result()
    assert far.log10_p < -308 and np.isfinite(far.ln_p)
    assert far.ln_p == pytest.approx(far.log10_p * np.log(10))
    assert far.p.startswith("10^-") and far.headline == "p < 1e-9"
    assert "p=10^-" in repr(far) and "p=0" not in repr(far)
    # E is about 1 / p, less the price of any look.
    assert 100 < far.log10_e < -far.log10_p
    assert far.counts["tokens"] == 2000
    with pytest.raises(AttributeError):
        far.verdict = "not-rejected"  # type: ignore[misc]


def test_a_detector_takes_a_text_in_parts_and_leaves_prompts_out() -> None:
    text = write("greenlist-h1", 900)
    whole = Detector(scheme("greenlist-h1"))
    for part in np.split(text, 3):
        whole.push(part)
    looks = Detector(scheme("greenlist-h1"))
    for part in np.split(text, 3):
        looks.push(part.tolist())
        looks.result()
    assert whole.result().to_dict() == looks.result().to_dict()
    prompted = Detector(scheme("greenlist-h1"))
    prompted.exclude(text)
    prompted.push(text)
    assert prompted.result().n_scored == 0
    with pytest.raises(ValueError, match="before the first push"):
        prompted.exclude(text)


def test_special_tokens_part_a_text_for_writer_and_reader() -> None:
    profile = dict(scheme("greenlist-h2").profile, special_tokens=[7])
    from watermark import Scheme

    parted = Scheme(profile, slot_key=KEY)
    session = Session(parted)
    for token in (1, 2, 7):
        session.accept(token, "marked")
    assert session.window is None
    detector = Detector(parted)
    detector.push([1, 2, 3, 7, 3, 4, 5, 6])
    # Cells (1 2) 3, (3 4) 5 and (4 5) 6: no window crosses the special token, which counts nowhere.
    assert detector.result().n_scored == 3


def test_an_enforced_mark_cannot_be_switched_off() -> None:
    from watermark import Scheme

    session = Session(Scheme(dict(scheme("gumbel-h2").profile, enforced=True), slot_key=KEY))
    with pytest.raises(ValueError, match="enforced"):
        session.enabled = False
    with pytest.raises(ValueError, match="enforced"):
        session.budget = 3
    assert session.enabled and session.budget is None


@pytest.mark.parametrize("profile", ["greenlist-h1", "greenlist-h4", "selfhash-h4"])
def test_bias_is_the_mask_times_delta_in_any_memory_order(profile: str) -> None:
    marked = scheme(profile)
    vocabulary, rows = 1000, 5
    windows = RNG.integers(0, vocabulary, (rows, marked.context_width)).astype(np.uint32)
    masks = marked.fill_masks(windows, vocabulary)
    assert masks.shape == (rows, 32) and masks.dtype == np.uint32
    green = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little").astype(bool)
    assert not green[:, vocabulary:].any()
    # Binomial(5000, 1/4) outside of 4 standard deviations has probability 6e-5; seeds are fixed.
    assert abs(green.sum() - 1250) < 4 * np.sqrt(5000 * 3 / 16)
    plain = RNG.normal(size=(rows, vocabulary)).astype(np.float32)
    expected = plain + np.float32(marked.delta or 0) * green[:, :vocabulary]

    arrays = {
        "rows": plain.copy(),
        "columns": np.asfortranarray(plain),
        "every other": np.repeat(plain, 2, axis=1)[:, ::2],
        "cut": np.pad(plain, ((0, 0), (0, 24)))[:, :vocabulary],
        "backwards": plain[::-1].copy()[::-1],
    }
    for name, logits in arrays.items():
        marked.bias_(logits, windows)
        np.testing.assert_array_equal(logits, expected, err_msg=name)
    pooled = plain.copy()
    marked.bias_(pooled, windows, pool=Pool(2))
    np.testing.assert_array_equal(pooled, expected)
    alone = plain.copy()
    for row in range(rows):
        marked.bias_(alone[row : row + 1], windows[row : row + 1])
    np.testing.assert_array_equal(alone, expected)

    out = np.zeros((rows, 32), dtype=np.uint32)
    assert marked.fill_masks(windows, vocabulary, out=out) is out
    np.testing.assert_array_equal(out, masks)
    wide = np.ones((rows, 64), dtype=np.uint32)
    marked.fill_masks(windows, vocabulary, out=wide[:, ::2])
    np.testing.assert_array_equal(wide[:, ::2], masks)
    assert (wide[:, 1::2] == 1).all()


def test_ids_of_any_integer_type_are_the_same_ids() -> None:
    marked = scheme("greenlist-h2")
    windows = RNG.integers(0, 100, (3, 2))
    expected = marked.fill_masks(windows.astype(np.uint32), 100)
    for form in (windows, windows.astype(np.int32), windows.astype(">u2"), windows.tolist(), np.asfortranarray(windows)):
        np.testing.assert_array_equal(marked.fill_masks(form, 100), expected)
    unaligned = np.frombuffer(b"\0" + windows.astype("<u4").tobytes(), dtype="<u4", offset=1).reshape(3, 2)
    np.testing.assert_array_equal(marked.fill_masks(unaligned, 100), expected)


@pytest.mark.parametrize("profile", ["greenlist-h1", "gumbel-h2", "gumbel-dual-h2", "tournament-h2"])
def test_selection_of_a_batch_is_that_of_its_rows(profile: str) -> None:
    marked = scheme(profile)
    rows = 6
    windows = RNG.integers(0, 1000, (rows, marked.context_width)).astype(np.uint32)
    weights = RNG.exponential(size=(rows, 50)).astype(np.float32)
    tokens = np.stack([RNG.permutation(1000)[:50] for _ in range(rows)]).astype(np.uint32)
    together = marked.select(weights, windows, Coins(3), tokens=tokens)
    coins = Coins(3)
    alone = [
        int(marked.select(weights[i : i + 1], windows[i : i + 1], coins, tokens=tokens[i : i + 1])[0]) for i in range(rows)
    ]
    assert together.tolist() == alone
    strided = np.repeat(weights, 2, axis=1)[:, ::2]
    assert marked.select(strided, windows, Coins(3), tokens=tokens).tolist() == alone
    # The same candidates in another order are the same tokens, where nothing is drawn.
    if profile == "gumbel-h2":
        order = RNG.permutation(50)
        other = marked.select(weights[:, order], windows, coins, tokens=tokens[:, order])
        assert (order[other] == together).all()
    dense = marked.select(weights, windows, Coins(3))
    assert dense.max() < 50


@pytest.mark.parametrize("profile", ["greenlist-h1", "gumbel-dual-h2", "tournament-h2"])
def test_sampled_rows_are_those_of_single_sessions(profile: str) -> None:
    marked = scheme(profile)
    logits = np.stack([flat_model(), flat_model()[::-1], np.zeros(500, np.float32)])
    sessions = [[Session(marked, seed=5, stream=row) for row in range(3)] for _ in range(3)]
    pool = Pool(2)
    for _ in range(40):
        batch = sample_rows(sessions[0], logits, temperature=0.8, top_p=0.95)
        pooled = sample_rows(sessions[1], logits, temperature=0.8, top_p=0.95, pool=pool)
        alone = [session.sample(row, temperature=0.8, top_p=0.95) for session, row in zip(sessions[2], logits)]
        assert batch.tolist() == pooled.tolist() == alone
    for row in range(3):
        assert sessions[0][row].record() == sessions[1][row].record() == sessions[2][row].record()


def test_distillation_finds_the_text_itself_and_ranks_it_first() -> None:
    """The strongest "student" is the text under the key. Control: text under another key. One report, alpha 1e-5 after
    Holm; 99 decoys, so that the rank p can be 0.01 and no less."""
    profile = "greenlist-h1"
    from watermark import Scheme

    def text(line_slot: int, seed: int) -> list[np.ndarray]:
        session = Session(Scheme(profile, key_line=MASTER_LINE, epoch="2026q4", slot=line_slot), seed=seed)
        for _ in range(400):
            session.sample(flat_model())
        return list(np.split(session.tokens, 4))

    found = distill(
        profile,
        text(0, 1),
        key_line=MASTER_LINE,
        epoch="2026q4",
        control=text(1, 2),
        decoys=99,
        threads=2,
        prompts=[[900, 901, 902]],
    )
    report = found["report"]
    assert found["verdict"] == "rejected" and report["profile"]["id"] == profile
    cells = next(f for f in report["findings"] if f["test"]["id"] == "closed-cells")
    assert cells["test"]["pLog10"] < -20
    assert (cells["decoys"]["rank"], cells["decoys"]["of"]) == (1, 100)
    assert cells["control"]["pLog10"] > -4
    one = distill(
        profile, text(0, 1), key_line=MASTER_LINE, epoch="2026q4", control=text(1, 2), decoys=99, prompts=[[900, 901, 902]]
    )
    assert one == found, "threads change nothing"
    few = distill(
        profile, text(0, 1), key_line=MASTER_LINE, epoch="2026q4", decoys=0, tests=["closed-sqrt"], sources=[0, 0, 1, 1]
    )
    assert [f["test"]["id"] for f in few["report"]["findings"]] == ["closed-sqrt"]


def test_distillation_refuses_what_does_not_fit(key_file) -> None:
    text = [write("greenlist-h1", 50)]
    slot_line = b"WMK-SLOT-KEY-1QVQQQQQXXGCRYDN3XS8F7XYRG07WRPJQZ3L6Z809ZCHUXFK3KE2VHPW36PTVZVAC37XVVAYX8H7"
    with pytest.raises(ValueError, match="master key"):
        distill("greenlist-h1", text, key_line=slot_line)
    assert distill("greenlist-h1", text, key_line=slot_line, decoys=0, min_cells=1)["verdict"] == "not-rejected"
    for arguments, match in [
        ({"tests": ["magic"]}, "magic"),
        ({"decoys": 5000}, "4063"),
        ({"alpha": 0.0}, "alpha"),
        ({"threads": 0}, "threads"),
        ({"sources": [1, 2]}, "sources"),
        ({"slot": 40}, "decoy slot"),
        ({"epoch": "Q4 2026"}, "epoch label"),
    ]:
        with pytest.raises(ValueError, match=match):
            distill("greenlist-h1", text, key_file=key_file(), **{"decoys": 0, **arguments})
    with pytest.raises(TypeError, match="list of sequences"):
        distill("greenlist-h1", np.zeros(9, np.uint32), key_file=key_file(), decoys=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"suspect\[1\]"):
        distill("greenlist-h1", [[1, 2], [1, -2]], key_file=key_file(), decoys=0)


def test_accounts_have_marks_of_their_own() -> None:
    leak = {"schema": "watermark.profile/1", "id": "leak", "slot": "leak", "scheme": {"type": "gumbel", "context_width": 2}}
    from watermark import Scheme

    one, two = (Scheme(leak, slot_key=KEY, account=account) for account in (1, 2))
    session = Session(one, seed=1)
    for _ in range(300):
        session.sample(flat_model())
    results = []
    for reader in (one, two):
        detector = Detector(reader)
        detector.push(session.tokens)
        results.append(detector.result().log10_p)
    assert results[0] < -20 and results[1] > -4
    with pytest.raises(ValueError, match="account"):
        Scheme(leak, slot_key=KEY)
    with pytest.raises(ValueError, match="leak slot"):
        one.words([[1, 2]], 4, lane="gumbel")
