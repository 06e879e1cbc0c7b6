"""The recorder, on small programs: what the engine would see, nothing lost and nothing invented."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline.errors import OfflineError, ProgramError
from offline.graph import UNKNOWN, Graph
from offline.recorder import evaluate
from tests.graph.conftest import MakeProject, urn

THING = "test:index:Thing"

EDGES = """
    import pulumi
    from resources import Group, Remote, Thing

    provider = pulumi.ProviderResource("test", "provider", {})
    on = pulumi.ResourceOptions(provider=provider)
    group = Group("group", pulumi.ResourceOptions(providers=[provider]))
    inside = pulumi.ResourceOptions(parent=group)
    first = Thing("first", {"size": 3, "half": 0.5, "on": True, "tags": {"a": ["x", 1]}}, inside)
    second = Thing("second", opts=inside)
    by_arn = Thing("by-arn", {"target": first.arn}, on)
    by_computed = Thing("by-computed", {"target": first.computed}, on)
    by_json = Thing("by-json", {"policy": pulumi.Output.json_dumps({"Resource": first.arn})}, on)
    Thing("after-group", opts=pulumi.ResourceOptions(provider=provider, depends_on=[group]))
    remote = Remote("remote", {"given": "x", "cluster": first})
    Thing("by-remote", {"endpoint": remote.endpoint}, on)
    Thing("by-reference", {"other": first}, on)

    seen = []
    first.id.apply(seen.append)
    pulumi.export("id", first.id)
    pulumi.export("computed", first.computed)
    pulumi.export("password", pulumi.Output.secret("hunter2"))
"""

OPTIONS = """
    import pulumi
    from resources import Group, Thing

    base = Thing("base")
    Thing("all", {"a": 1}, pulumi.ResourceOptions(
        protect=True,
        retain_on_delete=True,
        delete_before_replace=False,
        deleted_with=base,
        ignore_changes=["a"],
        replace_on_changes=["b"],
        aliases=["urn:pulumi:dev::demo::test:index:Thing::old", pulumi.Alias(name="older")],
        custom_timeouts=pulumi.CustomTimeouts(create="5m", delete="30m"),
        additional_secret_outputs=["key"],
        import_="i-1",
        version="1.2.3",
    ))
    outer = Group("outer")
    inner = Group("inner", pulumi.ResourceOptions(parent=outer))
    Thing("deep", opts=pulumi.ResourceOptions(parent=inner))
    files = {"code": pulumi.FileArchive("./src"), "readme": pulumi.StringAsset("hello")}
    Thing("files", files)
    existing = Thing("existing", {"x": 1}, pulumi.ResourceOptions(id="i-2"))
    Thing("by-existing", {"target": existing.id, "found": existing.computed})
"""

SECRETS = """
    import pulumi
    from resources import Thing

    token = pulumi.Config().require_secret("token")
    nested = pulumi.Config().require_secret_object("nested")
    Thing("user", {
        "text": token,
        "header": pulumi.Output.concat("Bearer ", token),
        "map": pulumi.Output.secret({"password": "hunter2", "ports": [1, 2]}),
        "nested": nested,
        "later": pulumi.Output.secret(Thing("base").computed),
    })
    pulumi.export("marked", pulumi.runtime.is_config_secret("demo:token"))
    pulumi.export("plain", pulumi.Config().get("plain"))
"""
SECRET_CONFIG = """
    config:
      demo:token: {secure: v1:abcdefg}
      demo:nested: {user: joe, password: {secure: v1:hijklmn}}
      plain: 8
