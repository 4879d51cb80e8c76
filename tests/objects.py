"""Storage by S3's interface over TLS, for the lab: runs on `outside1`, see `tests/secondsite.py`.

    python3 objects.py PORT BUCKET FOLDER

It is moto (Debian's `python3-moto`), which checks signatures and policies, and keeps all in memory.
FOLDER has `server.pem`, its certificate and key; there it writes `credentials`, the one pair that
opens the bucket. SIGHUP: it takes the certificate anew; SIGUSR1: it writes `files.json`, bytes by
path. Behind each it makes the file `done`.
"""

import json
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

from moto.iam.access_control import IAMRequestBase
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ACCOUNT, REGION, PARTITION, USER = "123456789012", "us-east-1", "aws", "saoluu"


def opened(folder: Path, bucket: str) -> None:
    """Make the bucket, and who may use it and nothing else."""
    s3_backends[ACCOUNT][PARTITION].create_bucket(bucket, REGION)
    people = iam_backends[ACCOUNT][PARTITION]
    people.create_user(REGION, USER)
    arn = f"arn:aws:s3:::{bucket}"
    allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": [arn, f"{arn}/*"]}
    policy = {"Version": "2012-10-17", "Statement": [allowed]}
    people.put_user_policy(USER, "bucket", json.dumps(policy))
    key = people.create_access_key(USER)
    (folder / "credentials").write_text(f"{key.access_key_id} {key.secret_access_key}\n")


def signed(request: IAMRequestBase) -> object:
    """What was signed: moto has decoded the query, in which a slash is encoded (SigV4)."""
    path, mark, query = request._path.partition("?")
    request._path = path + mark + query.replace("/", "%2F")
    return _SIGNED(request)


_SIGNED = IAMRequestBase._create_aws_request


def main(port: int, bucket: str, folder: Path) -> None:
    """Serve until the end."""
    opened(folder, bucket)
    IAMRequestBase._create_aws_request = signed
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

    def show(*_: object) -> None:
        context.load_cert_chain(folder / "server.pem")
        (folder / "done").touch()

    def count(*_: object) -> None:
        keys = s3_backends[ACCOUNT][PARTITION].buckets[bucket].keys
        found = {f"/{name}": key.size for name, key in keys.items()}
        (folder / "files.json").write_text(json.dumps(found))
        (folder / "done").touch()

    show()
    signal.signal(signal.SIGHUP, show)
    signal.signal(signal.SIGUSR1, count)
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("0.0.0.0", port, application, threaded=True, ssl_context=context)  # noqa: S104
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
