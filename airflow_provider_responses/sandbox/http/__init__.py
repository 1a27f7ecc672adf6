"""The imitated server: routes, validation of requests, bodies and streams of responses, and how they are delivered."""
