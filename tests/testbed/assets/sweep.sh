# Removes every trace of a bed: its processes, namespaces, links and the bulk of its data.
#   sh sweep.sh STATE DATA [hold]
# With `hold` it first waits for the end of its standard input: the bed holds the other end, so that its death, of whatever kind, starts the sweep.
# Both it and the bed hold the lock (here: standard output), so no other bed starts before the sweep is over.
state=$1
data=$2
[ "$3" = hold ] && cat >/dev/null

# The start time of a living process, in ticks since boot; nothing for a zombie or when there is none.
started() { sed -n 's/.*) //p' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }
namespaces() { ip netns list | awk '/^firedrill-/ { print $1 }'; }
links() { ip -o link show | awk -F'[:@ ]+' '$2 ~ /^firedrill/ { print $2 }'; }
ours() {
    [ -f "$state/processes" ] && while read -r pid start name; do
        [ "$(started "$pid")" = "$start" ] && echo "$pid"
    done <"$state/processes"
    for ns in $(namespaces); do
        for pid in $(ip netns pids "$ns" 2>/dev/null); do
            # A thread of the bed may live in a namespace, a process of the bed does not.
            [ "$pid" != "$$" ] && [ -n "$(started "$pid")" ] && echo "$pid"
        done
    done
}

tries=0
while :; do
    pids=$(ours)
    [ -z "$pids" ] && break
    # shellcheck disable=SC2086
    kill -9 $pids 2>/dev/null
    tries=$((tries + 1))
    [ $tries -gt 50 ] && break
    sleep 0.1
done
for link in $(links); do ip link del "$link" 2>/dev/null; done
for ns in $(namespaces); do ip netns del "$ns"; done
rm -rf "$data"/*/etcd "$data"/prometheus/data
left="$(ours) $(namespaces) $(links)"
if [ -n "$(echo "$left" | tr -d ' \n')" ]; then
    echo "left behind: $left" >&2
    exit 1
fi
rm -f "$state/processes"
