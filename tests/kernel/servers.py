"""Servers, started as their own users as their packages start them: databases, a directory, a cache.

Each gives the processes worth a visit, and a check that it still does its work.
"""

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kernel.dumps import huge_pages
from kernel.programs import (
    CannotStartError,
    HarmedError,
    Program,
    answers,
    as_user,
    ending,
    need,
    need_system,
    output_of,
    own_folder,
    wait_until,
)


@contextmanager
def postgresql(folder: Path, *settings: str) -> Iterator[Program]:
    """A fresh cluster with a query that keeps its parallel workers and their dynamic shared memory busy."""
    need_system()
    homes = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda home: int(home.parent.name))
    if not homes:
        raise CannotStartError("no PostgreSQL in /usr/lib/postgresql")
    as_own = as_user("postgres")
    own_folder(folder, "postgres")
    data = folder / "data"
    initdb = [homes[-1] / "initdb", "-D", data, "--auth=trust", "--no-sync", "--locale=C.UTF-8"]
    output_of([str(word) for word in initdb], cwd=folder, **as_own)
    server = [homes[-1] / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "shared_buffers=64MB"]
    server += [word for setting in settings for word in ("-c", setting)]
    log = (folder / "log").open("wb")
    client = [str(homes[-1] / "psql"), "-X", "-A", "-t", "-q", "-h", str(folder), "-d", "postgres"]

    def query(text: str) -> str:
        return output_of([*client, "-c", text], cwd=folder, **as_own)

    def activity(backend: str) -> str:
        return query(
            "select pid from pg_stat_activity "
            f"where backend_type = '{backend}' and wait_event = 'PgSleep' order by pid limit 1"
        )

    with log, ExitStack() as stack:
        quiet = {"cwd": folder, "stdout": log, "stderr": log, **as_own}
        process = stack.enter_context(ending([str(word) for word in server], signal.SIGINT, **quiet))
        wait_until((folder / ".s.PGSQL.5432").exists, "PostgreSQL's socket")
        wait_until(lambda: answers(lambda: query("select 1")), "PostgreSQL's first answer")
        query("create table t as select n, repeat('x', 100) as filler from generate_series(1, 200000) n; analyze t")
        busy = "select count(*) from t where pg_sleep(3600) is not null"
        parallel = "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0"
        stack.enter_context(ending([*client, "-c", parallel, "-c", busy], signal.SIGINT, **quiet))
        wait_until(lambda: activity("parallel worker"), "a parallel worker")
        started = query("select pg_postmaster_start_time()")
        pids = {
            "postmaster": process.pid,
            "backend": int(activity("client backend")),
            "parallel worker": int(activity("parallel worker")),
            "checkpointer": int(query("select pid from pg_stat_activity where backend_type = 'checkpointer'")),
        }

        def check() -> None:
            alive = [f"backend {pid}" for pid in pids.values() if not Path(f"/proc/{pid}").exists()]
            if alive or query("select count(*) from t") != "200000":
                raise HarmedError(f"PostgreSQL lost {', '.join(alive) or 'its table'}")
            if query("select pg_postmaster_start_time()") != started or not activity("parallel worker"):
                raise HarmedError("PostgreSQL began anew")

        yield Program({f"postgresql {name}": pid for name, pid in pids.items()}, check)


@contextmanager
def postgresql_huge(folder: Path) -> Iterator[Program]:
    """The same with its shared buffers in huge pages."""
    need_system()
    with huge_pages(folder, 96) as hugetlbfs:
        if hugetlbfs == "-":
            raise CannotStartError("no huge pages here")
        data = folder / "cluster"
        data.mkdir()
        with postgresql(data, "huge_pages=on", "max_worker_processes=4") as running:
            names = {name.replace("postgresql", "postgresql huge"): pid for name, pid in running.pids.items()}
            yield Program(names, running.check)


@contextmanager
def redis(folder: Path) -> Iterator[Program]:
    """Debian's configuration, its own user, and fifty thousand keys."""
    need_system()
    server, client = need("redis-server", "redis-cli")
    as_own = as_user("redis")
    own_folder(folder, "redis")
    socket = folder / "socket"
    configured = ["/etc/redis/redis.conf"] if Path("/etc/redis/redis.conf").exists() else []
    options = ["--port", "0", "--unixsocket", str(socket), "--daemonize", "no", "--dir", str(folder)]
    options += ["--logfile", "", "--pidfile", str(folder / "pid")]
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_own}

    def ask(*words: str) -> str:
        return output_of([client, "-s", str(socket), *words])

    with ending([server, *configured, *options], signal.SIGTERM, **quiet) as process:
        wait_until(socket.exists, "Redis's socket")
        wait_until(lambda: answers(lambda: ask("ping")), "Redis's first answer")
        ask("eval", "for n = 1, 50000 do redis.call('set', 'key:' .. n, string.rep('x', 100)) end", "0")

        def check() -> None:
            if ask("dbsize") != "50000":
                raise HarmedError("Redis lost its keys")

        yield Program({"redis": process.pid}, check)