"""


@pytest.fixture(scope="module")
def edges_project(make_project: MakeProject) -> Path:
    return make_project(EDGES)


@pytest.fixture(scope="module")
def edges(edges_project: Path) -> Graph:
    return evaluate("dev", project_dir=edges_project)


@pytest.fixture(scope="module")
def preview(edges_project: Path) -> Graph:
    return evaluate("dev", project_dir=edges_project, unknowns=True)


@pytest.fixture(scope="module")
def options(make_project: MakeProject) -> Graph:
    return evaluate("dev", project_dir=make_project(OPTIONS))


@pytest.fixture(scope="module")
def secrets(make_project: MakeProject) -> Graph:
    return evaluate("dev", project_dir=make_project(SECRETS, config=SECRET_CONFIG))


def test_values_keep_their_types(edges: Graph) -> None:
    inputs = edges.one(THING, "first").inputs
    assert inputs == {"size": 3, "half": 0.5, "on": True, "tags": {"a": ["x", 1]}}
    assert isinstance(inputs["size"], int)


@pytest.mark.parametrize(
    ("name", "key"), [("by-arn", "target"), ("by-computed", "target"), ("by-json", "policy")]
)
def test_an_output_leaves_an_edge(edges: Graph, name: str, key: str) -> None:
    resource = edges.one(THING, name)
    assert resource.dependencies == [urn(edges, "first")]
    assert resource.property_dependencies == {key: [urn(edges, "first")]}


def test_an_arn_can_be_read_in_what_the_program_builds_from_it(edges: Graph) -> None:
    arn = edges.one(THING, "by-arn").inputs["target"]
    assert arn.startswith("arn:test:")
    assert json.loads(edges.one(THING, "by-json").inputs["policy"]) == {"Resource": arn}


def test_an_output_that_nobody_can_know_is_unknown(edges: Graph) -> None:
    assert edges.one(THING, "by-computed").inputs == {"target": UNKNOWN}
    assert edges.outputs["computed"] == UNKNOWN


def test_depending_on_a_component_means_its_children(edges: Graph) -> None:
    assert edges.one(THING, "after-group").dependencies == sorted([urn(edges, "first"), urn(edges, "second")])


def test_a_remote_component_keeps_its_edges(edges: Graph) -> None:
    (remote,) = edges.by_name("remote")
    assert remote.remote
    assert not remote.custom
    user = edges.one(THING, "by-remote")
    assert user.inputs == {"endpoint": UNKNOWN}
    assert user.dependencies == [remote.urn]


def test_a_resource_as_a_value_is_its_urn(edges: Graph) -> None:
    reference = {"$resource": urn(edges, "first")}
    assert edges.one(THING, "by-reference").inputs == {"other": reference}
    assert edges.one(THING, "by-reference").dependencies == [urn(edges, "first")]
    (remote,) = edges.by_name("remote")
    assert remote.inputs == {"given": "x", "cluster": reference}
    # The SDK leaves these edges to the plugin's own resources; a program that needs one says depends_on.
    assert remote.dependencies == []


def test_a_provider_is_inherited_from_the_parent(edges: Graph) -> None:
    provider = edges.one("pulumi:providers:test").urn
    assert edges.one(THING, "first").provider == provider
    assert edges.one(THING, "by-arn").provider == provider
    assert edges.by_name("group")[0].providers == {"test": provider}


def test_stack_outputs_are_recorded_without_the_secrets(edges: Graph) -> None:
    assert set(edges.outputs) == {"id", "computed", "password"}
    assert edges.outputs["id"].startswith("first-")
    assert edges.outputs["password"] == {"$secret": None}


def test_a_first_preview_knows_no_output(preview: Graph) -> None:
    assert preview.outputs == {"id": UNKNOWN, "computed": UNKNOWN, "password": {"$secret": None}}
    assert preview.one(THING, "by-arn").inputs == {"target": UNKNOWN}
    assert preview.one(THING, "by-json").inputs == {"policy": UNKNOWN}


def test_a_first_preview_has_the_same_resources_and_edges(edges: Graph, preview: Graph) -> None:
    def shape(graph: Graph) -> list[tuple[str, list[str], str | None, str | None]]:
        return [(item.urn, item.dependencies, item.parent, item.provider) for item in graph.resources]

    assert shape(preview) == shape(edges)


def test_functions_given_to_apply_do_not_run_in_a_first_preview(make_project: MakeProject) -> None:
    project = make_project("""
        from resources import Thing
        Thing("base").id.apply(lambda id_: Thing("within"))
    """)
    assert evaluate("dev", project_dir=project, unknowns=True).by_name("within") == []
    assert len(evaluate("dev", project_dir=project).by_name("within")) == 1


def test_every_option_is_recorded(options: Graph) -> None:
    resource = options.one(THING, "all")
    assert resource.protect
    assert resource.retain_on_delete
    assert resource.delete_before_replace is False
    assert resource.deleted_with == urn(options, "base")
    assert resource.ignore_changes == ["a"]
    assert resource.replace_on_changes == ["b"]
    assert resource.custom_timeouts == {"create": "5m", "delete": "30m"}
    assert resource.additional_secret_outputs == ["key"]
    assert resource.import_id == "i-1"
    assert resource.version == "1.2.3"
    old, older = resource.aliases
    assert old == "urn:pulumi:dev::demo::test:index:Thing::old"
    assert isinstance(older, dict)
    assert older["name"] == "older"


def test_files_are_told_from_texts(options: Graph) -> None:
    assert options.one(THING, "files").inputs == {
        "code": {"$archive": {"path": "./src"}},
        "readme": {"$asset": {"text": "hello"}},
    }


def test_hooks_are_recorded_and_do_not_run(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        from resources import Thing

        def stop(_):
            raise RuntimeError("a hook ran")

        hook = pulumi.ResourceHook("drain", stop)
        hooks = pulumi.ResourceHookBinding(before_create=[hook], before_delete=[hook])
        Thing("hooked", opts=pulumi.ResourceOptions(hooks=hooks))
    """)
    graph = evaluate("dev", project_dir=project)
    assert graph.one(THING, "hooked").hooks == {"before_create": ["drain"], "before_delete": ["drain"]}


