"""A bot that answers /echo with what follows, to the user only. Arguments: the URL of the server, a token of the bot.

The owner makes the bot, registers the command, and adds the bot to a conversation: docs/bots.md shows how.
"""

import asyncio
import sys

from veza_client import Session, VezaClient


async def main(url: str, token: str) -> None:
    async with VezaClient(Session.of_bot(url, token)) as client:
        async for event in client.events():
            if event["type"] == "command_invoked" and event["data"]["command"] == "echo":
                await client.call.answer_command(
                    invocation_id=event["data"]["invocation_id"],
                    visibility="private",
                    content=event["data"]["text"] or "(nothing)",
                )


asyncio.run(main(sys.argv[1], sys.argv[2]))
