# Everyday commands; the build itself is CMake + Ninja in build/.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
CMAKE_FLAGS ?=
# make CUDA=1: with kernels for NVIDIA GPUs, compiled by nvcc.
ifeq ($(CUDA),1)
override CMAKE_FLAGS += -DMR_CUDA=ON
endif

.PHONY: all demo check cuda-check bench fuzz soak install deb clean bootstrap format

all: bootstrap
	@scripts/build.sh $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS)

bootstrap:
	@scripts/bootstrap.sh

demo: all
	@scripts/demo.sh $(BUILD)

check:
	@scripts/bootstrap.sh check
	@scripts/check.sh $(BUILD)

cuda-check:
	@scripts/cuda_check.sh $(BUILD)-cuda

bench: all
	@bench/run.sh $(BUILD)

fuzz:
	@scripts/bootstrap.sh fuzz
	@scripts/fuzz.sh

soak: bootstrap
	@scripts/soak.sh

install: all
	DESTDIR=$(DESTDIR) cmake --install $(BUILD) --prefix $(PREFIX)

deb:
	@scripts/bootstrap.sh deb
	@$(MAKE) all
	cd $(BUILD) && cpack -G DEB

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(BUILD) build-*
