"""Make Temporal ready for agent-session: a namespace, and the search attribute AgentSessionNeeds. What is there stays.

ADDRESS and NAMESPACE from the environment; PATIENCE_S (300) is how long a server that starts is waited for.
"""

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable

from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

ATTRIBUTE, RETENTION_S = "AgentSessionNeeds", 3 * 86_400
KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD


async def register(address: str, namespace: str) -> None:
    client = await Client.connect(address, namespace=namespace)
    await make_namespace(client)
    if not await has_attribute(client):
        try:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=namespace, search_attributes={ATTRIBUTE: KEYWORD})
            )
        except RPCError as error:
            if error.status != RPCStatusCode.ALREADY_EXISTS:
                raise
    if not await has_attribute(client):
        raise RuntimeError(f"{ATTRIBUTE} is not to be seen yet")


async def make_namespace(client: Client) -> None:
    request = RegisterNamespaceRequest(
        namespace=client.namespace, workflow_execution_retention_period=Duration(seconds=RETENTION_S)
    )
    try:
        await client.workflow_service.register_namespace(request)
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            raise


async def has_attribute(client: Client) -> bool:
    """Errors: RPCError, also while a new namespace is not known to the whole server."""
    request = ListSearchAttributesRequest(namespace=client.namespace)
    found = await client.operator_service.list_search_attributes(request)
    return found.custom_attributes.get(ATTRIBUTE) == KEYWORD


async def until_done(work: Callable[[], Awaitable[None]], patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return await work()
        except (RPCError, RuntimeError, OSError) as error:
            if time.monotonic() > deadline:
                raise
            print(f"not yet: {str(error).splitlines()[0][:200]}", flush=True)
            await asyncio.sleep(1)


def main() -> int:
    address, namespace = os.environ["ADDRESS"], os.environ.get("NAMESPACE", "default")
    try:
        asyncio.run(until_done(lambda: register(address, namespace), float(os.environ.get("PATIENCE_S", "300"))))
    except (RPCError, RuntimeError, OSError) as error:
        print(f"Temporal at {address} cannot be made ready: {str(error).splitlines()[0][:300]}", file=sys.stderr)
        return 1
    print(f"namespace {namespace} has {ATTRIBUTE}")
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Temporal's SDK may crash while the interpreter ends
