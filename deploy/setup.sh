#!/bin/bash
# Installs what is missing on this machine to build, test or check the project: Debian packages (12, in principle 13),
# then FAISS (deploy/faiss/build.sh). Does nothing, quickly, when nothing is missing; make runs it by itself.
#
#   deploy/setup.sh [build|demo|test|lint|bench|fuzz]...      default: build
#   INTENTD_SETUP=no skips it: the machine is taken as it is
set -euo pipefail
[ "${INTENTD_SETUP:-}" != no ] || exit 0

here=$(cd "$(dirname "$0")" && pwd)
debian=$(. /etc/os-release 2>/dev/null && [ "${ID:-}" = debian ] && echo "${VERSION_ID:-12}" || true)

llvm=-14
[ "${debian:-12}" = 12 ] || llvm=

packages=()
for group in "${@:-build}"; do
    case $group in
    build) packages+=(gcc g++ libc6-dev make libopenblas-dev libopenblas0-pthread libmicrohttpd-dev
        libjansson-dev libinih-dev libxxhash-dev nettle-dev libroaring-dev liblmdb-dev zlib1g-dev libzstd-dev libdnnl-dev)
        [ "${debian:-12}" = 12 ] || packages+=(libfaiss-dev) ;;
    demo) packages+=(curl jq) ;;
    test) packages+=(check libsubunit-dev python3 curl) ;;
    lint) packages+=("clang$llvm" "clang-format$llvm" "clang-tidy$llvm" cppcheck) ;;
    bench) packages+=(wrk python3-venv) ;;
    fuzz) packages+=("clang$llvm" "libclang-rt$llvm-dev") ;;
    *) echo "usage: $0 [build|demo|test|lint|bench|fuzz]..." >&2; exit 2 ;;
    esac
done

mapfile -t packages < <(printf "%s\n" "${packages[@]}" | sort -u)

missing=()
if command -v dpkg-query >/dev/null; then
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' "${packages[@]}" 2>/dev/null | sed -n 's/ installed$//p' || true)
    for p in "${packages[@]}"; do
        case $'\n'$installed$'\n' in *$'\n'$p$'\n'*) ;; *) missing+=("$p") ;; esac
    done
elif [ -z "${INTENTD_SETUP_QUIET:-}" ]; then
    echo "setup: not a Debian system; this needs the equivalents of: ${packages[*]}" >&2
fi

if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}" >&2
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: neither root nor sudo; run as root: apt-get install ${missing[*]}" >&2; exit 1; }
        as_root=sudo
    fi
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    install() {
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
            install --no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1
    }
    # Package lists may be absent or name versions that the mirror has dropped: refresh them only when that shows.
    if ! install; then
        { $as_root apt-get -q -o Acquire::Retries=3 update && install; } >>"$log" 2>&1 || {
            tail -15 "$log" >&2
            echo "setup: could not install ${missing[*]}" >&2
            exit 1
        }
    fi
fi

exec "$here/faiss/build.sh"
