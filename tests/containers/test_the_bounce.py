"""The bounce, for real: `make bounce` prints its record."""

from temporalio.client import Client

from tests.containers.bounce import bounce
from tests.containers.world import World

LOST_S = 11.0  #: a kill costs about 5.5 s; a machine with two cores also starts containers


async def test_a_turn_whose_container_is_killed_in_mid_tool_ends_on_another_worker(
    world: World, temporal_address: str
) -> None:
    """I1, I4: one call, one result, one effect; nobody waits longer than the server needs to notice."""
    record = await bounce(world, await Client.connect(temporal_address), 20)
    print(f"\n{record.words()}")
    assert record.exit_code == 137
    assert record.tool_held_by != record.turn_finished_by
    assert (record.calls, record.results, record.effects) == (1, 1, ["begun"])
    assert record.tool_attempts == 2
    assert record.lost_s < LOST_S
