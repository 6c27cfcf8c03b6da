"""AWS signatures."""

from __future__ import annotations

from datetime import UTC, datetime

from models.remote.sigv4 import Credentials, sign


def test_the_signature_matches_the_published_example() -> None:
    """From "Signature Version 4 signing process", AWS General Reference: IAM's ListUsers."""
    headers = sign(
        Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        method="GET",
        url="https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        region="us-east-1",
        service="iam",
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )
    assert "wJalr" not in repr(Credentials("AKIDEXAMPLE", "wJalr"))
