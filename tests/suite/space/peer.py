"""Runs real deltaglider for the tests: one JSON request per line of standard input, one answer per line."""

import json
import sys
import warnings
from pathlib import Path

from deltaglider.app.cli.main import create_service
from deltaglider.core.models import DeltaSpace, ObjectKey

warnings.simplefilter("ignore")
service = create_service(log_level="CRITICAL", endpoint_url=sys.argv[1])


def work(request):
    bucket = request["bucket"]
    if request["do"] == "put":
        return service.put(Path(request["path"]), DeltaSpace(bucket, request["prefix"])).operation
    if request["do"] == "get":
        service.get(ObjectKey(bucket, request["key"]), Path(request["path"]))
        return "got"
    result = service.verify(ObjectKey(bucket, request["key"]))
    return result.message if result.valid else f"invalid: {result.message}"


for line in sys.stdin:
    try:
        answer = {"done": work(json.loads(line))}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
