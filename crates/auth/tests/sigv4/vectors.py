"""Writes vectors.json: the cases of AWS's published Signature Version 4 test suite, and random ones, signed by botocore.

    pip install botocore && python3 vectors.py > vectors.json
"""

import datetime
import json
import random
import urllib.parse

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

SUITE = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, "us-east-1", "service")
HOST = [("host", "example.amazonaws.com")]
WHEN = 1_440_938_160


def signed(name, method, path, query, headers, body, keys=SUITE, seconds=WHEN):
    access, secret, session, region, service = keys
    host = dict(headers)["host"]
    url = f"https://{host}{path}" + (f"?{query}" if query else "")
    request = AWSRequest(method=method, url=url, data=body.encode())
    for header, value in headers:
        request.headers.add_header(header, value)


    stamp = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).replace(tzinfo=None)
    botocore.auth.get_current_datetime = lambda remove_tzinfo=True: stamp
    signer = botocore.auth.SigV4Auth(Credentials(access, secret, session), service, region)
    signer.add_auth(request)
    assert request.headers["X-Amz-Date"] == stamp.strftime("%Y%m%dT%H%M%SZ")
    return {
        "name": name, "method": method, "path": path, "query": query, "headers": headers, "body": body,
        "access": access, "secret": secret, "session": session, "region": region, "service": service,
        "seconds": seconds, "authorization": request.headers["Authorization"],
    }


def suite():
    plain = urllib.parse.quote("-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", safe="")
    form = [*HOST, ("content-type", "application/x-www-form-urlencoded")]
    yield "get-vanilla", "GET", "/", "", HOST, ""
    yield "post-vanilla", "POST", "/", "", HOST, ""
    yield "get-utf8", "GET", "/%E1%88%B4", "", HOST, ""
    yield "get-space", "GET", "/example%20space/", "", HOST, ""
    yield "get-unreserved", "GET", "/" + plain, "", HOST, ""
    yield "get-relative", "GET", "/example/..", "", HOST, ""
    yield "get-relative-relative", "GET", "/example1/example2/../..", "", HOST, ""
    yield "get-slash", "GET", "//", "", HOST, ""
    yield "get-slash-dot-slash", "GET", "/./", "", HOST, ""
    yield "get-slashes", "GET", "//example//", "", HOST, ""
    yield "get-slash-pointless-dot", "GET", "/./example", "", HOST, ""
    yield "get-vanilla-query", "GET", "/", "", HOST, ""
    yield "get-vanilla-empty-query-key", "GET", "/", "Param1=value1", HOST, ""
    yield "get-vanilla-query-order-key-case", "GET", "/", "Param2=value2&Param1=value1", HOST, ""
    yield "get-vanilla-query-order-value", "GET", "/", "Param1=value2&Param1=value1", HOST, ""
    yield "get-vanilla-query-unreserved", "GET", "/", f"{plain}={plain}", HOST, ""
    yield "get-vanilla-utf8-query", "GET", "/", "%E1%88%B4=bar", HOST, ""
    yield "get-header-value-trim", "GET", "/", "", [*HOST, ("x-amz-1", " value1"), ("x-amz-2", ' "a   b   c"')], ""
    yield "post-header-key-sort", "POST", "/", "", [*HOST, ("x-amz-b", "2"), ("x-amz-a", "1")], ""
    yield "post-x-www-form-urlencoded", "POST", "/", "", form, "Param1=value1"


def random_cases(count):
    dice = random.Random(20150830)
    models = ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-pro-v1:0", "meta.llama3-3-70b-instruct-v1:0",
              "arn:aws:bedrock:us-east-1:123456789012:inference-profile/eu.claude-x"]
    for i in range(count):
        region = dice.choice(["us-east-1", "eu-central-1", "ap-northeast-2", "us-gov-west-1"])
        access = "AKIA" + "".join(dice.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", k=16))
        secret = "".join(dice.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=40))
        session = dice.choice([None, "FwoGZXIvYXdzE" + "".join(dice.choices("abcXYZ019+/=", k=200))])
        model = urllib.parse.quote(dice.choice(models), safe="-._~")
        verb = dice.choice(["converse", "converse-stream", "invoke"])
        query = dice.choice(["", "", "b=2&a=1", "a=%3A%2F&A=x%20y"])
        headers = [("host", f"bedrock-runtime.{region}.amazonaws.com"), ("content-type", "application/json")]
        if dice.random() < 0.5:
            headers.append(("x-amzn-bedrock-trace", "ENABLED"))
            headers.append(("x-amz-custom", "a  b"))
        body = json.dumps({"messages": [{"role": "user", "content": [{"text": "".join(dice.choices("aé日 \n", k=9))}]}]})
        headers = [header for header in headers if not header[0].startswith("x-amzn-")]
        keys = (access, secret, session, region, "bedrock")
        yield signed(f"random-{i}", "POST", f"/model/{model}/{verb}", query, headers, body, keys, dice.randrange(1, 1 << 32))


if __name__ == "__main__":
    cases = [signed(*case) for case in suite()] + list(random_cases(60))
    print("[" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]")
