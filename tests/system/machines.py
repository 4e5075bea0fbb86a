"""Machines for tests: network namespaces with cables between them that can be cut, made slow, or given holes. Each has its host name, address, /tmp and
/dev/shm; of all other files, it sees what the test sees unless something is mounted over it. All of them, and whatever runs on them, live in one
PID namespace, which ends with the test.

    with Machines(2, shared=folder) as machines:
        machines.run(1, ["hostname"])                                   # machine1
        machines.run(1, [*machines.mpirun({1: 2, 2: 1}), "aimerge", ...], env={**os.environ, **machines.mpi_settings()})
        machines.cut(2)
"""
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

SLOW_CABLE = str(pathlib.Path(__file__).parent / "slow_cable.py")
# Reads lines until there are no more, and collects whoever loses its parent.
INIT = "while read -r _; do :; done"
# Arguments: number, count, folder of the machines, folders that all share. In a mount namespace of its own.
SET_UP = r"""
set -e
number=$1 count=$2 state=$3; shift 3
hostname "machine$number"
n=10
for folder in "$state" "$@"; do eval "exec $n<'$folder'"; n=$((n + 1)); done
mount -t tmpfs -o size=64m none /dev/shm
mount -t tmpfs -o size=512m none /tmp
n=10
for folder in "$state" "$@"; do mkdir -p "$folder"; mount --no-canonicalize --rbind "/proc/self/fd/$n" "$folder"; eval "exec $n<&-"; n=$((n + 1)); done
mount --bind "$state/hosts" /etc/hosts
ip link set lo up
echo "$$" > "$state/pid$number.part"
mv "$state/pid$number.part" "$state/pid$number"
exec sleep infinity
"""


def why_no_machines():
    """Why namespaces, veth pairs or a bridge cannot be had here; empty where they can."""
    if missing := [program for program in ("ip", "unshare", "nsenter", "mount") if not shutil.which(program)]:
        return f"{', '.join(missing)}: not installed"
    if os.geteuid() != 0:
        return "machines of network namespaces need root"
    tried = subprocess.run(["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "sh", "-c",
                            "hostname x && mount -t tmpfs none /tmp && ip link add switch type bridge && ip link add cable1 type veth peer name cable2"],
                           text=True, capture_output=True)
    return "" if tried.returncode == 0 else f"namespaces are refused here: {tried.stderr.strip()}"


