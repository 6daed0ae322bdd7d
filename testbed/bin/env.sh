# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Sourced by the testbed's shell scripts: where things are, and how a long
# step reports itself.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-$TOP/build}
# Everything that costs time to make lives here, shared by all checkouts
CACHE=${SVA_BTM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sva-btm}
JOBS=${JOBS:-$(nproc)}
export CROSS=aarch64-linux-gnu- LINUX_SERIES=7.3 QEMU_SERIES=10.0
export TOP BUILD CACHE JOBS

# The same inputs give the same objects, wherever and whenever they are built
export CCACHE_DIR=${CCACHE_DIR:-$CACHE/ccache}
export CCACHE_BASEDIR=$CACHE CCACHE_NOHASHDIR=1 CCACHE_MAXSIZE=20G
# The compiler's own dependencies instead of a run of the preprocessor: a cold
# build of the kernel takes a third less time
export CCACHE_DEPEND=1
export KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_USER=sva KBUILD_BUILD_HOST=testbed
# Debian's Python is the one whose modules its packages bring
export PATH=/usr/bin:$PATH LC_ALL=C
unset PYTHONPATH PYTHONHOME CDPATH

mkdir -p "$BUILD/log" "$CACHE"

die() {
	printf '%s: error: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# Serialise whatever writes to a part of the cache: lock NAME
lock() {
	local fd
	exec {fd}>"$CACHE/$1.lock"
	flock -n "$fd" && return
	echo "waiting for another run that holds $CACHE/$1.lock" >&2
	flock "$fd"
}

# CPU: the seconds of it that this shell's commands have taken
cpu_seconds() {
	local file=$BUILD/log/.times.$BASHPID
	times >"$file" # not in a pipe, whose shell is another
	CPU=$(tail -n 1 "$file" | tr 'ms' '  ' | awk '{ printf "%d", $1 * 60 + $2 + $3 * 60 + $4 }')
	rm "$file"
}

# Run a long command with its output in a log, and show that it is alive:
# step NAME WHAT COMMAND...
step() {
	local what=$2 start=$SECONDS log=$BUILD/log/$1.log pid rc=0 last free dir cpu ticks=0
	cpu_seconds
	cpu=$CPU
	shift 2
	# A full disk shows in every tool's own way, or as a hang in APT's
	for dir in "$CACHE" "$BUILD"; do
		free=$(df --output=avail -BM "$dir" | tr -dc 0-9)
		((free >= 1024)) || die "$what: only $free MiB are free in $dir, 1024 are needed (8 GiB in all)"
	done
	printf '==> %s (log: %s)\n' "$what" "${log#"$PWD"/}"
	printf '+ %s\n' "$*" >"$log"
	"$@" >>"$log" 2>&1 </dev/null &
	pid=$!
	# shellcheck disable=SC2064 # the step's own pid, now
	trap "kill $pid 2>/dev/null; exit 130" INT TERM
	while kill -0 $pid 2>/dev/null; do
		sleep 0.2
		((++ticks % (5 * ${PROGRESS:-15}))) || {
			last=$(tail -c 400 "$log" | tr '\r' '\n' | grep . | tail -n 1 | cut -c1-60)
			printf '    %4d s  %6d lines  %s\n' $((SECONDS - start)) "$(wc -l <"$log")" "$last"
		}
	done
	wait $pid || rc=$?
	trap - INT TERM
	if ((rc)); then
		printf '==> %s FAILED after %d s, exit status %d. The lines that matter:\n' \
			"$what" $((SECONDS - start)) $rc >&2
		{ grep -aniE '(^|[^a-z_-])(error|fatal|undefined|no space left|cannot|failed)([^a-z_-]|$)' "$log" ||
			true; } | tail -n 15 | sed 's/^/    /' >&2
		printf '    --- end of %s:\n' "$log" >&2
		tail -n 8 "$log" | sed 's/^/    /' >&2
		exit $rc
	fi
	cpu_seconds
	printf '    done in %d s\n' $((SECONDS - start))
	printf '%6d s %6d s of CPU  %s\n' $((SECONDS - start)) $((CPU - cpu)) "$what" >>"$BUILD/log/times"
}

# Is what STAMP says (a line) still true? Makes "nothing changed" cheap.
fresh() {
	[[ -f $1 && $(<"$1") == "$2" ]]
}

# kmake SOURCES OBJECTS ARGUMENT...
kmake() {
	local src=$1 obj=$2
	shift 2
	# Without what our own make was given
	MAKEFLAGS='' make -C "$src" O="$obj" ARCH=arm64 CROSS_COMPILE="ccache $CROSS" -j "$JOBS" "$@"
}

# One target, TCG, and what the testbed's machine needs; meson is not Debian 12's
# shellcheck disable=SC2034 # for build and check-builds
QEMU_OPTIONS=(--python=/usr/bin/python3 "--cc=ccache gcc"
	--target-list=aarch64-softmmu --without-default-features --without-default-devices
	--enable-tcg --enable-fdt=system --enable-pixman
	--enable-plugins --disable-docs --disable-install-blobs)
with_meson() {
	PYTHONPATH=$CACHE/tools/meson/usr/lib/python3/dist-packages PATH=$PATH:$CACHE/tools/meson/usr/bin "$@"
}

# Every symbol that the fragments ask for must be what they say
survived() {
	local config=$1 lost
	shift
	lost=$(cat "$@" | grep -oE '^CONFIG_[A-Z0-9_]+=.*' | sed 's/=n$/=n/' | sort -u | while read -r line; do
		case $line in
		*=n) ! grep -q "^${line%=n}=" "$config" || echo "$line" ;;
		*) grep -qxF -- "$line" "$config" || echo "$line" ;;
		esac
	done)
	[[ -z $lost ]] || die "these did not survive olddefconfig: ${lost//$'\n'/ }"
}
