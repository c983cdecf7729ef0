# What the scripts for SeaweedFS share; they source it behind common.sh.

weed=$(find_tool LFS_DELTA_TEST_WEED seaweedfs-4.48/weed)

write_identities() {
    cat > "$dir/ids.json" << END
{"identities": [{"name": "test", "actions": ["Admin", "Read", "Write", "List"],
  "credentials": [{"accessKey": "$access_key", "secretKey": "$secret_key"}]}]}
END
}

# Runs one command of SeaweedFS' own shell; what it says tells whether it worked, its exit code does not.
weed_shell() {
    (cd "$dir" && echo "$1" | timeout 20 "$weed" shell -master="127.0.0.1:$master.$master_grpc" \
        -filer="127.0.0.1:$filer.$filer_grpc" 2>&1)
}

make_bucket() {
    answers "$filer" || return
    weed_shell "s3.bucket.create -name $bucket" || true
    weed_shell s3.bucket.list | grep --quiet "$bucket"
}
