"""A page that is slow: GET /20 answers after 20 seconds (at most 60), GET / at once. For the bounce demo."""

import asyncio

from aiohttp import web


async def answer(request: web.Request) -> web.Response:
    seconds = min(int(request.match_info.get("seconds", "0")), 60)
    await asyncio.sleep(seconds)
    return web.Response(text=f"this page took {seconds} s\n")


app = web.Application()
app.add_routes([web.get("/", answer), web.get(r"/{seconds:\d+}", answer)])

if __name__ == "__main__":
    web.run_app(app, port=8080, print=None)
