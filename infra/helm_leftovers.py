"""What an interrupted `up` leaves of a Helm release: Helm's record of it, which keeps the name taken.

Helm writes the record before the first object of the chart, and the engine writes its state after the last
one. An `up` that is killed in between leaves a record that the state does not know, and with it every later
install ends in "cannot re-use a name that is still in use" (`availableName` in pkg/action/install.go of Helm
3.20). Without the record, an install takes over the objects that carry the release's name in their
annotations (`existingResourceConflict` in pkg/action/validate.go), as all that Helm made do.
"""

from __future__ import annotations

from urllib.parse import quote

import pulumi

from infra.cluster_api import ClusterApi


def remove(api: ClusterApi, namespace: str, release: str) -> None:
    """Delete the records of a release that the state does not know.

    Nobody else is at work on it: the namespace is this stack's, and the state has a lock.
    """
    records = f"/api/v1/namespaces/{namespace}/secrets"
    # The labels of Helm's own storage driver (`newSecretsObject` in pkg/storage/driver/secrets.go).
    found = api.get(f"{records}?labelSelector={quote(f'owner=helm,name={release}')}") or {}
    for record in found.get("items", []):
        metadata = record["metadata"]
        pulumi.log.info(
            f"taking over the Helm release {release!r} in {namespace!r}, which an interrupted `pulumi up` "
            f"left {metadata['labels'].get('status', 'unfinished')}"
        )
        api.delete(f"{records}/{metadata['name']}")
