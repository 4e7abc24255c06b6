"""What huggingface_hub makes of a hub and a cache, for oracle_test.go.

oracle.py download REPO FILE…   downloads the files; prints their paths
oracle.py find REPO FILE…       finds them without asking the hub; prints their paths
oracle.py scan                  prints what the cache holds, as JSON
"""
import json
import sys

import huggingface_hub as hub

what, args = sys.argv[1], sys.argv[2:]
if what == "download":
    for name in args[1:]:
        print(hub.hf_hub_download(args[0], name))
elif what == "find":
    for name in args[1:]:
        print(hub.hf_hub_download(args[0], name, local_files_only=True))
elif what == "scan":
    info = hub.scan_cache_dir()
    print(json.dumps({
        "warnings": [str(w) for w in info.warnings],
        "repos": {r.repo_id: {
            "size": r.size_on_disk,
            "refs": {name: rev.commit_hash for name, rev in r.refs.items()},
            "files": sorted(f.file_name for rev in r.revisions for f in rev.files),
        } for r in info.repos},
    }))