def test_a_urn_names_the_types_of_all_ancestors_but_the_stack(options: Graph) -> None:
    assert options.resources[0].urn == "urn:pulumi:dev::demo::pulumi:pulumi:Stack::demo-dev"
    assert urn(options, "outer") == "urn:pulumi:dev::demo::test:index:Group::outer"
    assert urn(options, "deep") == (
        "urn:pulumi:dev::demo::test:index:Group$test:index:Group$test:index:Thing::deep"
    )


def test_a_resource_that_exists_already_is_only_read(options: Graph) -> None:
    existing = options.one(THING, "existing")
    assert existing.external
    assert existing.id == "i-2"
    assert existing.inputs == {"x": 1}
    user = options.one(THING, "by-existing")
    assert user.inputs == {"target": "i-2", "found": UNKNOWN}
    assert user.dependencies == [existing.urn]


def test_no_secret_is_in_the_graph_but_its_shape_is(secrets: Graph) -> None:
    assert secrets.one(THING, "user").inputs == {
        "text": {"$secret": None},
        "header": {"$secret": None},
        "map": {"$secret": {"password": None, "ports": [None, None]}},
        "nested": {"$secret": {"user": None, "password": None}},
        "later": {"$secret": UNKNOWN},
    }
    text = json.dumps(secrets.to_json())
    assert "hunter2" not in text
    assert "placeholder" not in text
    assert "v1:" not in text


def test_the_program_sees_which_values_are_secrets(secrets: Graph) -> None:
    assert secrets.outputs["marked"] is True


def test_a_key_without_a_namespace_is_the_projects(secrets: Graph) -> None:
    assert secrets.outputs["plain"] == "8"


