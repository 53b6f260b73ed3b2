"""`chronik-ctl cluster`: the cluster itself."""

from __future__ import annotations

import click

from chronik.ctl.options import shared_options
from chronik.ctl.output import emit
from chronik.ctl.runner import Access, Connecting, run


@click.group()
def cluster() -> None:
    """Look at the cluster."""


@cluster.command()
@shared_options()
def describe(connecting: Connecting) -> None:
    """Show the cluster's id, its controller and its brokers."""

    async def work(access: Access) -> None:
        view = await access.admin.describe_cluster()
        brokers = [
            {
                "id": broker.node_id,
                "host": broker.host,
                "port": broker.port,
                "rack": broker.rack,
                "controller": broker.node_id == view.controller_id,
            }
            for broker in view.brokers
        ]
        data = {"cluster_id": view.cluster_id, "controller_id": view.controller_id, "brokers": brokers}
        columns = ("id", "host", "port", "rack", "controller")
        emit(connecting.output, data, [(f"Cluster {view.cluster_id}", columns, brokers)])

    run(connecting, work)
