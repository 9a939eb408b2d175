"""The REST API of a real server: reading pictures, errors, and access control."""

from __future__ import annotations

import base64
import json
import re
import socket
import time
from pathlib import Path
from typing import Any

import cv2
import httpx
import jsonschema
import numpy as np
import pytest

import numclip
from numclip.cli.main import main
from numclip.errors import UsageError
from numclip.runtime.contract.model_file import MODELS, graph_sha256
from numclip.server.options import ServeOptions
from numclip.server.serving import listen

from .conftest import TOKEN, Serve, Served
from .test_pictures import png

JPEG = {"Content-Type": "image/jpeg"}


def assert_problem(answer: httpx.Response, status: int, says: str) -> None:
    """Check a problem document (RFC 9457): media type, status, title and detail; the detail says what was expected."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert set(told) == {"type", "title", "status", "detail"}
    assert told["status"] == status
    assert says in told["detail"]


def assert_same(told: dict[str, Any], result: Any) -> None:
    """Check that a result from the server equals that of `numclip.read`, up to rounding."""
    mine = result.to_dict()
    assert len(told["faces"]) == len(mine["faces"])
    for got, wanted in zip(told["faces"], mine["faces"], strict=True):
        assert got.keys() == wanted.keys()
        for key in ("box", "score", "age", "low", "high", "probabilities"):
            assert np.allclose(got[key], wanted[key], atol=1e-5), key
        assert (got["bin"], got["track"], got["fresh"]) == (wanted["bin"], wanted["track"], wanted["fresh"])


def test_a_picture_gets_what_read_says(api: httpx.Client, portrait: bytes) -> None:
    """A picture as the body, with any of three content types, gives the faces, boxes and ages of `numclip.read`, to 1e-5."""
    wanted = numclip.read(portrait)
    assert wanted.faces
    for kind in ({}, JPEG, {"Content-Type": "application/octet-stream"}):
        answer = api.post("/v1/read", content=portrait, headers=kind)
        assert answer.status_code == 200
        (told,) = answer.json()["results"]
        assert_same(told, wanted)
        assert told["source"] == "request"


def test_several_pictures_in_one_request(api: httpx.Client, portrait: bytes, collins: np.ndarray) -> None:
    """Several pictures, as a form with file names or as base64, give results in order."""
    second = cv2.imencode(".png", collins)[1].tobytes()
    wanted = numclip.read([portrait, second])
    form = [("a", ("one.jpg", portrait, "image/jpeg")), ("a", ("two.png", second, "image/png"))]
    told = api.post("/v1/read", files=form).json()["results"]
    assert [each["file"] for each in told] == ["one.jpg", "two.png"]
    text = [base64.b64encode(data).decode() for data in (portrait, second)]
    also = api.post("/v1/read", json={"pictures": text}).json()["results"]
    for results in (told, also):
        for got, result in zip(results, wanted, strict=True):
            assert_same(got, result)


def test_every_answer_is_what_the_document_says(api: httpx.Client, portrait: bytes) -> None:
    """The bodies of all plain operations are valid by their schemas in /openapi.json, which is OpenAPI 3.1."""
    document = api.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/read", {"content": portrait, "headers": JPEG}),
        ("POST", "/v1/gate?threshold=18&nonce=n1", {"content": portrait, "headers": JPEG}),
        ("GET", "/v1/models", {}),
        ("GET", "/v1/sources", {}),
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/v1/sources/7", {}),
    ]
    for method, path, options in asked:
        answer = api.request(method, path, **options)
        shape = (
            re.sub(r"\d+", "{id}", path.partition("?")[0].removeprefix("/v1"))
            if "/7" in path
            else path.partition("?")[0]
        )
        operation = document["paths"][shape if shape.startswith("/v1") or "z" in shape else "/v1" + shape][
            method.lower()
        ]
        content = operation["responses"][str(answer.status_code)]["content"]
        schema = content[answer.headers["content-type"]]["schema"]
        jsonschema.validate(answer.json(), {**schema, "components": document["components"]})


def test_the_gate_answers_with_the_nonce(api: httpx.Client, portrait: bytes) -> None:
    """The gate answers yes for Hopper at 18, with the nonce, the model's file and the request."""
    answer = api.post("/v1/gate", params={"threshold": 18, "nonce": "x-1"}, content=portrait).json()
    look = numclip.read(portrait).faces[0].look
    assert look is not None
    assert answer["answer"] == "yes"
    assert answer["p"] == pytest.approx(look.at_least(18), abs=1e-4)
    assert (answer["nonce"], answer["threshold"], answer["challenge"], answer["signed"]) == ("x-1", 18, None, None)
    assert answer["graph_sha256"] == graph_sha256(MODELS / "age-nano.onnx")


