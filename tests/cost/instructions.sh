#!/bin/sh
# Instructions a span of each kind of work, counted by callgrind, against tests/cost/limits.
#
# usage: instructions.sh LIMITS PROGRAM...
#
# Counts do not depend on the machine's load. Each work runs twice as often the second time: the difference has
# neither start-up nor warm-up in it. A work fails when it needs more than its limit and a tenth; when it needs less
# than two thirds of it, the limit is to be lowered, and that fails too: a limit that is far away guards nothing.
# So does a program without limits.
set -eu

limits=$1
shift
spans=240
repeat=20
failed=0
checked=0

path_of() # name program...: the program of that name
{
    name=$1
    shift
    for program; do
        [ "${program##*/}" != "$name" ] || echo "$program"
    done
}

collected() # program work repeat: instructions in all
{
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$1" --only "$2" --spans $spans --repeat "$3" 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}

for program; do
    grep -q "^${program##*/} " "$limits" || { echo "no limits for ${program##*/} in $limits" >&2; exit 1; }
done

while read -r name work limit; do
    case $name in '' | '#'*) continue ;; esac
    program=$(path_of "$name" "$@")
    [ -n "$program" ] || { echo "$name $work: no such program was given" >&2; exit 1; }
    once=$(collected "$program" "$work" $repeat)
    twice=$(collected "$program" "$work" $((2 * repeat)))
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
