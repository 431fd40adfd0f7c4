"""The one asyncio HTTP server: requests in, answers out, limits kept."""
