"""The house keeps its rules: what lies where, what may import what, and what happens on import."""

import ast
import functools
import os
import pathlib
import re
import subprocess
import sys

import pytest

from medgan_jax.review import catalogue

ROOT = pathlib.Path(__file__).resolve().parents[1]
LIBRARY = sorted((ROOT / "medgan_jax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
TOP_LEVEL = {
    "CITATION.cff",
    "LICENSE",
    "README.md",
    "experiments",
    "medgan_jax",
    "notebooks",
    "pyproject.toml",
    "requirements.txt",
    "tests",
}

EVERYWHERE = {"axes", "errors"}
LEAVES = {"nn", "losses", "physics", "phantoms", "metrics", "evaluation"}
# What each part of the library may import from the rest of it, beside EVERYWHERE.
MAY_IMPORT = {
    "axes": set(),
    "errors": set(),
    "game": set(),
    "arguments": set(),
    "configuration": set(),
    "configuration_reader": {"arguments"},
    "schedules": set(),
    "turns": {"game"},
    "nn": set(),
    **{leaf: {"nn"} for leaf in LEAVES - {"nn"}},
    # Phantoms are images, which physics makes.
    "phantoms": {"nn", "physics"},
    "models": LEAVES,
    "inference": LEAVES,
    "data": {"physics", "phantoms", "models.sizes"},
    # What experiments share.
    **{
        each: {"game", "inference", "models"} | LEAVES
        for each in ("baselines", "classical", "growing", "measures", "perceptual", "rivals")
    },
    "forward_models": {"data.intensity"} | LEAVES,
    "texture_measures": {"game", "measures"} | LEAVES,
    "synthetic_shares": {"game", "measures"},
    "judges": {"data.pipeline", "game", "measures", "models"} | LEAVES,
    "auto_context": {"data", "game", "inference", "nn"},
    "training": {"game", "configuration", "data.pipeline", "data.formats", "review.catalogue"},
    "shortcuts": {"configuration", "data", "game", "models", "review.code", "review.records", "training"}
    | LEAVES,
}
# Dependencies that move fast are kept in one place each.
AT_HOME = {
    "orbax": {"medgan_jax/training/checkpoints.py"},
    "grain": {"medgan_jax/data/pipeline.py"},
    "tensorflow_datasets": {
        "medgan_jax/data/prepared.py", "medgan_jax/data/builders/", "medgan_jax/data/record_files.py"
    },
    "tyro": {"medgan_jax/arguments.py"},
    "tensorboardX": {"medgan_jax/training/writers.py"},
    "jax.sharding": {"medgan_jax/training/parallel.py"},
    "tensorflow": set(),
    "torch": set(),
}
RUN_CODE_WHEN_READ = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}


def place(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), str(path))


@functools.cache
def imports(path):
    """Dotted names of all that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name, package):
    return name == package or name.startswith(f"{package}.")


def part_of(path):
    """The part of the library that a file belongs to: a package, or a module beside the packages."""
    return path.relative_to(ROOT / "medgan_jax").with_suffix("").parts[0]


@functools.cache
def tracked():
    try:
        command = ["git", "-C", str(ROOT), "ls-files", "-z"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]


# --- what lies where ---


def test_the_top_level_holds_what_the_design_names_and_nothing_else():
    top = {name.split("/")[0] for name in tracked()}
    assert {name for name in top if not name.startswith(".")} == TOP_LEVEL


def test_no_tracked_file_is_large():
    assert [name for name in tracked() if (ROOT / name).stat().st_size > 2**20] == []


def test_every_module_has_a_docstring():
    modules = [path for path in LIBRARY + EXPERIMENTS if path.name != "__init__.py"]
    assert [place(path) for path in modules if not ast.get_docstring(tree(path))] == []


def public_functions(path):
    """Functions and methods whose names have no underscore, in classes that have none either."""
    for node in tree(path).body:
        methods = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for function in [node, *methods]:
            if isinstance(function, ast.FunctionDef) and not function.name.startswith("_"):
                yield function


def test_every_public_function_of_a_leaf_has_a_docstring():
    silent = [
        f"{place(path)}: {function.name}"
        for path in LIBRARY
        if part_of(path) in LEAVES
        for function in public_functions(path)
        if function.name != "setup" and not ast.get_docstring(function)
    ]
    assert silent == []


# --- what may import what ---


@pytest.mark.parametrize("part", sorted(MAY_IMPORT))
def test_a_part_imports_only_what_lies_below_it(part):
    allowed = {f"medgan_jax.{name}" for name in MAY_IMPORT[part] | EVERYWHERE | {part}}
    allowed |= {"medgan_jax.__version__"}
    # Nothing imports the command of a part, which may use what lies above it.
    strays = [
        f"{place(path)}: {name}"
        for path in LIBRARY
        if part_of(path) == part and path.name != "__main__.py"
        for name in imports(path)
        if within(name, "medgan_jax") and name != "medgan_jax"
        if not any(within(name, each) for each in allowed)
    ]
    assert strays == []


def test_no_module_imports_a_command():
    users = {place(path) for path in LIBRARY for name in imports(path) if "__main__" in name.split(".")}
    assert users == set()


def test_every_part_of_the_library_has_a_rule():
    free = {"__init__", "__main__", "cli", "review"}
    assert {part_of(path) for path in LIBRARY} - free <= set(MAY_IMPORT)


def test_the_library_imports_no_experiment_and_experiments_none_of_each_other():
    strays = [(place(path), name) for path in LIBRARY + EXPERIMENTS for name in imports(path)]
    assert [stray for stray in strays if within(stray[1], "experiments")] == []


def test_experiments_take_from_training_only_what_a_loss_remembers():
    used = {name for path in EXPERIMENTS for name in imports(path) if within(name, "medgan_jax.training")}
    assert {name for name in used if not within(name, "medgan_jax.training.pool")} == set()


@pytest.mark.parametrize("dependency", sorted(AT_HOME))
def test_a_fast_moving_dependency_has_one_home(dependency):
    homes = tuple(AT_HOME[dependency])
    users = {
        place(path) for path in LIBRARY + EXPERIMENTS if any(within(n, dependency) for n in imports(path))
    }
    assert {user for user in users if not user.startswith(homes)} == set()


def test_only_the_step_computes_gradients_of_parameters():
    training = [path for path in LIBRARY if part_of(path) == "training" and path.name != "step.py"]
    users = [place(path) for path in training if any(within(name, "optax") for name in imports(path))]
    gradients = re.compile(r"\bjax\.(value_and_)?(grad|vjp|jvp)\b")
    assert users + [place(path) for path in training if gradients.search(path.read_text())] == []


def words(path):
    """Names and texts in the code of a file, without its docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield from re.findall(r"\w+", node.value)