@contextmanager
def mariadb(folder: Path) -> Iterator[Program]:
    """A fresh data directory and an InnoDB table."""
    need_system()
    server, client, install = need("mariadbd", "mariadb", "mariadb-install-db")
    as_own = as_user("mysql")
    own_folder(folder, "mysql")
    data, path = folder / "data", folder / "socket"
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_own}
    output_of(
        [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", "--skip-test-db"],
        cwd=folder,
        **as_own,
    )
    options = [f"--datadir={data}", f"--socket={path}", f"--pid-file={folder / 'pid'}", "--skip-networking"]

    def query(text: str) -> str:
        return output_of([client, "--no-defaults", "-S", str(path), "-u", "root", "-N", "-B", "-e", text])

    with ending(
        [server, "--no-defaults", *options, "--innodb-buffer-pool-size=64M"], signal.SIGTERM, **quiet
    ) as process:
        wait_until(lambda: answers(lambda: query("select 1")), "MariaDB's first answer")
        query("create database d; use d; create table d.t as select seq n, repeat('x', 100) filler from seq_1_to_50000")

        def check() -> None:
            if query("select count(*) from d.t") != "50000":
                raise HarmedError("MariaDB lost its table")

        yield Program({"mariadb": process.pid}, check)


SLAPD = """
include /etc/ldap/schema/core.schema
pidfile {folder}/pid
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix "dc=read"
directory {folder}/read
maxsize 67108864
database mdb
suffix "dc=write"
directory {folder}/write
maxsize 67108864
dbnosync
envflags writemap
"""


@contextmanager
def slapd(folder: Path) -> Iterator[Program]:
    """A directory on LMDB: one database that is mapped for reading, and one for writing."""
    need_system()
    server, add, cat = need("slapd", "slapadd", "slapcat")
    as_own = as_user("openldap")
    for made in (folder, folder / "read", folder / "write"):
        made.mkdir(exist_ok=True)
        own_folder(made, "openldap")
    config = folder / "slapd.conf"
    config.write_text(SLAPD.format(folder=folder))
    for number, name in enumerate(("read", "write"), 1):
        entries = [f"dn: dc={name}\nobjectClass: dcObject\nobjectClass: organization\no: o\ndc: {name}\n"]
        entries += [f"dn: cn=p{n},dc={name}\nobjectClass: person\ncn: p{n}\nsn: {'x' * 100}\n" for n in range(2000)]
        output_of([add, "-q", "-f", str(config), "-n", str(number)], input="\n".join(entries), cwd=folder, **as_own)
    url = "ldapi://" + str(folder / "socket").replace("/", "%2F")
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **as_own}
    with ending([server, "-f", str(config), "-h", url, "-d", "0"], signal.SIGTERM, **quiet) as process:
        wait_until((folder / "pid").exists, "slapd's pid file")

        def check() -> None:
            for name in ("1", "2"):
                found = output_of([cat, "-f", str(config), "-n", name], cwd=folder, **as_own).count("dn: ")
                if found != 2001 or process.poll() is not None:
                    raise HarmedError(f"slapd lost entries of database {name}: it has {found}")

        check()
        yield Program({"slapd": process.pid}, check)


VCL = """
vcl 4.1;
backend none none;
sub vcl_recv { return (synth(200)); }
"""


@contextmanager
def varnish(folder: Path) -> Iterator[Program]:
    """A cache with memory and a file as its storage; its worker has changed its user."""
    need_system()
    (server,) = need("varnishd")
    vcl, work, path = folder / "vcl", folder / "work", folder / "socket"
    vcl.write_text(VCL)
    storage = ["-s", "malloc,16m", "-s", f"file,{folder / 'storage'},16m"]
    command = [server, "-F", "-n", str(work), "-f", str(vcl), "-a", str(path), "-T", "none", *storage]
    quiet = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    def ask() -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return client.makefile("rb").readline().decode().strip()

    def answered() -> bool:
        try:
            return "200" in ask()
        except OSError:
            return False

    with ending(command, signal.SIGTERM, **quiet) as process:
        wait_until(answered, "Varnish's first answer")
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

        def check() -> None:
            if not answered() or not Path(f"/proc/{worker}").exists():
                raise HarmedError("Varnish no longer answers")

        yield Program({"varnish manager": process.pid, "varnish worker": int(worker)}, check)
