"""Holds a log that is published as C2SP tiles against pymerkle, a Merkle tree in Python by people who have not heard of us.

Nothing of Nethical is in here. It rebuilds the whole tree from the published leaves, and believes receipts only as far as
pymerkle does. Signatures are for the other verifiers.

Run: python3 verify.py http://127.0.0.1:8001 GROUP   (needs the package pymerkle)
"""

import base64
import json
import sys
import urllib.request

from pymerkle import InclusionProof, InmemoryTree, InvalidProof
from pymerkle.core import _inclusion_path_layout

WIDTH = 256
RECEIPTS = 7


def fetch(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read()


def place(number, width):
    text = "%03d" % (number % 1000)
    while number >= 1000:
        number //= 1000
        text = "x%03d/%s" % (number % 1000, text)
    return text if width == WIDTH else "%s.p/%d" % (text, width)


def checkpoint_of(note):
    """Origin, size and root of a signed note."""
    origin, size, root = note.decode().split("\n")[:3]
    return origin, int(size), base64.b64decode(root)


def leaves_of(prefix, size):
    leaves = []
    while len(leaves) < size:
        width = min(WIDTH, size - len(leaves))
        bundle = fetch("%s/tile/entries/%s" % (prefix, place(len(leaves) // WIDTH, width)))
        for _ in range(width):
            length = int.from_bytes(bundle[:2], "big")
            leaves.append(bundle[2 : 2 + length])
            bundle = bundle[2 + length :]
        assert not bundle, "a bundle has more leaves than its name says"
    return leaves


def tree_of(leaves):
    tree = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        tree.append_entry(leaf)
    return tree


def believes(tree, leaf, index, size, path, root):
    """Whether pymerkle believes that the leaf stands at an index, counted from 0."""
    try:
        rule, _ = _inclusion_path_layout(index + 1, size)
        base = tree.hash_buff(leaf)
        proof = InclusionProof("sha256", True, size, index + 1, rule, [base] + path)
        proof.verify(base, root, index=index + 1, size=size)
        return True
    except (InvalidProof, ValueError, IndexError):
        return False


def check_receipt(api, tree, identity):
    answer = json.loads(fetch("%s/v1/audit/receipts/%s" % (api, identity)))
    leaf, text = base64.b64decode(answer["leaf"]), answer["receipt"]
    head, note = text.split("\n\n", 1)
    lines = [line for line in head.split("\n") if not line.startswith("extra ")]
    assert lines[0] == "c2sp.org/tlog-proof@v1" and lines[1].startswith("index "), text
    index, path = int(lines[1][6:]), [base64.b64decode(line) for line in lines[2:]]
    _, size, root = checkpoint_of(note.encode())
    assert believes(tree, leaf, index, size, path, root), "the receipt %s is not believed" % identity
    other = bytes([leaf[0] ^ 1]) + leaf[1:]
    flipped = [bytes([path[0][0] ^ 1]) + path[0][1:]] + path[1:] if path else path
    assert not believes(tree, other, index, size, path, root), "a changed leaf is believed"
    assert not believes(tree, leaf, index ^ 1, size, path, root) or size == 1, "another place is believed"
    assert not path or not believes(tree, leaf, index, size, flipped, root), "a changed proof is believed"
    assert not path or not believes(tree, leaf, index, size, path[:-1], root), "a cut proof is believed"
    assert not believes(tree, leaf, index, size, path, bytes(32)), "another root is believed"


def main(api, group):
    prefix = "%s/log/%s" % (api, group)
    origin, size, root = checkpoint_of(fetch(prefix + "/checkpoint"))
    leaves = leaves_of(prefix, size)
    tree = tree_of(leaves)
    assert tree.get_root() == root, "the leaves do not have the checkpoint's root"
    changed = leaves[:-1] + [leaves[-1][:-1] + bytes([leaves[-1][-1] ^ 1])]
    assert tree_of(changed).get_root() != root, "a changed leaf has the checkpoint's root"
    prefixes = 0
    for old in range(1, size + 1, 1 + size // 29):
        tree.prove_consistency(old, size).verify(tree.get_root(old), root, prior_size=old, later_size=size)
        prefixes += 1
    era = origin.rsplit("/", 1)[1]
    for index in range(0, size, 1 + size // RECEIPTS):
        check_receipt(api, tree, "%s.%s.%d" % (group, era, index))
    print(json.dumps({"origin": origin, "size": size, "prefixes": prefixes}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
