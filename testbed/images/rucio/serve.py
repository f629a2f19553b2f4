"""Makes the catalogue's database once, then becomes the server."""

import os
import sys

from rucio.db.sqla import models
from rucio.db.sqla.session import get_engine, get_session
from rucio.db.sqla.util import build_database, create_base_vo, create_root_account
from sqlalchemy import inspect, select  # type: ignore[import-not-found,unused-ignore]  # of the image


def main() -> None:
    """Build what is missing and hand over to gunicorn."""
    if not inspect(get_engine()).has_table("accounts", schema=models.Account.__table__.schema):
        build_database()
    session = get_session()()
    if session.execute(select(models.VO)).first() is None:
        create_base_vo()
    if session.execute(select(models.Account)).first() is None:
        create_root_account()
    session.close()
    get_engine().dispose()
    gunicorn = "/opt/server/bin/gunicorn"
    options = ["--bind=0.0.0.0:8443", "--threads=8", "--keyfile=/tls/host.key", "--certfile=/tls/host.pem"]
    # Who asked what: benchmarks count the requests of each client.
    options += ["--access-logfile=-"]
    os.execv(gunicorn, [gunicorn, *options, *sys.argv[1:], "rucio.web.rest.flaskapi.v1.main:application"])  # noqa: S606


if __name__ == "__main__":
    main()
