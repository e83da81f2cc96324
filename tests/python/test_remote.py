"""Datasets on a real S3-compatible server: moto's, on loopback, read by jmp-train as a user would."""
import json
import logging
import os
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

from faulty import FaultyProxy, SilentProxy
from shard_files import INGEST, ROOT, Converted

try:
    from moto.server import ThreadedMotoServer
except ImportError:
    ThreadedMotoServer = None

TRAIN = Path(os.environ.get("JMP_TRAIN", ROOT / "target" / "release" / "jmp-train")).resolve()
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x"

CONFIG = """kind = "pretrain"
[run]
dir = "run"
device = "cpu"
threads = 1
[model]
preset = "tiny"
[[dataset]]
name = "ani1x"
path = "{path}"
[sampling]
batch_size = 16
[optimizer]
lr = 1e-3
clip = {{ norm = 1.0 }}
[schedule]
epochs = 1
warmup_steps = 0
"""


@unittest.skipIf(ThreadedMotoServer is None, "moto is not installed: `python3 scripts/fetch.py oracles` brings it")
class ObjectStore(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        cls.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        cls.server.start()
        cls.endpoint = "http://127.0.0.1:%d" % cls.server.get_host_and_port()[1]
        cls.shards = Converted("ani1x", "demo/ani1x/ani1x-release.h5")
        cls.put("bucket", b"")
        for path in sorted(cls.shards.dir.rglob("*")):
            if path.is_file():
                cls.put("bucket/sets/ani1x/" + str(path.relative_to(cls.shards.dir)), path.read_bytes())

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.shards.close()

    @classmethod
    def put(cls, name, content):
        headers = {"Authorization": AUTHORIZATION, "Content-Type": "application/octet-stream"}
        request = urllib.request.Request("%s/%s" % (cls.endpoint, name), content, headers, method="PUT")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.cache = Path(self.folder.name) / "cache"

    def environment(self, endpoint=None):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment.update(AWS_ENDPOINT_URL=endpoint or self.endpoint, AWS_ACCESS_KEY_ID="test",
                           AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-east-1", HOME=self.folder.name)
        return environment

    def exported(self, path, code=0):
        """What `jmp-ingest export` writes of a dataset: every row, every column."""
        out = Path(self.folder.name) / ("%d.extxyz" % len(os.listdir(self.folder.name)))
        done = subprocess.run([str(INGEST), "export", str(path), str(out)], capture_output=True, text=True,
                              env=self.environment())
        self.assertEqual(done.returncode, code, done.stderr)
        return out.read_bytes() if code == 0 else done.stderr

    def plan(self, path, *options, endpoint=None, code=0):
        """What `jmp-train plan` prints of a dataset."""
        config = Path(self.folder.name) / "config.toml"
        config.write_text(CONFIG.format(path=path))
        command = [str(TRAIN), "plan", str(config), "--json", "--cache", str(self.cache), *options]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment(endpoint),
                              cwd=self.folder.name)
        self.assertEqual(done.returncode, code, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()] if code == 0 else done.stderr

    def test_same_rows_as_from_disk(self):
        self.assertEqual(self.exported("s3://bucket/sets/ani1x"), self.exported(self.shards.dir))
        # Without credentials the server gives nothing.
        self.assertIn("access refused", self.exported(self.endpoint + "/bucket/sets/ani1x", code=2))

    def test_same_plan_as_from_disk(self):
        local = self.plan(self.shards.dir)
        remote = self.plan("s3://bucket/sets/ani1x/")
        self.assertEqual(remote, local)
        self.assertEqual(remote[-1]["kind"], "stream")
        self.assertTrue(remote[-1]["first"] and all(remote[-1]["bytes"]), remote[-1])
        # And again with what the cache has, while no one listens.
        offline = self.plan("s3://bucket/sets/ani1x", "--set", "cache.offline=true", endpoint="http://127.0.0.1:9")
        self.assertEqual(offline, local)

    def test_the_cache_keeps_its_limit(self):
        objects = lambda: sum(path.stat().st_size for path in (self.cache / "objects").rglob("*") if path.is_file())
        self.plan("s3://bucket/sets/ani1x")
        whole = objects()
        small = self.plan("s3://bucket/sets/ani1x", "--cache-size", str(whole // 2))
        self.assertLessEqual(objects(), whole // 2)
        self.assertEqual(small, self.plan(self.shards.dir))

    def test_what_is_missing_or_damaged_is_named(self):
        self.assertIn("there is no manifest.json in it", self.plan("s3://bucket/nothing", code=2))
        self.assertIn("s3://nowhere/x", self.plan("s3://nowhere/x", code=2))
        for path in sorted(self.shards.dir.rglob("*")):
            if path.is_file():
                content = bytearray(path.read_bytes())
                if path.suffix == ".parquet" and path.parent.name == "data":
                    # The first bytes of the first row group; the footer stays.
                    content[10] ^= 1
                self.put("bucket/damaged/" + str(path.relative_to(self.shards.dir)), bytes(content))
        for told in (self.plan("s3://bucket/damaged", code=2), self.exported("s3://bucket/damaged", code=2)):
            self.assertRegex(told, r"s3://bucket/damaged/data/part-\d+\.parquet: checksum of row group 0, downloaded 3 times")

    def losses(self, path, name, endpoint=None):
        """The losses of a short training, and what was told meanwhile."""
        config = Path(self.folder.name) / (name + ".toml")
        config.write_text(CONFIG.format(path=path).replace('"run"', '"%s"' % name))
        command = [str(TRAIN), "pretrain", str(config), "--cache", str(self.cache)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment(endpoint), cwd=self.folder.name)
        self.assertEqual(done.returncode, 0, done.stderr)
        metrics = (Path(self.folder.name) / name / "metrics.jsonl").read_text().splitlines()
        return [line["loss"] for line in map(json.loads, metrics) if line.get("kind") == "train"], done.stderr

    def test_a_bad_network_changes_nothing_that_is_learnt(self):
        local, _ = self.losses(self.shards.dir, "local")
        host, port = self.endpoint.removeprefix("http://").split(":")
        with FaultyProxy(host, int(port)) as proxy:
            remote, told = self.losses("s3://bucket/sets/ani1x", "remote", proxy.endpoint)
        self.assertTrue(local and remote == local, (local, remote))
        self.assertTrue(all(proxy.done.values()), proxy.done)
        self.assertIn("s3://bucket/sets/ani1x", told)
        self.assertIn("again in", told)

    def test_a_run_that_waits_for_a_silent_server_stops_when_asked(self):
        config, run = Path(self.folder.name) / "silent.toml", Path(self.folder.name) / "silent"
        # Without quadruplets nothing looks at the tags of the first structures before the run begins.
        text = CONFIG.replace('preset = "tiny"', 'preset = "tiny"\ninteractions = {{ quadruplet = false }}')
        config.write_text(text.format(path="s3://bucket/sets/ani1x").replace('"run"', '"silent"'))
        host, port = self.endpoint.removeprefix("http://").split(":")
        # Footers are in the cache then; rows are not.
        self.plan("s3://bucket/sets/ani1x")
        with SilentProxy(host, int(port)) as proxy:
            command = [str(TRAIN), "pretrain", str(config), "--cache", str(self.cache), "--quiet"]
            running = subprocess.Popen(command, env=self.environment(proxy.endpoint), cwd=self.folder.name,
                                       stderr=subprocess.PIPE, text=True)
            self.addCleanup(running.kill)
            metrics = run / "metrics.jsonl"
            until = time.monotonic() + 60
            while not (proxy.asked.is_set() and metrics.exists() and '"session"' in metrics.read_text()):
                self.assertLess(time.monotonic(), until, "the run did not begin")
                time.sleep(0.05)
            running.send_signal(signal.SIGTERM)
            # Far less than the patience with a silent server.
            _, told = running.communicate(timeout=15)
        self.assertEqual(running.returncode, 1, told)
        ended = json.loads(metrics.read_text().splitlines()[-1])
        self.assertEqual((ended["kind"], ended["ending"], ended["step"]), ("finished", "signal", 0))

    def test_several_processes_share_a_cache(self):
        local, found = self.plan(self.shards.dir), []
        readers = [threading.Thread(target=lambda: found.append(self.plan("s3://bucket/sets/ani1x"))) for _ in range(4)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        self.assertEqual(found, 4 * [local])


if __name__ == "__main__":
    unittest.main()
