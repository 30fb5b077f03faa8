#!/usr/bin/env bash
# Install Detectron2 into the environment of the given Python, unless it can be imported already.
# usage: install_detectron2.sh PYTHON [wheel|source]
#   wheel   Python files of the official repository at COMMIT, as the index's sal-detectron2 carries them; no compiled ops
#   source  the official repository at COMMIT, built here with its compiled ops (needs a C++ compiler and git)
set -euo pipefail

python=$1
kind=${2:-wheel}
COMMIT=a59f05630a8f205756064244bf5beb8661f96180
WHEEL=sal_detectron2-0.7.2-cp310-none-any.whl
SHA256=491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561

if [ "$kind" = source ]; then
    "$python" -m pip install --no-build-isolation --no-deps "git+https://github.com/facebookresearch/detectron2.git@$COMMIT"
    exit
fi
[ "$kind" = wheel ] || { echo "DETECTRON2=$kind: use 'wheel' or 'source'" >&2; exit 2; }
if "$python" -c 'import detectron2' 2>/dev/null; then
    echo "Detectron2 is there already: kept"
    exit
fi

download=$(mktemp -d)
trap 'rm -rf "$download"' EXIT
# The wheel is tagged for Python 3.10 but holds plain Python files that later versions run as well.
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.10 \
    --dest "$download" sal-detectron2==0.7.2
echo "$SHA256  $download/$WHEEL" | sha256sum --check --quiet
# Unpacked aside first: the wheel's top-level `tools` folder and its `_C` (Python 3.10 only) stay out of site-packages.
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.10 \
    --target "$download/unpacked" "$download/$WHEEL"
rm -rf "$download/unpacked/tools"
if ! "$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))'; then
    rm -f "$download"/unpacked/detectron2/_C*.so
fi
site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
cp -R "$download"/unpacked/. "$site"/
"$python" -c 'import detectron2; print("Detectron2", detectron2.__version__, "installed")'