def test_the_trainer_names_no_method():
    methods = {entry.id for entry in catalogue.entries()}
    trainer = [path for path in LIBRARY if part_of(path) in ("game", "training")]
    assert {place(path): named for path in trainer if (named := methods & set(words(path)))} == {}


# --- what happens on import, and on reading a file ---

ON_IMPORT = """
import importlib, pkgutil, socket

def refuse(*arguments, **options):
    raise AssertionError("the network was used on import")

socket.socket.connect = socket.getaddrinfo = refuse
import experiments, medgan_jax
for package in (medgan_jax, experiments):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
import jax
# This option can be set until a backend exists, and raises RuntimeError from then on.
jax.config.update("jax_num_cpu_devices", 2)
assert len(jax.devices("cpu")) == 2
"""


def test_importing_everything_computes_nothing_and_needs_no_network():
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", ON_IMPORT], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_that_is_read_can_run_code():
    for path in LIBRARY + EXPERIMENTS:
        assert {name.split(".")[0] for name in imports(path)} & RUN_CODE_WHEN_READ == set(), place(path)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                assert not (isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")), place(path)
                refusals = [word.value for word in node.keywords if word.arg == "allow_pickle"]
                assert all(isinstance(v, ast.Constant) and v.value is False for v in refusals), place(path)
                if ast.unparse(node.func) in ("np.load", "numpy.load"):
                    assert refusals, f"{place(path)}:{node.lineno}: np.load without allow_pickle=False"


# --- experiments and README ---

TEMPLATE = ROOT / "experiments" / "_template.py"
METHODS = [path for path in EXPERIMENTS if path.name != "__init__.py" and not path.name.startswith("_")]


@pytest.mark.parametrize("path", METHODS, ids=lambda path: path.stem)
def test_an_experiment_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", [TEMPLATE, *METHODS], ids=lambda path: path.stem)
def test_an_experiment_returns_its_exit_status(path):
    main = tree(path).body[-1]
    assert ast.unparse(main.test) == "__name__ == '__main__'"
    assert [ast.unparse(line) for line in main.body] == [
        "raise SystemExit(cli.main_experiment(__spec__.name))"
    ]


def test_the_readme_begins_with_its_two_commands():
    readme = (ROOT / "README.md").read_text()
    train, test = re.findall(r"^```bash\n(.+?)\n```$", readme, re.MULTILINE | re.DOTALL)[1:3]
    assert train == (
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt && "
        ".venv/bin/python -m experiments.reconstruction.dagan"
    )
    assert test == ".venv/bin/python -m pytest -n 2"


def test_continuous_integration_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "README.md" in script.read_text()


def test_the_readme_counts_the_rows_that_are_implemented():
    entries = list(catalogue.entries())
    count = sum(entry.implemented for entry in entries)
    assert f"- {count} of {len(entries)} rows of the review are implemented." in (ROOT / "README.md").read_text()
