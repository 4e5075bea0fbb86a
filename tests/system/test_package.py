"""The packages that launch/package.sh made, and the wheel of launch/wheel.sh, in fresh roots of Debian 12 and 13 and Ubuntu 24.04, which have nothing but what the .deb asks for: a real
model is measured, merged and reported on there, and the merge has the bytes that the build writes here.

Roots are made by debootstrap in build/roots and stay there, with the distributions' packages; each run works on a copy in memory
(1.5 GB).
"""
import os
import pathlib
import shutil
import subprocess
import unittest

from aimerge_command import BINARY, AimergeTest, environment, file_bytes
from test_install import SCORES

ROOT = pathlib.Path(__file__).resolve().parents[2]
ROOTS = ROOT / "build/roots"
PACKAGES = ROOT / "build/packages"
FAMILY = pathlib.Path(os.environ["AIMERGE_FAMILY"])
# The script of debootstrap is that of all Ubuntus: Debian's does not know the newest by name, and has no keys of Ubuntu.
DEBOOTSTRAP = {"bookworm": ["bookworm", "{}"], "trixie": ["trixie", "{}"],
               "noble": ["--no-check-gpg", "--components=main,universe", "noble", "{}", "", "gutsy"]}

CONFIG = """merge_method: ties
base_model: family/base
models:
  - {model: family/instruct, parameters: {weight: 1.0, density: 0.5}}
  - {model: family/math, parameters: {weight: 1.0, density: 0.5}}
dtype: bfloat16
aim: {omega: 0.4, calibration: {corpus: corpus.txt, sequences: 4, sequence_length: 128}}
"""

# $1: where the root is to be, in memory; $2: what debootstrap made; $3: the folder with the job; $4: the models; $5: downloads of apt that
# are kept; $6: what is to run
ENTER = """
mount -t tmpfs none "$1"
cp -a "$2/." "$1"
mount -t proc proc "$1/proc"
mount --rbind /sys "$1/sys"
mount --rbind /dev "$1/dev"
mkdir -p "$1/job" "$5/partial"
mount --bind "$3" "$1/job"
mount --bind "$4" "$1/job/family"
mount --bind "$5" "$1/var/cache/apt/archives"
cp /etc/resolv.conf "$1/etc/resolv.conf"
exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 chroot "$1" sh -exc "$6"
"""

JOB = """
PS4='[$(date +%T)] '
cd /job
apt-get update -qq
# The wheel where there is no MPI.
apt-get install -y -qq --no-install-recommends python3-venv python3-numpy python3-jinja2 > apt-python.log
python3 -m venv --system-site-packages /tmp/env
/tmp/env/bin/pip install --quiet --no-index --no-deps ./aimerge-*.whl
export AIMERGE_CACHE_DIR=/tmp/fresh-wheel
/tmp/env/bin/python -c 'import aimerge; print(aimerge.merge("merge.yaml", "by-python", threads=1)); assert aimerge._libraries.missing'
/tmp/env/bin/python -m aimerge merge merge.yaml --out by-wheels-program --threads 1
unset AIMERGE_CACHE_DIR
apt-get install -y -qq --no-install-recommends ./aimerge.deb > apt.log
if ldd /usr/bin/aimerge /usr/lib/aimerge/libaimerge_torch.so | grep 'not found'; then exit 1; fi
aimerge --version
aimerge merge merge.yaml --out by-deb --threads 1
export AIMERGE_CACHE_DIR=/tmp/fresh # what was measured above is not used again
mpirun --oversubscribe --bind-to none -n 2 aimerge merge merge.yaml --out by-two-ranks --threads 1
mergekit-yaml merge.yaml by-mergekit-yaml -j 1
aimerge calibrate merge.yaml --out log.h5 --threads 1
aimerge report sweep
dpkg --remove aimerge
test ! -e /usr/share/aimerge -a ! -e /usr/lib/aimerge
tar -xf aimerge.tar.gz
mv aimerge-*/ unpacked
AIMERGE_CACHE_DIR=/tmp/fresh-again unpacked/bin/aimerge merge merge.yaml --out by-tar --threads 1
"""


def why_not():
    if len(list(PACKAGES.glob("*.deb"))) != 1:
        return "there is no package: launch/package.sh makes it"
    if len(list(PACKAGES.glob("*.whl"))) != 1:
        return "there is no wheel: launch/wheel.sh makes it"
    if os.geteuid() != 0:
        return "needs root, for chroot"
    return "" if shutil.which("debootstrap") else "there is no debootstrap"


@unittest.skipIf(why_not(), why_not())
class Package(AimergeTest):
    def bare_root(self, name):
        kept = ROOTS / name
        if not kept.exists():
            partial = ROOTS / f"{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            ROOTS.mkdir(exist_ok=True)
            command = ["debootstrap", "--variant=minbase", *(part.format(partial) for part in DEBOOTSTRAP[name])]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                self.skipTest(f"debootstrap {name}: {result.stdout[-300:]}{result.stderr[-300:]}")
            partial.rename(kept)
        return kept

    def job_folder(self, name):
        job = self.folder / name
        (job / "sweep").mkdir(parents=True)
        (job / "merge.yaml").write_text(CONFIG)
        (job / "sweep/points.csv").write_text(SCORES)
        shutil.copy(ROOT / "src/tools/general_text.txt", job / "corpus.txt")
        return job

    def merged_here(self):
        job = self.job_folder("here")
        (job / "family").symlink_to(FAMILY)
        subprocess.run([BINARY, "merge", "merge.yaml", "--out", "out", "--threads", "1"], cwd=job, check=True, capture_output=True,
                       env=environment(self.cache))
        return file_bytes(job / "out")

    def check(self, name):
        bare, job, root = self.bare_root(name), self.job_folder("job"), self.folder / "root"
        (job / "family").mkdir()
        root.mkdir()
        for kind in ("deb", "tar.gz"):
            shutil.copy(next(PACKAGES.glob(f"*.{kind}")), job / f"aimerge.{kind}")
        shutil.copy(next(PACKAGES.glob("*.whl")), job)
        result = subprocess.run(["unshare", "--mount", "sh", "-ec", ENTER, "enter", root, bare, job, FAMILY, ROOTS / f"{name}.downloads", JOB],
                                text=True, capture_output=True)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

        here = self.merged_here()
        self.assertIn("model.safetensors", here)
        self.assertNotEqual(here["model.safetensors"], (FAMILY / "base/model.safetensors").read_bytes())
        for out in ("by-python", "by-wheels-program", "by-deb", "by-two-ranks", "by-mergekit-yaml", "by-tar"):
            self.assertTrue(file_bytes(job / out) == here, f"{name}: {out} has other bytes than the build here")
        self.assertGreater((job / "log.h5").stat().st_size, 100_000)
        page = (job / "sweep/report/report.html").read_text(encoding="utf-8")
        self.assertIn('id="figure-data"', page)  # the interactive figure
        self.assertIn("vegaEmbed", page)
        self.assertTrue((job / "sweep/report/figures/hv-gain.png").read_bytes().startswith(b"\x89PNG"))

    def test_debian_12(self):
        self.check("bookworm")

    def test_debian_13(self):
        self.check("trixie")

    def test_ubuntu_24_04(self):
        self.check("noble")


if __name__ == "__main__":
    unittest.main()
