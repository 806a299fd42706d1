#!/bin/sh
# Builds the fuzz targets and runs each: fuzz.sh SECONDS [TARGET...]
#
# What cargo-fuzz does, by a plain cargo: the coverage that libFuzzer steers by is a pass of LLVM. The code has no
# unsafe outside carrack-sys, so that no sanitizer is needed; overflows and failed assertions are found all the same.
# What fails is kept in fuzz/artifacts/TARGET; run it again by giving its path to the program.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:?seconds for each target}
shift
programs=fuzz/target/x86_64-unknown-linux-gnu/release
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\(.*\)"/\1/p' fuzz/Cargo.toml | grep -v carrack)

RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1" \
    cargo build --quiet --release --locked --target x86_64-unknown-linux-gnu --target-dir fuzz/target \
    --manifest-path fuzz/Cargo.toml

# Something to begin with: small archives, plain and compressed, and what the tests have.
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT INT TERM
for target; do mkdir -p "$seeds/$target" "fuzz/corpus/$target" "fuzz/artifacts/$target"; done
mkdir -p "$seeds/tree/blobs/sha256"
printf '{"imageLayoutVersion":"1.0.0"}' > "$seeds/tree/oci-layout"
cp fuzz/seeds/documents/index "$seeds/tree/index.json"
printf '[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l.tar"]}]' > "$seeds/tree/manifest.json"
cp fuzz/seeds/documents/config "$seeds/tree/c.json"
ln -s oci-layout "$seeds/tree/link"
ln "$seeds/tree/oci-layout" "$seeds/tree/hard"
# The same bytes each time: with a fixed seed, a run is much the same as the one before on any machine.
same="--sort=name --mtime=@1.5 --owner=0 --group=0 --numeric-owner"
for format in "ustar" "pax --pax-option=delete=atime,delete=ctime" "gnu"; do
    for target in tar_reader archive_reader compression index_writer; do
        [ -d "$seeds/$target" ] || continue
        # shellcheck disable=SC2086 # options
        tar $same --format=$format -C "$seeds/tree" -cf "$seeds/$target/${format%% *}.tar" .
    done
done
if [ -d "$seeds/compression" ]; then
    for tool in gzip zstd bzip2 xz; do
        ! command -v $tool >/dev/null || $tool -c < "$seeds/compression/ustar.tar" > "$seeds/compression/$tool"
    done
fi
for target; do [ ! -d "fuzz/seeds/$target" ] || cp fuzz/seeds/"$target"/* "$seeds/$target"; done
[ ! -d "$seeds/dockerfile" ] || find crates/carrack-dockerfile/tests/golden -type f -size -16k | sort | head -50 |
    while read -r file; do cp "$file" "$seeds/dockerfile/$(basename "$file")"; done

# As many at once as there are processors.
printf '%s\n' "$@" | xargs -P "$(nproc)" -I TARGET sh -c '
    log=$1/TARGET.log
    if "$2/TARGET" -seed=1 -max_total_time="$3" -timeout=25 -rss_limit_mb=512 -malloc_limit_mb=128 -max_len=65536 \
        -artifact_prefix=fuzz/artifacts/TARGET/ -print_final_stats=1 "fuzz/corpus/TARGET" "$1/TARGET" > "$log" 2>&1; then
        echo "fuzz: TARGET: $(sed -n "s/^stat::number_of_executed_units: *//p" "$log") runs, nothing found"
    else
        tail -40 "$log"
        echo "fuzz: TARGET failed"
        touch "$1/failed"
    fi' sh "$seeds" "$programs" "$seconds"
[ ! -e "$seeds/failed" ]
