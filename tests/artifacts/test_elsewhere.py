"""Layers of other accounts: what is made of the answers of whoever has them, good and bad."""

import asyncio
import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from remora.artifacts import elsewhere
from remora.artifacts.elsewhere import ElsewhereError, LayersElsewhere, LayerUnknown

ARN = "arn:aws:lambda:us-east-1:111111111111:layer:l:1"
ZIP = b"any bytes"


class Stage:
    """A server that answers as a test says: a status and a body for the API, and what lies at `/zip`."""

    def __init__(self):
        stage = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                is_zip = self.path == "/zip"
                stage.asked.append(self.path)
                status, body = (200, stage.zip) if is_zip else (stage.status, json.dumps(stage.body).encode())
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + stage.missing_bytes * is_zip))
                if stage.error:
                    self.send_header("x-amzn-ErrorType", stage.error)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.asked = []
        self.status, self.error, self.zip, self.missing_bytes = 200, "", ZIP, 0
        self.body = {"Content": self.content()}

    def content(self, **changes):
        digest = base64.b64encode(hashlib.sha256(ZIP).digest()).decode()
        return {
            "Location": f"{self.endpoint}/zip",
            "CodeSha256": digest,
            "CodeSize": len(ZIP),
            **changes,
        }

    def find(self):
        return asyncio.run(LayersElsewhere(self.endpoint, "us-east-1").find(ARN))

    def download(self):
        async def both():
            layers = LayersElsewhere(self.endpoint, "us-east-1")
            return await layers.download(await layers.find(ARN))

        return asyncio.run(both())


@pytest.fixture
def stage():
    stage = Stage()
    thread = threading.Thread(target=stage.server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield stage
    stage.server.shutdown()
    thread.join()
    stage.server.server_close()


@pytest.mark.slow
def test_a_layer_that_is_shared_is_had(stage):
    assert stage.find().digest == hashlib.sha256(ZIP).hexdigest()
    assert stage.download() == ZIP
    assert stage.asked[0].startswith("/2018-10-31/layers?")


@pytest.mark.slow
@pytest.mark.parametrize("code", ["AccessDeniedException", "AccessDenied"])
def test_one_that_is_not_is_none(stage, code):
    stage.status, stage.error, stage.body = 403, code, {}
    assert stage.find() is None


@pytest.mark.slow
def test_one_that_is_not_there_is_unknown(stage):
    stage.status, stage.error, stage.body = 404, "ResourceNotFoundException", {}
    with pytest.raises(LayerUnknown):
        stage.find()


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        None,
        {},
        *({"CodeSha256": text, "CodeSize": 1, "Location": "http://x"} for text in ("?", "", "AAAA")),
    ],
)
def test_an_answer_that_is_none(stage, content):
    stage.body = {} if content is None else {"Content": content}
    with pytest.raises(ElsewhereError, match="its answer was not understood"):
        stage.find()


@pytest.mark.slow
def test_an_error_of_whoever_has_it(stage):
    stage.status, stage.error, stage.body = 400, "InvalidParameterValueException", {"Message": "no"}
    with pytest.raises(ElsewhereError, match=f"The layer {ARN} could not be had from {stage.endpoint}: .*no"):
        stage.find()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Location": "file:///etc/passwd"}, "it is said to be at file:///etc/passwd"),
        ({"Location": "http://127.0.0.1:1/zip"}, "could not be downloaded"),
        ({"Location": "http://[/zip"}, "could not be downloaded"),
        ({"CodeSize": 262_144_001}, "its 262144001 bytes are more than a layer may have"),
        ({"CodeSize": len(ZIP) - 2}, "its zip is not the one that was offered"),
    ],
)
def test_a_zip_that_is_not_taken(stage, changes, why):
    stage.body = {"Content": stage.content(**changes)}
    with pytest.raises(ElsewhereError) as caught:
        stage.download()
    assert why in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("content", "missing_bytes"), [(b"other", 0), (ZIP + b"more", 0), (ZIP[:3], 6)])
def test_a_zip_that_is_another_one(stage, content, missing_bytes):
    stage.zip, stage.missing_bytes = content, missing_bytes
    with pytest.raises(ElsewhereError):
        stage.download()


@pytest.mark.slow
def test_a_zip_that_comes_too_slowly(stage, monkeypatch):
    monkeypatch.setattr(elsewhere, "DOWNLOAD_S", -1)
    with pytest.raises(ElsewhereError, match="it took more than -1 s"):
        stage.download()