def test_the_gate_asks_where_it_does_not_see_one_person(api: httpx.Client, hopper: np.ndarray) -> None:
    """With no person or two the gate answers ask, with a reason; a threshold without a gate is an error that lists the others."""
    for image, reason in (
        (np.zeros((200, 200, 3), np.uint8), "no face"),
        (np.hstack([hopper, hopper]), "several faces"),
    ):
        data = cv2.imencode(".png", image)[1].tobytes()
        answer = api.post("/v1/gate?threshold=18", content=data).json()
        assert (answer["answer"], answer["reason"], answer["p"]) == ("ask", reason, None)
    assert_problem(api.post("/v1/gate?threshold=17", content=b"x"), 422, "a threshold that")


def test_max_faces_and_max_pixels(serve: Serve, hopper: np.ndarray) -> None:
    """With --max-faces 1, two people still make the gate ask, and a read lists one. With --max-pixels 300000000, 300.015
    million pixels are refused by that limit, with their size."""
    data = cv2.imencode(".png", np.hstack([hopper, hopper]))[1].tobytes()
    with serve("--max-faces", "1", "--max-pixels", "300000000").client() as client:
        answer = client.post("/v1/gate?threshold=18", content=data).json()
        assert (answer["answer"], answer["reason"], answer["p"]) == ("ask", "several faces", None)
        (read,) = client.post("/v1/read", content=data).json()["results"]
        assert len(read["faces"]) == 1
        large = client.post("/v1/read", content=png(20001, 15000, b"x"))
        assert_problem(large, 413, "at most 300 million pixels, got 20001 x 15000")


def test_an_upload_that_is_given_up_leaves_no_trace(server: Served, api: httpx.Client, portrait: bytes) -> None:
    """Clients that leave in the middle of a body, a picture or a form of the login, leave nothing in the log, and no status 500."""
    ended = re.compile(r'numclip_requests_total\{[^}]*status="400"[^}]*\} (\d+)')

    def given_up() -> int:
        return sum(int(count) for count in ended.findall(api.get("/metrics").text))

    before = given_up()
    for path in ("/v1/read", "/v1/gate?threshold=18", "/v1/login"):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/jpeg\r\nContent-Length: 4000\r\n\r\n"
            )
            client.sendall(head.encode() + portrait[:2000])
            time.sleep(0.3)
    deadline_s = time.monotonic() + 20
    while given_up() < before + 3 and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert given_up() == before + 3 and 'status="500"' not in api.get("/metrics").text
    assert "Traceback" not in server.said and "failed" not in server.said


def test_models_say_what_they_are(api: httpx.Client) -> None:
    """The age model and the finder are described by name, hash and gates, without local paths."""
    answer = api.get("/v1/models")
    age, faces = answer.json()["models"]
    assert (age["name"], age["unit"], age["calibrated"]) == ("age-nano", "years", True)
    assert age["graph_sha256"] == graph_sha256(MODELS / "age-nano.onnx")
    assert "18" in age["gates"]
    assert (faces["name"], faces["kind"]) == ("faces-nano", "faces")
    assert str(MODELS) not in answer.text


