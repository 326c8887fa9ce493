# shellcheck shell=bash
# Sourced by scripts/demo and scripts/test: `environment EXTRA` leaves a .venv with lorarank[EXTRA] at $venv_python.
#
# PYTHON names the interpreter that makes the .venv (default: python3). A torch that this interpreter can import, or
# that .venv holds already, is kept; otherwise the one in scripts/constraints.txt is installed.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
venv_python=$venv/bin/python
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'
torch_version='from importlib import metadata; print(metadata.version("torch"))'

refuse() {
    printf '%s: %s\n' "scripts/$(basename "$0")" "$1" >&2
    exit 2
}

# A virtual environment can be made anew at any time; anything else called .venv is left alone.
make_venv() {
    local python=${PYTHON:-python3} site=() torch_home
    command -v "$python" >/dev/null || refuse "$python is not found; install Python 3.11 or newer, or name one in PYTHON"
    "$python" -c "$new_enough" 2>/dev/null || refuse "$("$python" --version 2>&1) is too old; \
lorarank needs Python 3.11 or newer: name one with PYTHON=python3.12 scripts/$(basename "$0")"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || refuse "$python lacks the venv module; \
on Debian or Ubuntu install the package python3-venv"
    if [ -e "$venv" ]; then
        [ -e "$venv/pyvenv.cfg" ] || [ -e "$venv/.unfinished" ] || [ -z "$(ls -A "$venv")" ] ||
            refuse "$venv is not a virtual environment; move it away"
        echo "Making .venv anew: the one that is there is unfinished or does not run." >&2
        rm -rf "$venv"
    fi
    # The folder above the imported torch, printed only where pip can see its version too.
    torch_home=$("$python" -W ignore -c "import os, torch; $torch_version
print(os.path.dirname(os.path.dirname(torch.__file__)))" 2>/dev/null | tail -n 1) || torch_home=
    [ -z "$torch_home" ] || site=(--system-site-packages)
    mkdir "$venv" && touch "$venv/.unfinished"
    "$python" -m venv ${site[@]+"${site[@]}"} "$venv" || refuse "$python could not make $venv (see above)"
    # From inside another virtual environment, system-site-packages does not reach that environment's torch.
    if [ -n "$torch_home" ] && ! "$venv_python" -c "$torch_version" >/dev/null 2>&1; then
        echo "$torch_home" >"$("$venv_python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch-home.pth"
    fi
    rm "$venv/.unfinished"
}

# Two lines that change when an installed environment no longer fits.
fingerprint() {
    cat "$root/pyproject.toml" "$root/scripts/constraints.txt" | cksum
    echo "$root torch $("$venv_python" -c "$torch_version" 2>/dev/null)"
}

environment() {
    local extra=$1 constraints=$root/scripts/constraints.txt version stamp=$venv/.installed-$1
    if [ -e "$venv/.unfinished" ] || ! "$venv_python" -c "$new_enough" 2>/dev/null; then
        make_venv
    fi
    # Some tools make environments without pip.
    "$venv_python" -c 'import pip' 2>/dev/null || "$venv_python" -m ensurepip >/dev/null 2>&1 || make_venv
    [ -e "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] && return

    if version=$("$venv_python" -c "$torch_version" 2>/dev/null); then
        echo "Keeping torch $version." >&2
        constraints=$venv/.constraints.txt
        { grep -v '^torch==' "$root/scripts/constraints.txt"; echo "torch==$version"; } >"$constraints"
    fi
    echo "Installing lorarank[$extra] into .venv; the first time takes a few minutes." >&2
    rm -f "$stamp"
    "$venv_python" -m pip install --quiet --quiet --no-input --disable-pip-version-check \
        -c "$constraints" -e "$root[$extra]" ||
        refuse "pip could not install lorarank[$extra] (see above)"
    fingerprint >"$stamp"
}
