# The ways in. Each target installs what it needs on a Debian-like machine that has a Rust toolchain.

CARRACK := target/x86_64-unknown-linux-musl/release/carrack

.PHONY: build demo test fuzz bench lint install clean

build:            ## the static binary, $(CARRACK)
	scripts/setup.sh build
	cargo build --release --locked --package carrack

demo: build       ## the main job on real input: build, push, pull, run
	scripts/setup.sh demo
	scripts/demo.sh $(CARRACK)

test:             ## every test, against the same static binary
	scripts/setup.sh build
	scripts/setup.sh test
	cargo nextest run --release --locked --workspace

FUZZ_SECONDS := 60

fuzz:             ## every fuzz target for FUZZ_SECONDS
	scripts/setup.sh fuzz
	scripts/fuzz.sh $(FUZZ_SECONDS)

bench: build      ## ours, the peers and the floor in one run; PEERS=DIR for those of bench/peers.sh
	scripts/setup.sh bench
	cargo build --release --locked --package carrack-floor
	bench/run.sh $(CARRACK)
	bench/store.sh $(CARRACK)

lint:             ## formatting, clippy, licences and sources of dependencies
	scripts/setup.sh lint
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo deny --locked check bans licenses sources

install: build    ## into $(DESTDIR)/usr/local, with man pages, completions and the systemd unit
	install -Dm755 $(CARRACK) $(DESTDIR)/usr/local/bin/carrack
	$(CARRACK) completion bash | install -Dm644 /dev/stdin $(DESTDIR)/usr/local/share/bash-completion/completions/carrack
	$(CARRACK) manual $(DESTDIR)/usr/local/share/man/man1
	install -Dm644 contrib/systemd/carrack.service $(DESTDIR)/usr/local/lib/systemd/system/carrack.service

clean:
	cargo clean
