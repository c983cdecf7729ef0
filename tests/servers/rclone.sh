#!/usr/bin/env bash
# rclone's S3 server on a folder: it ignores conditional writes and checksums, and its answers to uploads in parts
# cannot be read.
#
#   tests/servers/rclone.sh start | stop | run

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
rclone=$(find_tool LFS_DELTA_TEST_RCLONE rclone-1.75.2/rclone)

serve() {
    launch server "$rclone" serve s3 --config "$dir/rclone.conf" --cache-dir "$dir/cache" \
        --auth-key "$access_key,$secret_key" --addr "127.0.0.1:$port" "$dir/data"
}

make_bucket() { mkdir -p "$dir/data/$bucket"; }

main "$@"
