"""Follow the Dockerfile without Docker: its commands in a fresh environment, its server as its user, where nothing but
/tmp can be written (Linux, as root).

    python benchmarks/serve_container.py RUN

The container is a mount namespace: the file system is read-only, /tmp is empty, and the process has user 10001, no
capabilities and no environment but that of the image. The Python of this user is shown to it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx2
from evidence_main import ROOT, Line, line

KEY = "a-key-of-the-evidence"
PORT = 8765
INSIDE = """
set -e
mount --make-rprivate /
mount --bind {python} /mnt
mount -t tmpfs -o mode=755 tmpfs {home}
mkdir -p {python}
mount --bind /mnt {python}
mount -o remount,ro {home}
mount --bind / /
mount -o remount,ro,bind /
mount -t tmpfs tmpfs /tmp
cd /tmp
exec setpriv --reuid {user} --regid {user} --clear-groups --no-new-privs --bounding-set -all --inh-caps -all \\
    env -i PATH={path}:/usr/bin:/bin CHAINRULE_API_KEY={key} {variables} \\
    sh -c '{{ touch /usr/written || touch {root}/written || true; }} 2>&1; exec {command}'
"""


def instructions(dockerfile: Path) -> dict[str, list[str]]:
    """Return the arguments of each instruction of a Dockerfile, in order."""
    text = re.sub(r"\\\n\s*", " ", dockerfile.read_text())
    found: dict[str, list[str]] = {}
    for name, rest in re.findall(r"^([A-Z]+) (.*)$", text, re.M):
        found.setdefault(name, []).append(rest)
    return found


def image(work: Path, told: dict[str, list[str]]) -> Path:
    """Do what COPY and the last RUN say, and return the folder of the installed commands."""
    folder = work / "image"
    folder.mkdir()
    for copied in told["COPY"]:
        for name in copied.split()[:-1]:
            source, to = ROOT / name, folder / name
            shutil.copytree(source, to) if source.is_dir() else shutil.copy(source, to)
    subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
    install = shlex.split(told["RUN"][-1])
    subprocess.run([str(work / "venv" / "bin" / install[0]), "--quiet", *install[1:]], cwd=folder, check=True)
    return work / "venv" / "bin"


def container(run: Path, work: Path) -> Iterator[Line]:
    """Yield what the image's server answers."""
    told = instructions(ROOT / "Dockerfile")
    path = image(work, told)
    shutil.copytree(run, work / "run")
    command = [*json.loads(told["ENTRYPOINT"][0]), str(work / "run"), "--port", str(PORT)]
    script = INSIDE.format(
        user=told["USER"][0],
        python=sys.base_prefix,
        home=Path.home(),
        path=path,
        key=KEY,
        variables=told["ENV"][0],
        root=ROOT,
        command=shlex.join(command),
    )
    process = subprocess.Popen(["unshare", "--mount", "bash", "-c", script], stdout=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{PORT}"
    try:
        for _ in range(600):
            with suppress(httpx2.TransportError):
                httpx2.get(f"{url}/health")
                break
            time.sleep(0.1)
        owner = re.search(r"^Uid:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text(), re.M)
        body = {"prompt": "the", "max_tokens": 4, "seed": 1}
        answer = httpx2.post(f"{url}/v1/completions", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=60)
        closed = httpx2.post(f"{url}/v1/completions", json=body).status_code
        process.terminate()
        status, printed = process.wait(40), process.stdout.read()  # type: ignore[union-attr]
    finally:
        process.kill()
    name = "the commands of the Dockerfile, as its user"
    user = owner[1] if owner else "?"
    yield line("the server's user", told["USER"][0], user, user == told["USER"][0], name)
    refused = printed.count("Read-only file system")
    yield line("writing outside the temporary folder", "refused", f"refused {refused} times", refused == 2, name)
    yield line("a completion with the key", "200", answer.status_code, answer.status_code == 200, name)
    yield line("a completion without it", "401", closed, closed == 401, name)
    yield line("exit status at SIGTERM", "0", status, status == 0, name)


def main() -> None:
    """Print the lines."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        Path(work).chmod(0o755)
        for found in container(Path(sys.argv[1]).resolve(), Path(work)):
            print(
                "ok  " if found["ok"] else "FAIL", f"{found['claim']}: {found['value']} ({found['target']})", flush=True
            )


if __name__ == "__main__":
    main()
