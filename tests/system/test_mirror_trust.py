"""The mirror and whom it talks to: TLS, users, another cluster, data from the past."""

import shutil
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from etcd3 import etcdrpc
from mirror_rig import Nodes, Recorder, eventually, failure, on_loop, same

from switch.mirror.errors import ForeignCluster, MirrorError, RevisionWentBack
from switch.mirror.mirror import Mirror
from switch.mirror.sealing import Sealer
from switch.mirror.settings import EtcdSettings
from tools.etcd import Etcd


@on_loop
async def test_two_mirrors_over_tls_with_client_certificates(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd", tls=True) as etcd:
        files = etcd.certificates
        assert files is not None
        tls = {"ca_file": str(files.ca), "cert_file": str(files.client_cert), "key_file": str(files.client_key)}
        async with Nodes(tmp_path, etcd.endpoints, **tls) as nodes:
            a, b = nodes.make("a"), nodes.make("b")
            await a.begin()
            await b.begin()
            a.offer("over tls")
            await a.recorder.until(lambda: a.recorder.carried)
            await same(a, b)
            await eventually(lambda: a.version)
            assert [warning for warning in a.warnings if "cannot read" in warning] == []


@on_loop
async def test_a_user_is_authenticated_and_again_when_its_token_is_no_longer_valid(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    with Etcd(tmp_path / "etcd") as etcd:
        await enable_users(etcd)
        user = {"user": "switch", "password_file": str(tmp_path / "password")}
        async with Nodes(tmp_path, etcd.endpoints, **user) as nodes:
            a, b = nodes.make("a"), nodes.make("b")
            await a.begin()
            await b.begin()
            a.offer("as switch")
            await a.recorder.until(lambda: a.recorder.carried)
            for node in (a, b):
                node.recorder.again = node.offer
            etcd.kill(0)  # its tokens live in its memory
            etcd.start(0, wait=False)
            a.offer("as switch again")
            await a.recorder.until(lambda: len(a.recorder.carried) == 2)
            await same(a, b)
        (tmp_path / "password").write_text("wrong\n")
        async with Nodes(tmp_path, etcd.endpoints, **user) as nodes:
            with pytest.raises(MirrorError, match="does not accept user switch"):
                await nodes.make("a").start()


@on_loop
async def test_an_endpoint_of_another_cluster_is_refused(tmp_path: Path) -> None:
    with Etcd(tmp_path / "one") as one, Etcd(tmp_path / "two", token="other") as two:
        async with Nodes(tmp_path, (*one.endpoints, *two.endpoints), append_timeout_ms=200) as nodes:
            a = nodes.make("a")
            await a.begin()
            one.kill(0)
            a.offer("to whom?")
            assert isinstance(await failure(a), ForeignCluster)


@on_loop
async def test_an_etcd_that_lost_its_newest_data_is_refused(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with Nodes(tmp_path, etcd.endpoints) as nodes:
            a, b = nodes.make("a"), nodes.make("b")
            await a.begin()
            await b.begin()
            etcd.stop(0)
            shutil.copytree(etcd.directory / "m0", tmp_path / "backup")
            etcd.start(0)
            for node in (a, b):
                node.recorder.again = node.offer
                node.offer(node.node)
                await node.recorder.until(lambda node=node: node.recorder.carried)
            etcd.stop(0)
            shutil.rmtree(etcd.directory / "m0")
            shutil.copytree(tmp_path / "backup", etcd.directory / "m0")
            etcd.start(0, wait=False)
            for node in (a, b):
                assert isinstance(await failure(node), RevisionWentBack)


@on_loop
async def test_a_failed_mirror_writes_nothing_any_more(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        async with Nodes(tmp_path, etcd.endpoints) as nodes:
            a, newer = nodes.make("a"), nodes.make("a")
            await a.begin()
            await newer.begin()
            await failure(a)
            a.offer("nothing")
            with pytest.raises(MirrorError):
                await a.write_snapshot(a.index, iter([b"x"]), {})
            with pytest.raises(MirrorError):
                await a.take_fence_of("a", 2, lambda: b"\x92\x01\x90")
            newer.offer("alive")
            await newer.recorder.until(lambda: newer.recorder.carried)
            assert newer.recorder.proposals() == ["alive"]


@pytest.mark.parametrize(
    "wrong",
    [{"endpoints": ()}, {"endpoints": ("ftp://x",)}, {"endpoints": ("127.0.0.1:2379",)}],
)
@on_loop
async def test_settings_that_cannot_work_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    async with Nodes(tmp_path, ("http://127.0.0.1:1",)) as nodes:
        with pytest.raises(ValueError, match="endpoint"):
            Mirror(EtcdSettings(**wrong), "p", "a", Sealer(nodes.key_file), Recorder())


async def enable_users(etcd: Etcd) -> None:
    """Users root and switch; switch may use /switch/ only."""
    async with grpc.aio.insecure_channel(etcd.endpoints[0].removeprefix("http://")) as channel:
        auth = etcdrpc.AuthStub(channel)
        await auth.RoleAdd(etcdrpc.AuthRoleAddRequest(name="switch"))
        permission = etcdrpc.auth_pb2.Permission(permType=2, key=b"/switch/", range_end=b"/switch0")
        await auth.RoleGrantPermission(etcdrpc.AuthRoleGrantPermissionRequest(name="switch", perm=permission))
        for name, role in (("root", "root"), ("switch", "switch")):
            await auth.UserAdd(etcdrpc.AuthUserAddRequest(name=name, password="secret"))
            await auth.UserGrantRole(etcdrpc.AuthUserGrantRoleRequest(user=name, role=role))
        await auth.AuthEnable(etcdrpc.AuthEnableRequest())
