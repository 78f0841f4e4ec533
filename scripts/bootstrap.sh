#!/bin/sh
# Installs what the build (the default), the tests ("check") or the fuzzers ("fuzz") need and this machine lacks, by Debian
# and Ubuntu package names. Does nothing, and needs no network, when all is there.
set -eu

packages="gcc make cmake ninja-build pkg-config protobuf-c-compiler libprotobuf-c-dev libjansson-dev libpcre2-dev \
libutf8proc-dev libedit-dev libcurl4-openssl-dev libssl-dev libcmocka-dev libgrpc-dev libc6-dev"
[ "${1:-}" = check ] && packages="$packages python3-grpcio g++"
[ "${1:-}" = check ] && [ "$(uname -m)" = x86_64 ] && packages="$packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user"
[ "${1:-}" = fuzz ] && packages="$packages clang libclang-rt-dev"
[ "${1:-}" = deb ] && packages="$packages dpkg-dev file"
[ "${1:-}" = bench ] && packages="$packages python3"

installed() {
    [ "$(dpkg-query -W -f='${Status}' "$1" 2>/dev/null)" = "install ok installed" ]
}

# A tool that is on the PATH already need not come from a package.
have_tool() {
    case $1 in
    gcc | g++ | make | cmake | clang) command -v "$1" >/dev/null ;;
    ninja-build) command -v ninja >/dev/null ;;
    pkg-config) command -v pkg-config >/dev/null ;;
    *) return 1 ;;
    esac
}

# Debian 12 names the sanitizers' run-time by clang's version.
if [ "${1:-}" = fuzz ] && ! apt-cache show libclang-rt-dev >/dev/null 2>&1; then
    packages=$(echo "$packages" | sed 's/libclang-rt-dev/libclang-rt-14-dev/')
fi

missing=""
for package in $packages; do
    installed "$package" || have_tool "$package" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null; then
    echo "These packages are missing, and this is no Debian or Ubuntu; install their counterparts:$missing" >&2
    exit 1
fi
run=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "Run as root, or install sudo, to install:$missing" >&2; exit 1; }
    run=sudo
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$run apt-get update -qq
# shellcheck disable=SC2086
$run apt-get install -y -qq --no-install-recommends $missing >/dev/null
