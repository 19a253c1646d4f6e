# The four things people do here: see it work, test it, measure it, ship it.
# Root is needed: lbuild makes namespaces, mounts and control groups.

# Two of these are what the demo runs in, the rest are what the tests hold lbuild against.
DEMO_PACKAGES := busybox-static gcc libc6-dev make
TEST_PACKAGES := $(DEMO_PACKAGES) acl attr bsdutils buildah ca-certificates cpio db5.3-util e2fsprogs gzip \
	libcap2-bin docker-registry docker.io fuse-overlayfs git golang-go \
	golang-github-containerd-stargz-snapshotter-dev mmdebstrap openssh-client openssl podman python3-venv \
	qemu-system-x86 qemu-user-static rpm runc skopeo umoci util-linux xz-utils bzip2 zstd
BENCH_PACKAGES := $(TEST_PACKAGES) crun pigz

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTHON := $(TARGET)/venv/bin/python
LBUILD := $(TARGET)/release/lbuild
DEMO := $(TARGET)/demo
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

.DEFAULT_GOAL := help
.PHONY: help demo test bench static demo-packages test-packages bench-packages root cargo

help:
	@echo 'make demo    compile lbuild, build and run an image with it; needs no registry and no base image'
	@echo 'make test    install what the tests need and run all of them'
	@echo 'make bench   measure against the peers; writes benches/RESULTS.md (some of it: WORKLOAD=name ROUNDS=n)'
	@echo 'make static  one static binary: target/TRIPLE/release/lbuild'

root:
	@test "$$(id -u)" = 0 || { echo 'error: run this as root: it makes namespaces, mounts and control groups' >&2; exit 1; }

cargo:
	@command -v $(CARGO) >/dev/null || { echo 'error: `cargo` is not installed; rustup.rs tells how, then run make again' >&2; exit 1; }

# $(call install,PACKAGES): asks apt only when a package is missing.
define install
	@missing=$$(for p in $(1); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

demo-packages: root
	$(call install,$(DEMO_PACKAGES))
test-packages: root
	$(call install,$(TEST_PACKAGES))
bench-packages: root
	$(call install,$(BENCH_PACKAGES))

# The context is a copy, because a machine's busybox does not belong into the repository.
demo: demo-packages cargo
	@$(CARGO) build --release --quiet
	@rm -rf $(DEMO)/hello && mkdir -p $(DEMO) && cp -r Dockerfile.examples/hello $(DEMO)/hello
	@cp /bin/busybox $(DEMO)/hello/busybox
	@PATH="$(abspath $(TARGET))/release:$$PATH" LBUILD_ROOT="$(abspath $(DEMO))/root" sh -e -c '\
		show() { printf "\n\033[1m$$ %s\033[0m\n" "$$*"; "$$@"; }; \
		cd $(DEMO); \
		show lbuild -t hello hello; \
		show lbuild images; \
		show lbuild history hello; \
		show lbuild run --rm hello'

$(PYTHON):
	@python3 -m venv $(TARGET)/venv
	@$(PYTHON) -m pip install --quiet dockerfile

test: test-packages cargo $(PYTHON)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --quiet
	LBUILD_TEST_PYTHON=$(abspath $(PYTHON)) $(CARGO) test --workspace --no-fail-fast
	LBUILD_TEST_PROGRAM=$(abspath $(TARGET))/debug/lbuild CARGO_TARGET_DIR=$(abspath $(TARGET))/oci-client \
		$(CARGO) test --quiet --manifest-path tests/oci-client/Cargo.toml

# With WORKLOAD only that is measured, and its part of benches/RESULTS.md replaced.
bench: bench-packages cargo
	$(STATIC) $(CARGO) bench --quiet --target $(HOST) --bench compare -- $(WORKLOAD)
	$(if $(WORKLOAD),,$(STATIC) $(CARGO) bench --quiet --target $(HOST) --bench growth)

# glibc links statically once the target is named: build scripts and macros then keep the default.
STATIC := RUSTFLAGS='-C target-feature=+crt-static'
static: cargo
	$(STATIC) $(CARGO) build --release --target $(HOST)
	@ls -l $(TARGET)/$(HOST)/release/lbuild
