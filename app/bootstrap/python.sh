# Sourced by inn and run-tests: find_python sets $python to a Python of at least 3.11 that can make a
# virtual environment. On Debian and Ubuntu, root installs what is missing for that.

find_python() {
    for python in ${INNKEEPER_PYTHON:+"$INNKEEPER_PYTHON"} python3 /usr/bin/python3 \
        python3.14 python3.13 python3.12 python3.11; do
        "$python" -I -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return 0
    done
    for python in /usr/bin/python3 python3; do
        "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        lacks='this Python cannot make virtual environments: install python3-venv'
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            printf 'inn: installing the Debian package python3-venv, which makes virtual environments\n' >&2
            DEBIAN_FRONTEND=noninteractive apt-get -y -q update >/dev/null 2>&1
            DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends python3-venv >/dev/null &&
                "$python" -I -c 'import ensurepip' 2>/dev/null && return 0
        fi
        printf 'inn: %s (as root: apt-get install python3-venv)\n' "$lacks" >&2
        return 1
    done
    printf 'inn: needs Python 3.11 or newer; INNKEEPER_PYTHON names one that is not on the PATH\n' >&2
    return 1
}
