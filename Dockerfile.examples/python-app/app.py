"""One page."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index():
    return "Hello from Flask in an image that lbuild built\n"


def check():
    """What HEALTHCHECK runs, and anybody who wants to see the page without a network."""
    response = app.test_client().get("/")
    assert response.status_code == 200, response.status
    print(response.text, end="")
