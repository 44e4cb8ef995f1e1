#!/bin/sh
# Stands for `cargo build`: the program it makes imports and runs as `monopass` would, from files it is told to be there.
echo "$@" >>"HERE/cargo.log"
mkdir -p target/debug
cp "HERE/bin/monopass" target/debug/monopass
