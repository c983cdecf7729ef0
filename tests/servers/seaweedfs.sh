#!/usr/bin/env bash
# SeaweedFS, all in one process: conditional writes, checksums, uploads in parts.
#
#   tests/servers/seaweedfs.sh start | stop | run

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$root/tests/servers/weed.sh"

serve() {
    local s3_grpc
    read -r s3_grpc master master_grpc volume volume_grpc filer filer_grpc <<< "$(free_ports 7)"
    write_identities
    # A bucket takes about seven volumes. Lance and Iceberg listen on fixed ports unless told not to.
    launch server "$weed" server -ip=127.0.0.1 -ip.bind=127.0.0.1 -dir="$dir/data" \
        -master.port="$master" -master.port.grpc="$master_grpc" -master.telemetry=false \
        -master.volumeSizeLimitMB=64 -volume.max=4000 \
        -volume.port="$volume" -volume.port.grpc="$volume_grpc" \
        -filer.port="$filer" -filer.port.grpc="$filer_grpc" -filer.localSocket="$dir/filer.sock" \
        -s3 -s3.port="$port" -s3.port.grpc="$s3_grpc" -s3.config="$dir/ids.json" -s3.localSocket="$dir/s3.sock" \
        -s3.port.lance=0 -s3.port.iceberg=0 -s3.autoCreateBucket=false
}

main "$@"
