"""The rooms of the library and the ways between them, checked from the sources."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import advdenoise
from advdenoise.graph.stages import stages

REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src"
LIBRARY = SOURCE / "advdenoise"
SOURCES = sorted(LIBRARY.rglob("*.py"))
RULES = sorted((REPOSITORY / "rules").glob("*.smk"))
EXPERIMENTS = sorted(p.parent for p in REPOSITORY.glob("experiments/*/experiment.yaml"))

# Imports go down this list, or stay on a line.
ORDER = [
    ["__main__"],
    ["contracts"],
    ["api"],
    ["stages"],
    ["reporting"],
    ["graph"],
    ["detectors"],
    ["attributions", "distances"],
    ["purifiers"],
    ["training"],
    ["attacks"],
    ["classifiers", "denoisers"],
    ["inference"],
    ["datasets"],
    ["io"],
    ["ops"],
    ["statistics", "significance", "metrics", "noise", "outputs", "sides", "ranges", "calls"],
    ["errors"],
]
PLACE = {room: number for number, line in enumerate(ORDER) for room in line}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def room_of(module: str) -> str:
    return module.split(".")[1]


def nodes(tree: ast.AST):
    """All nodes of a syntax tree but those below `if TYPE_CHECKING:`."""
    yield tree
    if not (isinstance(tree, ast.If) and ast.unparse(tree.test) == "TYPE_CHECKING"):
        for child in ast.iter_child_nodes(tree):
            yield from nodes(child)


def imports(path: Path) -> set[str]:
    """The library's modules that a source imports, also inside functions.

    Without those that it imports for type checkers alone.
    """
    names_imported = set()
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if (SOURCE / f"{name.replace('.', '/')}.py").is_file():
                names_imported.add(name)
    return {name for name in names_imported if name.startswith("advdenoise.")}


GRAPH = {module_of(path): imports(path) for path in SOURCES if path.name != "__init__.py"}


def test_every_module_has_its_place():
    assert {room_of(module) for module in GRAPH} == set(PLACE)


def test_imports_go_down_the_list_only():
    wrong = [
        f"{module} imports {other}"
        for module, others in GRAPH.items()
        for other in others
        if PLACE[room_of(module)] > PLACE[room_of(other)]
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    done, path = set(), []

    def visit(module):
        assert module not in path, f"{' -> '.join([*path, module])}"
        if module not in done:
            path.append(module)
            for other in GRAPH.get(module, ()):
                visit(other)
            done.add(path.pop())

    for module in GRAPH:
        visit(module)


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_an_experiment_imports_the_library_and_no_other_experiment(folder):
    """From its own folder by relative imports, of packages only those of tables and figures."""
    packages = {"advdenoise", "matplotlib", "numpy", "pandas", *sys.stdlib_module_names}
    for path in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1, f"{path} imports from outside its folder"
                names = [node.module] if node.module else [alias.name for alias in node.names]
                assert all((folder / f"{name}.py").is_file() for name in names), path
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                name = names[0] or names[1]
                assert name.partition(".")[0] in packages, f"{path} imports {name}"


# The pages that list all papers; every other file counts.
LISTS = ("README.md", "CITATION.cff")


@pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
def test_an_experiment_is_named_in_few_files_outside_its_folder(folder):
    """In whatever letters, also as part of a word, and in names of components."""
    own = (f"experiments/{folder.name}/", f"tests/experiments/{folder.name}/")
    command = ["git", "grep", "-il", "--untracked", folder.name]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    files = [name for name in listed.stdout.splitlines() if not name.startswith(own)]
    assert set(files) >= {"README.md", "config/config.yaml"}
    assert len({*files} - {*LISTS}) <= 6, files


def test_attacks_import_no_model():
    models = {"classifiers", "denoisers", "purifiers", "stages"}
    for module, others in GRAPH.items():
        if room_of(module) == "attacks":
            assert not models & {room_of(other) for other in others}, module


def test_no_room_but_the_stages_imports_a_component_by_name():
    """Components are found by configuration; a step of training may use an attack."""
    kinds = ("classifiers", "denoisers", "purifiers", "detectors", "attributions")
    for module, others in GRAPH.items():
        for other in others:
            public = not other.rpartition(".")[2].startswith("_")
            if public and room_of(other) in kinds:
                assert room_of(module) == room_of(other), f"{module} imports {other}"


DYNAMIC = ["__init__.py", "graph/sources.py", "graph/stages.py"]
# Rooms that notebooks reach as attributes: `advdenoise.attacks.gradient.pgd`
PUBLIC = [room for room in advdenoise.__all__ if (LIBRARY / room).is_dir()]


def test_only_sources_stages_and_the_package_itself_import_dynamically():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        dynamic = "importlib.import_module" in text or "__import__" in text
        assert dynamic == (path.relative_to(LIBRARY).as_posix() in DYNAMIC), path


def test_init_files_are_empty_or_import_modules_at_first_use():
    lazy = "from advdenoise import submodules\n\n__getattr__, __dir__ = submodules(__name__)\n"
    for folder in {path.parent for path in SOURCES} - {LIBRARY}:
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        assert text == (lazy if folder.relative_to(LIBRARY).as_posix() in PUBLIC else ""), folder


def test_every_public_module_is_an_attribute():
    for room in PUBLIC:
        for path in (LIBRARY / room).glob("[!_]*.py"):
            assert path.stem in dir(getattr(advdenoise, room)), path


@pytest.mark.parametrize("path", [p for p in RULES if p.stem != "common"], ids=lambda p: p.stem)
def test_a_rule_its_script_log_and_benchmark_share_a_name(path):
    text, name = path.read_text(encoding="utf-8"), path.stem
    assert re.findall(r"^(?:rule (\w+):|    rule:)", text, re.M) in ([name], [""])
    assert f'script=SCRIPTS / "{name}.py",' in text and "python -P {params.script:q} " in text
    assert f'"<logs>/{name}/' in text and f'"<benchmarks>/{name}/' in text
    for directive in ("log:", "benchmark:", "threads:", "resources:", "conda:", "shell:"):
        assert re.search(rf"^\s+{directive}", text, re.M), directive
    assert "temp(" not in text
    main = (REPOSITORY / "scripts" / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert len(main) <= 12
    assert "main(" in main[-1]


def test_every_stage_has_its_rule_and_its_script():
    scripts = sorted(path.stem for path in (REPOSITORY / "scripts").glob("*.py"))
    assert sorted(stages()) == scripts == [path.stem for path in RULES if path.stem != "common"]


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=REPOSITORY)


def without(*packages: str) -> str:
    return (
        "import sys\n"
        f"loaded = {set(packages)!r} & set(sys.modules)\n"
        "assert not loaded, f'imported {loaded}'\n"
    )


def test_parsing_the_workflow_imports_nothing_heavy():
    """Every job parses the Snakefile again."""
    code = (
        "from pathlib import Path\n"
        "from advdenoise.graph import components, configuration, flow as graph, yaml_files\n"
        "from advdenoise.ops import running\n"
        "config = configuration.read(yaml_files.read_files(Path('tests/own.yaml')))\n"
        "flow = graph.Flow(config)\n"
        "for paper in config['experiments']: flow.targets(paper)\n"
        "flow.job('table', {'experiment': 'mine', 'table': 'areas'})\n"
        "flow.code('attack', dataset='digits', seed='0', threat='pgd@cnn4', split='test')({})\n"
    )
    run(code + without("torch", "numpy", "pandas", "pyarrow", "h5py", "sklearn", "matplotlib"))


def test_images_tables_and_figures_run_without_torch():
    code = (
        "from advdenoise.stages import figures, images, rows, table\n"
        "from advdenoise.graph import sources\n"
        "for kind in ('datasets', 'tables', 'figures'):\n"
        "    for module in sources.modules(kind):\n"
        "        sources.imported(kind, module)\n"
        "import importlib, pathlib\n"
        "for file in pathlib.Path().glob('experiments/*/*.py'):\n"
        "    importlib.import_module(f'experiments.{file.parent.name}.{file.stem}')\n"
    )
    run(code + without("torch", "torchvision", "timm", "sklearn", "skimage", "xgboost"))


def test_tables_and_figures_name_torch_nowhere():
    for path in [*SOURCES, *REPOSITORY.glob("experiments/*/*.py")]:
        stage = path.name in ("table.py", "figures.py")
        if stage or path.parent.name in ("tables", "figures") or path.parent in EXPERIMENTS:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in getattr(node, "names", [])]
                names.append(getattr(node, "module", None) or "")
                assert not any(name.split(".")[0] == "torch" for name in map(str, names)), path


@pytest.mark.parametrize("package", ["torchvision", "timm", "xgboost", "sklearn", "skimage"])
def test_slow_packages_are_imported_inside_functions(package):
    """Each costs every job of a stage seconds."""
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                assert not any(str(name).split(".")[0] == package for name in names), path


def test_torch_load_takes_weights_only():
    calls = 0
    for folder in ("src", "tools", "bench", "tests"):
        for path in (REPOSITORY / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    calls += 1
                    inputs = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert inputs.get("weights_only") == "True", path
    assert calls