def test_what_the_program_says_is_recorded_and_what_it_prints_does_no_harm(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        from resources import Thing
        print("hello")
        pulumi.log.warn("no longer supported", Thing("base"))
        pulumi.log.debug("noise")
    """)
    graph = evaluate("dev", project_dir=project)
    assert [(item.severity, item.message, item.urn) for item in graph.diagnostics] == [
        ("warning", "no longer supported", urn(graph, "base"))
    ]


def test_an_asynchronous_program_is_run_to_its_end(make_project: MakeProject) -> None:
    project = make_project("""
        import asyncio
        import pulumi
        from resources import Thing

        async def main():
            await asyncio.sleep(0)
            return {"id": Thing("late").id}

        pulumi.run(main)
    """)
    graph = evaluate("dev", project_dir=project)
    assert graph.outputs["id"].startswith("late-")
    assert graph.one(THING, "late").parent == graph.resources[0].urn


def test_two_resources_of_one_urn_are_refused(make_project: MakeProject) -> None:
    project = make_project("""
        from resources import Thing
        Thing("twin")
        Thing("twin")
    """)
    with pytest.raises(OfflineError, match="two resources have the type 'test:index:Thing', the name 'twin'"):
        evaluate("dev", project_dir=project)


def test_the_programs_own_refusal_reaches_the_user_alone(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        class ConfigError(pulumi.RunError): pass
        raise ConfigError("demo:size: 0 is too small; at least 1")
    """)
    with pytest.raises(OfflineError) as caught:
        evaluate("dev", project_dir=project)
    assert str(caught.value) == "demo:size: 0 is too small; at least 1"


def test_a_refusal_within_apply_is_a_refusal(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        def check(value):
            raise pulumi.RunError("too short")
        pulumi.Output.secret("x").apply(check)
    """)
    with pytest.raises(OfflineError, match=r"^too short$"):
        evaluate("dev", project_dir=project)


def test_a_broken_program_shows_its_own_frames_only(make_project: MakeProject) -> None:
    project = make_project("import helper\nhelper.fail()", helper="def fail():\n    return 1 / 0")
    with pytest.raises(ProgramError) as caught:
        evaluate("dev", project_dir=project)
    trace = str(caught.value)
    assert "ZeroDivisionError" in trace
    assert f'File "{project}/__main__.py", line 2' in trace
    assert "runpy" not in trace


def test_a_program_that_leaves_its_interpreter_is_broken(make_project: MakeProject) -> None:
    with pytest.raises(ProgramError, match="exit status 3"):
        evaluate("dev", project_dir=make_project("raise SystemExit(3)"))


def test_an_output_in_a_text_is_a_mistake(make_project: MakeProject) -> None:
    project = make_project("""
        import pulumi
        from resources import Thing
        pulumi.export("text", f"id {Thing('base').id}")
    """)
    with pytest.raises(ProgramError, match="Output"):
        evaluate("dev", project_dir=project)


def test_projects_with_modules_of_one_name_do_not_meet(make_project: MakeProject) -> None:
    program = "import pulumi, infra\npulumi.export('which', infra.NAME)"
    one, two = (make_project(program, infra=f"NAME = {name!r}") for name in ("one", "two"))
    assert evaluate("dev", project_dir=one).outputs == {"which": "one"}
    assert evaluate("dev", project_dir=two).outputs == {"which": "two"}


def test_configuration_of_a_surrounding_pulumi_run_is_not_seen(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG", '{"demo:size": "1"}')
    monkeypatch.setenv("PULUMI_CONFIG_DEMO_SIZE", "2")
    project = make_project("import pulumi\npulumi.export('size', pulumi.Config().get('size'))")
    assert evaluate("dev", project_dir=project).outputs.get("size") is None


def test_overrides_replace_values_and_can_be_secret(make_project: MakeProject) -> None:
    project = make_project(
        """
        import pulumi
        config = pulumi.Config()
        pulumi.export("size", config.require_int("size"))
        pulumi.export("names", config.require_object("names"))
        pulumi.export("key", config.require_secret("key"))
        """,
        config="config: {demo:size: 1, demo:names: [a]}",
    )
    overrides = {"size": 2, "demo:names": ["b", "c"], "key": {"secure": "x"}}
    graph = evaluate("dev", project_dir=project, config_overrides=overrides)
    assert graph.outputs == {"size": 2, "names": ["b", "c"], "key": {"$secret": None}}
