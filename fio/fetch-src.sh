#!/bin/sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# fetch-src.sh PACKAGE DIR: the source of the installed version of a Debian package, in DIR.
#
# The system's apt configuration is left alone: its sources are copied, with deb-src in place of
# deb, into a temporary directory, and apt-get keeps its lists there too. If the archive no longer has
# the installed version, the newest one is taken, with a warning. fio's source is also configured, because a
# fio engine needs config-host.h.
#
# PACKAGE_SRC in the environment (FIO_SRC for fio, LIBAIO_SRC for libaio1) names a tree to use instead; then no network is
# needed. DIR becomes a link to it, or, if it has to be configured and cannot be written, a copy.
#
# DIR.stamp says what DIR is, and changes only when that changes: for make.

set -eu

die() {
    echo "fetch-src.sh: $*" >&2
    exit 1
}

[ $# -eq 2 ] || die "usage: fetch-src.sh PACKAGE DIR"
package=$1
dir=${2%/}
case $package in
    *[!a-z0-9.+-]* | '') die "'$package' is not the name of a package" ;;
esac
case $dir in
    '' | . | ..) die "'$2' is not a directory that may be replaced" ;;
esac

# What to configure, and the variable that names a tree to use instead.
case $package in
    fio) variable=FIO_SRC configured=config-host.h ;;
    libaio*) variable=LIBAIO_SRC configured= ;;
    *) variable=$(printf %s "$package" | tr 'a-z.+-' 'A-Z___')_SRC configured= ;;
esac
eval "given=\${$variable:-}"

temp=
cleanup() {
    [ -z "$temp" ] || rm -rf "$temp"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# Builds nothing: it only finds out what the machine has. Its report is shown only if it fails.
configure() {
    if ! (cd "$1" && ./configure >configure.log 2>&1 </dev/null); then
        tail -n 20 "$1/configure.log" >&2
        die "$1/configure failed"
    fi
    [ -f "$1/$configured" ] || die "$1/configure made no $configured"
}

# Puts $1 (a directory made by us) where $dir is, unless that is somebody else's.
install_tree() {
    remove_tree
    mv "$1" "$dir"
}

remove_tree() {
    if [ -L "$dir" ]; then
        rm "$dir"
    elif [ -e "$dir" ]; then
        [ -e "$dir.stamp" ] || die "$dir exists and was not made by this script"
        rm -rf "$dir"
    fi
}

stamp() {
    [ "$(cat "$dir.stamp" 2>/dev/null)" = "$1" ] || printf '%s\n' "$1" >"$dir.stamp"
}

mkdir -p "$(dirname "$dir")"

if [ -n "$given" ]; then
    [ -d "$given" ] || die "$variable=$given is not a directory"
    given=$(cd "$given" && pwd)
    if [ -n "$configured" ] && [ ! -f "$given/$configured" ]; then
        [ -f "$given/configure" ] || die "$variable=$given has neither $configured nor configure"
        if [ -w "$given" ]; then
            configure "$given"
        else
            if [ "$(cat "$dir.stamp" 2>/dev/null)" != "copy of $given" ] || [ ! -f "$dir/$configured" ]; then
                temp=$(mktemp -d "$dir.XXXXXX")
                cp -R "$given" "$temp/tree"
                chmod -R u+w "$temp/tree"
                configure "$temp/tree"
                install_tree "$temp/tree"
            fi
            stamp "copy of $given"
            exit 0
        fi
    fi
    if [ "$(readlink "$dir" || :)" != "$given" ]; then
        remove_tree
        ln -s "$given" "$dir"
    fi
    stamp "link to $given"
    exit 0
fi

for tool in dpkg-query apt-get dpkg-source; do
    command -v $tool >/dev/null ||
        die "no $tool: on a machine without Debian's tools give the source tree of $package with $variable="
done
what=$(dpkg-query -W -f '${db:Status-Status} ${source:Package} ${source:Version}' "$package" 2>/dev/null) || what=
case $what in
    "installed "*) ;;
    *) die "package $package is not installed" ;;
esac
what=${what#installed }
source=${what% *}
version=${what#* }
if [ ! -L "$dir" ] && { [ -z "$configured" ] || [ -f "$dir/$configured" ]; } && [ -d "$dir" ]; then
    case $(cat "$dir.stamp" 2>/dev/null) in
        "$source $version" | "$source for $version"*) exit 0 ;;
    esac
fi

# Beside $dir, so that the tree can be moved into place; apt's own user need not get at it.
temp=$(mktemp -d "$dir.XXXXXX")
temp=$(cd "$temp" && pwd)
mkdir -p "$temp/sources" "$temp/lists/partial" "$temp/cache/archives/partial" "$temp/unpack"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$file" ] || continue
    sed -n 's/^[[:space:]]*deb\(-src\)\{0,1\}[[:space:]]/deb-src /p' "$file" >"$temp/sources/$(basename "$file" .list).list"
done
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    sed 's/^[Tt]ypes:.*/Types: deb-src/' "$file" >"$temp/sources/$(basename "$file")"
done
# The hooks are for whoever watches the system's lists, which do not change.
cat >"$temp/apt.conf" <<CONF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$temp/sources";
Dir::State::lists "$temp/lists";
Dir::Cache "$temp/cache";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF

apt() {
    apt-get -q -c "$temp/apt.conf" "$@" >>"$temp/log" 2>&1 </dev/null
}

# One unreachable archive among several does not matter if the others have the source.
apt update || :
stamp="$source $version"
cd "$temp/unpack"
if ! apt source --only-source "$source=$version"; then
    if ! apt source --only-source "$source"; then
        grep '^[EW]: ' "$temp/log" | grep -v 'put some .deb-src' | sort -u | sed 's/^/    /' >&2
        die "cannot get the source of $source $version; without a network, give its tree with $variable="
    fi
    newest=$(ls -d "$source"_*.dsc)
    newest=${newest#"$source"_}
    newest=${newest%.dsc}
    stamp="$source for $version is $newest"
    echo "fetch-src.sh: warning: no source of $source $version; this is $newest" >&2
fi
cd "$OLDPWD"
tree=
for tree in "$temp"/unpack/*/; do
    break
done
[ -d "$tree" ] || die "the source of $source is not unpacked"
if [ -n "$configured" ]; then
    configure "${tree%/}"
fi
install_tree "${tree%/}"
stamp "$stamp"
