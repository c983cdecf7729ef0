#!/usr/bin/env bash
# SeaweedFS as a distributed engine: a master, a filer with S3, and three volume servers that keep each file twice.
# DIR/volume-1.pid and so on name the processes, for whoever wants to kill one.
#
#   tests/servers/seaweedfs-cluster.sh start | stop | run

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/tests/servers/weed.sh"

leads() {
    python3 -c "import urllib.request as web; print(web.urlopen('http://127.0.0.1:$master/cluster/status').read())" |
        grep --quiet 'IsLeader":true'
}

serve() {
    local s3_grpc ports number
    read -r -a ports <<< "$(free_ports 11)"
    read -r s3_grpc master master_grpc filer filer_grpc <<< "${ports[*]:0:5}"
    write_identities
    mkdir "$dir/master" "$dir/filer"
    # One more copy, on another server of the same rack.
    launch master "$weed" master -ip=127.0.0.1 -ip.bind=127.0.0.1 -port="$master" -port.grpc="$master_grpc" \
        -mdir="$dir/master" -defaultReplication=001 -volumeSizeLimitMB=64 -telemetry=false
    # Who comes before it leads waits for seconds before it comes again.
    wait_for leads
    for number in 1 2 3; do
        mkdir "$dir/data/$number"
        launch "volume-$number" "$weed" volume -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$dir/data/$number" -max=2000 \
            -port="${ports[3 + 2 * number]}" -port.grpc="${ports[4 + 2 * number]}" \
            -master="127.0.0.1:$master.$master_grpc"
    done
    launch filer "$weed" filer -ip=127.0.0.1 -ip.bind=127.0.0.1 -port="$filer" -port.grpc="$filer_grpc" \
        -master="127.0.0.1:$master.$master_grpc" -defaultStoreDir="$dir/filer" -defaultReplicaPlacement=001 \
        -localSocket="$dir/filer.sock"
    wait_for answers "$filer_grpc"
    launch s3 "$weed" s3 -ip.bind=127.0.0.1 -port="$port" -port.grpc="$s3_grpc" -config="$dir/ids.json" \
        -filer="127.0.0.1:$filer.$filer_grpc" -localSocket="$dir/s3.sock" \
        -port.lance=0 -port.iceberg=0 -autoCreateBucket=false
}

main "$@"
