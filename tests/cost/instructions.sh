#!/bin/sh
# Instructions a span of each kind of work, counted by callgrind, against tests/cost/limits.
#
# usage: instructions.sh PROGRAM LIMITS
#
# Counts do not depend on the machine's load. Each work runs twice as often the second time: the difference has
# neither start-up nor warm-up in it. A work fails when it needs more than its limit and a tenth; when it needs less
# than two thirds of it, the limit is to be lowered, and that fails too: a limit that is far away guards nothing.
set -eu

program=$1
limits=$2
spans=240
repeat=20
failed=0
checked=0

collected() # work repeat: instructions in all
{
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$program" --only "$1" --spans $spans --repeat "$2" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

while read -r work limit; do
    case $work in '' | '#'*) continue ;; esac
    once=$(collected "$work" $repeat)
    twice=$(collected "$work" $((2 * repeat)))
    if [ -z "$once" ] || [ -z "$twice" ]; then
        echo "$work: callgrind gave no count" >&2
        exit 1
    fi
    per_span=$(((twice - once) / (repeat * spans)))
    verdict=ok
    if [ $((per_span * 10)) -gt $((limit * 11)) ]; then
        verdict='TOO MANY'
        failed=1
    elif [ $((per_span * 3)) -lt $((limit * 2)) ]; then
        verdict='lower the limit'
        failed=1
    fi
    echo "$work: $per_span instructions a span, limit $limit: $verdict"
    checked=$((checked + 1))
done <"$limits"

[ $checked -gt 0 ] || { echo "no limits in $limits" >&2; exit 1; }
exit $failed
