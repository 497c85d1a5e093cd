"""Pytest hooks: asynchronous tests go to the runner, which runs them side by side."""

import inspect

import pytest

pytest.register_assert_rewrite(
    "harness.browser",
    "harness.call",
    "harness.caller",
    "harness.ears",
    "harness.expect",
    "harness.record",
    "harness.truth",
)

from harness.runner import Runner  # noqa: E402 (asserts must be rewritten first)

_runner: Runner | None = None


def pytest_collection_finish(session: pytest.Session) -> None:
    global _runner
    scenarios = [i for i in session.items if inspect.iscoroutinefunction(getattr(i, "obj", None))]
    _runner = Runner(scenarios)


@pytest.fixture
def lab():
    """Only a name for pytest: the runner gives each scenario its own lab object."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    _runner.result(pyfuncitem)
    return True


def pytest_sessionfinish() -> None:
    if _runner:
        _runner.join()


def pytest_terminal_summary(terminalreporter) -> None:
    if _runner and _runner.took:
        terminalreporter.section("time of each scenario")
        for name, took in sorted(_runner.took.items(), key=lambda pair: -pair[1]):
            terminalreporter.write_line(f"{took:6.1f} s  {name.split('::')[-1]}")
        for name, figure in _runner.figures.items():
            terminalreporter.write_line(f"{name}: {figure}")
