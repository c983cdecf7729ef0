#!/usr/bin/env bash
# Garage, one node: it answers 200 to conditional writes and does not look at the condition. It takes minutes to
# build, so tests/run.sh installs it for --soak only.
#
#   tests/servers/garage.sh start | stop | run

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
garage=$(find_tool LFS_DELTA_TEST_GARAGE garage-2.5.0/bin/garage)
access_key=GK0123456789abcdef01234567
secret_key=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef

serve() {
    local rpc
    rpc=$(free_ports 1)
    cat > "$dir/garage.toml" << END
metadata_dir = "$dir/meta"
data_dir = "$dir/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:$rpc"
rpc_public_addr = "127.0.0.1:$rpc"
rpc_secret = "$secret_key"

[s3_api]
s3_region = "us-east-1"
api_bind_addr = "127.0.0.1:$port"
END
    launch server env GARAGE_DEFAULT_ACCESS_KEY="$access_key" GARAGE_DEFAULT_SECRET_KEY="$secret_key" \
        GARAGE_DEFAULT_BUCKET="$bucket" "$garage" -c "$dir/garage.toml" server --single-node --default-bucket
}

# It makes its bucket itself.
make_bucket() { true; }

main "$@"
