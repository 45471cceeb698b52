"""Checks the opening of a slot against a key commitment: python3 openverify.py COMMITMENT OPENING"""
import hashlib, hmac, json, sys

raw = open(sys.argv[1], "rb").read()
commitment, opening = json.loads(raw), json.load(open(sys.argv[2]))
sha = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
mac = lambda key, *parts: hmac.new(key, b"".join(parts), hashlib.sha256).digest()
key, blinding, c = (bytes.fromhex(opening[name]) for name in ("slotKey", "blinding", "c"))
slot, path = opening["slot"], [bytes.fromhex(beside) for beside in opening["path"]]
params = raw.split(b'"params":')[1].split(b',"paramsSha256":')[0]  # as it stands in the file
leaf = json.dumps({"c": c.hex(), "epoch": commitment["epoch"], "slot": slot, "v": 1}, separators=(",", ":"))
root = sha(b"\0", leaf.encode())
for level, beside in enumerate(path):  # 4096 leaves: twelve levels, the bits of the slot say left or right
    root = sha(b"\1", beside, root) if slot >> level & 1 else sha(b"\1", root, beside)
for what, holds in {
    "recipe": json.loads(params) == commitment["params"] and sha(params).hex() == commitment["paramsSha256"],
    "value": mac(blinding, b"wmk-commit/v1\0", sha(params), slot.to_bytes(4, "big"), key) == c,
    "path": len(path) == 12 and slot < 4096 and root.hex() == commitment["root"],
    "key id": sha(b"wmk-keyid/v1\0", mac(key, b"id"))[:8].hex() == opening["keyId"],
}.items():
    if not holds: sys.exit(f"FAILED: {what}")
print(f"epoch {commitment['epoch']}, slot {slot}, key {opening['keyId']}: holds")
