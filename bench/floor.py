"""The floor: the smallest Temporal workflow that can do the job, with a worker in a process of its own.

A signal brings a message, empty activities do its work, an update waits for the end. No transcript, no
retries, no state worth the name. For turns with tools it runs as many empty activities in the same order.
Everything stands at the SDK's defaults; must not know anything of the product.

    python -m bench.floor ADDRESS TASK_QUEUE
"""

import asyncio
import os
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client, WorkflowUpdateFailedError
from temporalio.service import RPCError
from temporalio.worker import Worker

PLAIN: tuple[int, ...] = (1,)  #: a turn's stages: how many activities run side by side in each
LIMIT = timedelta(seconds=600)
TURN_S = 300
RUN_TURNS = 50  #: turns before continue-as-new: a session that lives on needs it, too


@activity.defn
async def nothing() -> None:
    return


@workflow.defn
class Floor:
    """One conversation's worth of nothing."""

    @workflow.init
    def __init__(self, done: int) -> None:
        self._waiting: list[list[int]] = []
        self._sent = self._done = done

    @workflow.run
    async def run(self, done: int) -> None:
        while self._done < done + RUN_TURNS:
            await workflow.wait_condition(lambda: bool(self._waiting))
            for together in self._waiting.pop(0):
                await asyncio.gather(
                    *(workflow.execute_activity(nothing, start_to_close_timeout=LIMIT) for _ in range(together))
                )
            self._done += 1
        await workflow.wait_condition(workflow.all_handlers_finished)
        workflow.continue_as_new(self._done)

    @workflow.signal
    def receive(self, stages: list[int]) -> None:
        self._waiting.append(stages)
        self._sent += 1

    @workflow.update
    async def until(self) -> int:
        """Returns when everything that was sent so far is done."""
        goal = self._sent
        await workflow.wait_condition(lambda: self._done >= goal)
        return self._done


class FloorClient:
    """Sends and waits, as the product's client does."""

    def __init__(self, temporal: Client, queue: str) -> None:
        self._temporal, self._queue = temporal, queue

    async def turn(self, key: str, stages: tuple[int, ...] = PLAIN) -> None:
        await self._temporal.start_workflow(
            Floor.run, 0, id=key, task_queue=self._queue, start_signal="receive", start_signal_args=[list(stages)]
        )
        async with asyncio.timeout(TURN_S):
            while True:
                try:
                    await self._temporal.get_workflow_handle(key).execute_update(Floor.until)
                    return
                except (RPCError, WorkflowUpdateFailedError):
                    await asyncio.sleep(0.05)  # it has just continued as new


async def work(address: str, queue: str) -> None:
    client = await Client.connect(address)
    worker = Worker(client, task_queue=queue, workflows=[Floor], activities=[nothing], max_cached_workflows=10_000)
    print("ready", flush=True)
    await worker.run()


if __name__ == "__main__":
    try:
        asyncio.run(work(*sys.argv[1:]))
    finally:
        os._exit(0)
