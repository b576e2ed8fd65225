#!/bin/bash
# Builds FAISS 1.7.3 (static, with its C API) once per machine, from Debian's source package, into a cache outside the
# checkout. Debian 12's own package lacks the C API's object code and AVX2, and is 1.4 to 3 times slower.
#
#   deploy/faiss/build.sh             build unless it is there already
#   deploy/faiss/build.sh --cflags    compiler flags for code that includes FAISS
#   deploy/faiss/build.sh --libs      linker flags
#   deploy/faiss/build.sh --prefix    where it is (or will be)
#
# Where a distribution packages the C API's library (Debian 13), that one is used and nothing is built.
#
#   INTENTD_CACHE    the cache; default ${XDG_CACHE_HOME:-$HOME/.cache}/intentd
#   FAISS_OPT        avx2 or generic; default: what this machine's processor can run
#   FAISS_TARBALL    the source, where it can't be fetched with apt; still checked against the sum below
set -euo pipefail

version=1.7.3
sha256=3e4fac26d8c9e9008ecea4ae5fc414c658998fce4ba75835058b1a71d3516002
here=$(cd "$(dirname "$0")" && pwd)

opt=${FAISS_OPT:-}
if [ -z "$opt" ]; then
    opt=generic
    [ "$(uname -m)" = x86_64 ] && grep -qw avx2 /proc/cpuinfo && opt=avx2
fi
cache=${INTENTD_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/intentd}
prefix=$cache/faiss-$version-$opt

system_has_it() { # both headers and objects: Debian 12's package has the headers alone
    [ -e /usr/include/faiss/c_api/Index_c.h ] && ls /usr/lib/*/libfaiss_c.* >/dev/null 2>&1
}
define_avx2() { if [ "$opt" = avx2 ]; then printf ' -DFAISS_NEEDS_AVX2'; fi; }

case ${1:-} in
'') ;;
--prefix) system_has_it && echo /usr || echo "$prefix"; exit ;;
--cflags) system_has_it || echo "-isystem $prefix/include$(define_avx2)"; exit ;;
--libs)
    if system_has_it; then echo "-lfaiss_c -lfaiss -lopenblas -lgomp"
    else echo "$prefix/lib/libfaiss_c.a $prefix/lib/libfaiss.a -lopenblas -lgomp"; fi
    exit ;;
-h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"; exit ;;
*) echo "usage: $0 [--cflags | --libs | --prefix | --help]" >&2; exit 2 ;;
esac

ready() { system_has_it || [ -e "$prefix/lib/libfaiss_c.a" ]; }
ready && exit 0

say() { echo "faiss: $*" >&2; }
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
ready && exit 0

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# The machine's own package sources, turned into source-code entries. Only those that are Debian's own archive are kept
# (security updates and third parties don't carry faiss); everything else in an entry, such as Signed-By, stays.
source_entries() {
    local own f
    mkdir parts
    own=$(apt-get indextargets --format '$(ORIGIN)|$(LABEL)|$(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^Debian|Debian|//p' | sort -u)
    for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -e "$f" ] || continue
        awk -v own="$own" '
            BEGIN { n = split(own, uri, "\n") }
            /^[ \t]*deb[ \t]/ {
                keep = own == ""
                for (i = 1; i <= n; i++) { u = uri[i]; sub(/\/$/, "", u); if (index($0, u "/") || index($0, u " ")) keep = 1 }
                if (keep) { sub(/deb/, "deb-src"); print }
            }' "$f" >>parts/machine.list
    done
    for f in /etc/apt/sources.list.d/*.sources; do
        [ -e "$f" ] || continue
        { cat "$f"; echo; } | awk -v own="$own" '
            function flush(  i, u) {
                if (stanza != "" && !disabled && binary) {
                    keep = own == ""
                    for (i = 1; i <= n; i++) { u = uri[i]; sub(/\/$/, "", u); if (index(uris " ", u " ") || index(uris " ", u "/ ")) keep = 1 }
                    if (keep) printf "%s\n", stanza
                }
                stanza = ""; uris = ""; disabled = 0; binary = 0
            }
            BEGIN { n = split(own, uri, "\n") }
            /^[ \t]*$/ { flush(); next }
            /^#/ { next }
            { field = tolower($1) }
            field == "types:" { binary = /deb( |$)/; print_line = "Types: deb-src" }
            field == "uris:" { uris = $0 }
            field == "enabled:" { disabled = tolower($2) == "no" }
            { stanza = stanza (field == "types:" ? print_line : $0) "\n" }
            END { flush() }' >>parts/machine.sources
    done
    find parts -empty -type f -delete
}

# apt with a state of its own: the machine's lists and sources are neither read nor written, its proxies, certificates
# and credentials are.
private_apt() {
    apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$work/parts" \
        -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work/aptcache" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

tarball=${FAISS_TARBALL:-}
if [ -z "$tarball" ]; then
    say "fetching the source of FAISS $version from the Debian archive"
    source_entries
    mkdir -p lists/partial aptcache/archives/partial
    if ! { private_apt update && { private_apt source --download-only --tar-only "faiss=$version-2" || private_apt source --download-only --tar-only faiss; }; } >apt.log 2>&1; then
        tail -5 apt.log >&2
        say "could not fetch it; FAISS_TARBALL=faiss_$version.orig.tar.gz names a local copy"
        exit 1
    fi
    tarball=$work/faiss_$version.orig.tar.gz
fi
echo "$sha256  $tarball" | sha256sum -c --status || { say "$tarball: wrong sha256, expected $sha256"; exit 1; }
tar -xzf "$tarball"

say "building FAISS $version ($opt) into $prefix: once per machine, about two minutes on two cores"
started=$SECONDS
env -u MAKEFLAGS -u MFLAGS make -s -j "$(nproc)" -f "$here/faiss.mk" SRC="faiss-$version" OPT="$opt" CXX="${FAISS_CXX:-g++}"
[ -t 2 ] && echo >&2

# Put together under a temporary name, then renamed: a prefix that can be seen is complete.
mkdir -p out/lib out/include/faiss/c_api
cp libfaiss.a libfaiss_c.a out/lib/
cp "faiss-$version/LICENSE" out/
(cd "faiss-$version/faiss" && find . -name '*.h' -not -path './gpu/*' -print0 | tar -c --null -T -) | tar -x -C out/include/faiss
(cd "faiss-$version/c_api" && find . -name '*.h' -not -path './gpu/*' -print0 | tar -c --null -T -) | tar -x -C out/include/faiss/c_api
rm -rf "$prefix"
mv out "$prefix"
say "done in $((SECONDS - started)) s"
