"""An MCP server of the official SDK, on the port that is given: one endpoint answers with JSON, one with event streams."""

import contextlib
import sys

import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount


def server():
    made = MCPServer("tickets")

    @made.tool()
    def search(text: str) -> str:
        """Finds tickets."""
        return f"found: {text}"

    @made.tool()
    def delete(number: int) -> str:
        """Deletes a ticket."""
        return f"deleted {number}"

    return made


class Keyed:
    """Lets in who has the credential of the gateway, and nobody else."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        headers = dict(scope.get("headers", []))
        if scope["type"] == "http" and headers.get(b"authorization") != b"Bearer sk-provider-sdk":
            await PlainTextResponse("no credential", status_code=401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def main(port):
    json, events = server(), server()
    apps = [json.streamable_http_app(json_response=True), events.streamable_http_app()]

    @contextlib.asynccontextmanager
    async def running(_):
        async with json.session_manager.run(), events.session_manager.run():
            yield

    routes = [Mount("/json", apps[0]), Mount("/events", apps[1])]
    app = Starlette(routes=routes, lifespan=running, middleware=[Middleware(Keyed)])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


main(int(sys.argv[1]))