class Machines:
    """Machine I (from 1) has host name machineI and address 10.77.0.I."""

    def __init__(self, count, shared):
        """@param shared folders below /tmp that all machines see"""
        self.count = count
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="aimerge-machines-"))
        self.shared = [str(folder) for folder in shared]

    def __enter__(self):
        hosts = [f"10.77.0.{i} machine{i}" for i in range(1, self.count + 1)]
        (self.state / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        self.init = subprocess.Popen(["unshare", "--pid", "--mount", "--net", "--fork", "--kill-child", "--mount-proc", "bash", "-c", INIT],
                                     stdin=subprocess.PIPE)
        try:
            self.pid = self.child_of(self.init.pid)
            self.in_switch("ip link add switch type bridge && ip link set switch up && ip link set lo up")
            self.holders = [self.start_machine(i) for i in range(1, self.count + 1)]
            for number in range(1, self.count + 1):
                self.plug(number)
            self.write_agent()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.init.stdin.close()
        try:
            self.init.wait(10)
        except subprocess.TimeoutExpired:
            self.init.kill()
            self.init.wait()
        for holder in getattr(self, "holders", []):
            holder.wait()
            if holder.stdout:
                holder.stdout.close()
        shutil.rmtree(self.state, ignore_errors=True)

    @staticmethod
    def child_of(pid):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if children := pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                return int(children[0])
            time.sleep(0.005)
        raise RuntimeError("unshare started nothing")

    def inside(self):
        """Into the PID namespace, beside the switch."""
        return ["nsenter", "--target", str(self.pid), "--pid", "--mount", "--net"]

    def in_switch(self, script):
        subprocess.run([*self.inside(), "sh", "-c", script], check=True, capture_output=True, text=True)

    def start_machine(self, number):
        holder = subprocess.Popen([*self.inside(), "unshare", "--net", "--uts", "--ipc", "--mount", "bash", "-c", SET_UP, "machine", str(number),
                                   str(self.count), str(self.state), *self.shared], stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (self.state / f"pid{number}").exists():
            if holder.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"machine {number} did not start")
            time.sleep(0.01)
        return holder

    def pid_of(self, number):
        """As the machines see it."""
        return (self.state / f"pid{number}").read_text().strip()

    def plug(self, number):
        """A new cable between the switch and the machine."""
        self.in_switch(f"ip link add cable{number} type veth peer name eth0 netns {self.pid_of(number)}")
        self.connect(number)

    def connect(self, number):
        enter = f"nsenter --target {self.pid_of(number)} --net ip"
        self.in_switch(f"ip link set cable{number} master switch up && {enter} addr add 10.77.0.{number}/24 dev eth0 && {enter} link set eth0 up")
        self.wait_for_carrier(number)

    def slow(self, number, seconds, loss):
        """Another cable, on which every frame takes so long, in either direction, if it is not one of the share that is lost."""
        self.unplug(number)
        cable = subprocess.Popen([*self.inside(), sys.executable, SLOW_CABLE, f"cable{number}", self.pid_of(number), str(seconds), str(loss)],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.holders.append(cable)
        if cable.stdout.readline() != "ready\n":
            raise RuntimeError("no slow cable")
        self.connect(number)

    def unplug(self, number):
        """The machine's network interface is gone."""
        self.in_switch(f"ip link del cable{number}")

    def cut(self, number):
        """Every packet from and to the machine is lost, and neither side is told."""
        self.in_switch(f"ip link set cable{number} down")

    def heal(self, number):
        self.in_switch(f"ip link set cable{number} up")
        self.wait_for_carrier(number)

    def wait_for_carrier(self, number):
        deadline = time.monotonic() + 10
        while not re.search("LOWER_UP.* state (UP|UNKNOWN)", self.run(number, ["ip", "link", "show", "eth0"]).stdout):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cable of machine {number} does not come up")
            time.sleep(0.02)
        for other in range(1, self.count + 1):
            self.run(other, ["ip", "neigh", "flush", "all"])  # who was unreachable

    def write_agent(self):
        """What mpirun calls in place of ssh: agent HOST COMMAND... As there, the command finds a new environment."""
        self.agent = self.state / "agent"
        self.agent.write_text('#!/bin/bash\npid=$(< "${0%/*}/pid${1#machine}")\nshift\n'
                              'exec env -i PATH="$PATH" HOME="$HOME" nsenter --target "$pid" --net --uts --ipc --mount bash -c "$*"\n')
        self.agent.chmod(0o755)

    def cover(self, number, folder, options=""):
        """Another file system in the folder's place, empty, for that machine alone."""
        self.run(number, ["mount", "-t", "tmpfs", *(["-o", options] if options else []), "none", folder], check=True)

    def mpi_settings(self):
        """What mpirun needs to know of these machines, as environment variables."""
        return {"OMPI_MCA_plm_rsh_agent": str(self.agent), "OMPI_MCA_oob_tcp_if_include": "eth0", "OMPI_MCA_btl_tcp_if_include": "eth0"}

    @staticmethod
    def mpirun(ranks, exported=()):
        """@param ranks {machine: ranks} @param exported names of environment variables"""
        hosts = ",".join(f"machine{number}:{count}" for number, count in ranks.items())
        return ["mpirun", "-n", str(sum(ranks.values())), "--host", hosts, "--map-by", "slot", "--bind-to", "none",
                *(word for name in exported for word in ("-x", name))]

    def command(self, number, command, cwd="/"):
        return ["nsenter", "--target", str(self.pid), "--pid", "--mount", "nsenter", "--target", self.pid_of(number), "--net", "--uts", "--ipc", "--mount",
                "sh", "-c", 'cd "$0" && exec "$@"', str(cwd), *map(str, command)]

    def run(self, number, command, cwd="/", **keywords):
        """subprocess.run() on that machine."""
        return subprocess.run(self.command(number, command, cwd), text=True, capture_output=True, **keywords)

    def start(self, number, command, cwd="/", **keywords):
        """subprocess.Popen() on that machine, in a session of its own."""
        return subprocess.Popen(self.command(number, command, cwd), text=True, stdin=subprocess.DEVNULL, start_new_session=True, **keywords)

    def left_over(self):
        """What jobs have left in the /tmp and /dev/shm of the machines."""
        shared = {str(parent) for folder in [self.state, *self.shared] for parent in [pathlib.Path(folder), *pathlib.Path(folder).parents]}
        found = []
        for number in range(1, self.count + 1):
            listed = self.run(number, ["find", "/tmp", "/dev/shm", "-mindepth", "1", "-maxdepth", "2", "-not", "-name", "ompi.*"]).stdout.split()
            found += [f"machine{number}:{path}" for path in listed if path not in shared and not path.startswith(tuple(f"{s}/" for s in [self.state, *self.shared]))]
        return found

    def processes(self):
        """{pid here: command} of whatever lives on the machines, themselves apart."""
        space = os.readlink(f"/proc/{self.pid}/ns/pid")
        found = {}
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
                if os.readlink(process / "ns/pid") != space or state == "Z" or int(process.name) == self.pid:
                    continue
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            command = shlex.join(word.decode(errors="replace") for word in words if word)
            if command and command != "sleep infinity" and SLOW_CABLE not in command:
                found[int(process.name)] = command
        return found