@pytest.mark.parametrize(
    ("options", "status", "says"),
    [
        ({"content": b""}, 422, "empty"),
        ({"content": b"hello"}, 415, "first bytes"),
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "text/plain"),
        ({"json": {"pictures": ["https://example.com/a.jpg"]}}, 422, "fetches no addresses"),
        ({"json": {"url": "http://169.254.169.254/"}}, 422, "fetches no addresses"),
        ({"json": {"pictures": []}}, 422, "from 1 to 16"),
        ({"json": {"pictures": [""] * 17}}, 422, "from 1 to 16"),
        ({"json": [1]}, 422, "expected"),
        ({"content": b"{", "headers": {"Content-Type": "application/json"}}, 422, "not JSON"),
        ({"content": b"[" * 900, "headers": {"Content-Type": "application/json"}}, 422, "not JSON"),
        ({"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 422, "too many values"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "multipart"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422, "expected"),
        ({"files": [("a", ("a.jpg", b"hello"))] * 17}, 422, "multipart"),
    ],
)
def test_bad_bodies_are_told_what_was_expected(api: httpx.Client, options: Any, status: int, says: str) -> None:
    """Each bad body gets one sentence that says what was expected, and the server keeps working."""
    assert_problem(api.post("/v1/read", **options), status, says)


def test_one_bad_picture_of_several_is_named(api: httpx.Client, portrait: bytes) -> None:
    """If the second of two bodies is not a picture, the error names it."""
    form = [("a", ("one.jpg", portrait)), ("a", ("two.jpg", b"hello"))]
    assert_problem(api.post("/v1/read", files=form), 415, "pictures.1: ")


@pytest.mark.parametrize("path", ["/nope", "/v1/sources/0", "/v1/sources/0/frame.jpg", "/v1/sources/..%2f..%2fetc%2fpasswd", "/../../etc/passwd", "/app.css/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd"])  # fmt: skip
def test_what_is_not_there_is_404(api: httpx.Client, path: str) -> None:
    """Unknown paths and sources, and path traversal, get 404."""
    request = httpx.Request("GET", api.base_url.join("/"))
    request.url = request.url.copy_with(raw_path=path.encode())
    assert_problem(api.send(request), 404, "")


def test_other_methods_are_405(api: httpx.Client) -> None:
    """Other methods get 405 with the header Allow."""
    answer = api.delete("/v1/read")
    assert_problem(answer, 405, "")
    assert answer.headers["allow"] == "POST"


def test_every_answer_carries_the_security_headers(api: httpx.Client) -> None:
    """Pages, results and errors have the security headers: no framing, sniffing, caching or foreign content."""
    for answer in (
        api.get("/"),
        api.get("/v1/models"),
        api.get("/nope"),
        api.get("/", headers={"Host": "evil.example"}),
    ):
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "'unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_metrics_count_what_was_asked(serve: Serve, portrait: bytes) -> None:
    """/metrics counts two pictures, one bad body and one unknown path."""
    with serve().client() as client:
        client.post("/v1/read", files=[("a", ("a.jpg", portrait)), ("b", ("b.jpg", portrait))])
        client.post("/v1/read", content=b"hello")
        client.get("/nope/secret")
        text = client.get("/metrics").text
    for line in (
        'numclip_requests_total{path="/v1/read",status="200"} 1.0',
        'numclip_requests_total{path="/v1/read",status="415"} 1.0',
        'numclip_requests_total{path="unknown",status="404"} 1.0',
        "numclip_pictures_total 2.0",
        "numclip_queue_pictures 0.0",
    ):
        assert line in text.splitlines()
    assert float(re.search(r"^numclip_faces_total (\S+)", text, re.M)[1]) >= 2  # type: ignore[index]
    assert "secret" not in text


def test_a_page_of_another_site_gets_nothing(api: httpx.Client, portrait: bytes) -> None:
    """Another site's name in Host (DNS rebinding) gets 421, its Origin on a POST 403; the server's own origin is accepted."""
    for host in ("evil.example", "evil.example:80", f"localhost.evil.example:{api.base_url.port}"):
        assert_problem(api.get("/v1/models", headers={"Host": host}), 421, "localhost")
    assert_problem(api.post("/v1/read", content=portrait, headers={"Origin": "https://evil.example"}), 403, "--cors")
    assert_problem(api.post("/v1/read", content=portrait, headers={"Origin": "null"}), 403, "--cors")
    own = f"http://localhost:{api.base_url.port}"
    answer = api.post("/v1/read", content=portrait, headers={"Origin": own, "Host": own.removeprefix("http://")})
    assert answer.status_code == 200


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null", "http://a]b"])
def test_an_origin_that_is_no_address_is_refused(api: httpx.Client, portrait: bytes, origin: str) -> None:
    """An Origin that cannot be parsed is another site: 403."""
    answer = api.post("/v1/read", content=portrait, headers={"Origin": origin})
    assert_problem(answer, 403, "expected a page of this server")


def test_a_named_site_may_ask(serve: Serve, portrait: bytes) -> None:
    """--cors accepts requests from the named origin, with the CORS header, and no others."""
    site = "https://kiosk.example"
    with serve("--cors", site).client() as client:
        answer = client.post("/v1/read", content=portrait, headers={"Origin": site})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == site
        asked = {
            "Origin": site,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization",
        }
        assert client.options("/v1/read", headers=asked).status_code == 200
        other = client.post("/v1/read", content=portrait, headers={"Origin": "https://evil.example"})
        assert_problem(other, 403, "--cors")


@pytest.mark.parametrize("way", ["--token", "--token-file", "environment"])
def test_a_token_is_asked_for(serve: Serve, tmp_path: Path, portrait: bytes, way: str) -> None:
    """With the token in any of three ways a request gets 200; without it, or with a wrong or partial one, 401. Health needs no token."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    flags = {"--token": ("--token", TOKEN), "--token-file": ("--token-file", str(tmp_path / "token"))}.get(way, ())
    served = serve(*flags, **({"NUMCLIP_TOKEN": TOKEN} if way == "environment" else {}))
    with served.client() as client:
        for shown in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": "Bearer"}, {"Authorization": TOKEN}, {"Authorization": "Bearer \xff"}, {"Cookie": f"numclip={TOKEN}"}, {"Cookie": "numclip="}, {"Cookie": ";;=,"}):  # fmt: skip
            headers = {name.encode(): value.encode("latin-1") for name, value in shown.items()}
            answer = client.post("/v1/read", content=portrait, headers=headers)
            assert_problem(answer, 401, "Bearer TOKEN")
            assert answer.headers["www-authenticate"] == "Bearer"
        for path in ("/v1/models", "/v1/sources", "/metrics", "/v1/sources/0/preview"):
            assert client.get(path).status_code == 401
        for path in ("/healthz", "/readyz", "/openapi.json", "/"):
            assert client.get(path).status_code == 200
        answer = client.post("/v1/read", content=portrait, headers={"Authorization": f"bearer {TOKEN}"})
        assert answer.status_code == 200
    assert TOKEN not in served.said


def test_the_page_logs_in_with_a_cookie(serve: Serve) -> None:
    """POST /v1/login with the token sets a cookie that scripts cannot read, other sites do not send, and that is not the token."""
    with serve("--token", TOKEN).client() as client:
        assert_problem(client.post("/v1/login", json={"token": "wrong"}), 401, "token")
        answer = client.post("/v1/login", json={"token": TOKEN})
        assert answer.status_code == 204
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/v1/models").status_code == 200


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--host", "0.0.0.0"), "expected a token"),
        (("--host", "::"), "expected a token"),
        (("--token", "short"), "at least 16 characters, got 5"),
        (("--token", "é" + 39 * "a"), "printable ASCII characters alone"),
        (("--token", TOKEN, "--open-to-all"), "choose one"),
        (("--cors", "*"), "--cors ORIGIN"),
        (("--cors", "https://a.example/path"), "--cors ORIGIN"),
        (("--queue", "0"), "--queue"),
        (("--queue", "4"), "at least --max-pictures (16)"),
        (("--timeout-s", "0"), "--timeout-s"),
        (("--port", "70000"), "--port"),
        (("--gate", "17"), "a threshold that"),
        (("no-such-file.mp4",), "correct the path"),
        (("--host", "203.0.113.1", "--open-to-all"), "cannot listen there"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(
    flags: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong flags give one sentence and a non-zero exit code; an address that other machines can reach needs a token or --open-to-all."""
    assert main(["serve", "--port", "0", *flags]) != 0
    assert says in capsys.readouterr().err


def test_a_folder_of_pictures_is_no_live_source(
    tmp_path: Path, portrait: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of pictures as a live source is an error that points to POST /v1/read."""
    (tmp_path / "a.jpg").write_bytes(portrait)
    assert main(["serve", "--port", "0", str(tmp_path)]) != 0
    assert "expected" in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_sentence(api: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    """A port in use is an error in one sentence."""
    assert main(["serve", "--port", str(api.base_url.port)]) != 0
    assert "choose another" in capsys.readouterr().err


def test_other_addresses_are_allowed_in_words() -> None:
    """Other addresses are accepted with a token or open_to_all; loopback addresses need neither."""
    assert ServeOptions(host="0.0.0.0", open_to_all=True).open_to_all
    assert ServeOptions(host="0.0.0.0", token=TOKEN).token
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert ServeOptions(host=host).is_local
    with pytest.raises(UsageError):
        ServeOptions(host="kiosk.example")


def test_results_are_json_lines_of_the_same_keys(api: httpx.Client, portrait: bytes) -> None:
    """Results have the keys of `FrameResult.to_dict`."""
    (told,) = api.post("/v1/read", content=portrait).json()["results"]
    assert list(told) == list(numclip.read(portrait).to_dict())
    assert json.dumps(told)


def test_a_response_does_not_wait_for_an_acknowledgement() -> None:
    """A connection of the server has TCP_NODELAY: without it, head and body of a response are 40 ms apart."""
    with listen(ServeOptions(port=0)) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
