"""Upload a model to the Hugging Face Hub: its files, and a model card with metadata from the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..runtime.contract.hub import SCHEME, HubAddress, file_of, hub_errors
from ..runtime.contract.licences import Licence, commercial_use
from ..runtime.contract.measured import Metric
from ..runtime.contract.model_file import read_spec, resolve
from ..runtime.contract.spec import ModelSpec

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# Permissive and Creative Commons licences that the hub has an identifier for; others are "other" with a name.
HUB_LICENCES = frozenset(
    [
        "apache-2.0",
        "artistic-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "bsl-1.0",
        "cc-by-2.0",
        "cc-by-2.5",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-nc-4.0",
        "cc-by-nc-sa-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "cdla-permissive-1.0",
        "cdla-permissive-2.0",
        "ecl-2.0",
        "isc",
        "mit",
        "ms-pl",
        "ncsa",
        "postgresql",
        "unlicense",
        "zlib",
    ]
)


@dataclass(frozen=True)
class PushOptions:
    """The model to upload, and where to."""

    models: Sequence[str | Path]
    """Files of one model: names or .onnx files, each in another precision."""
    to: str
    """hf://owner/name; the repository is created if it does not exist."""
    card: Path | None = None
    """A model card in Markdown, as `numclip card` writes it; None: a short one, from the file's metadata."""
    private: bool = False
    """Make the repository private, if it is new."""


@dataclass(frozen=True)
class Pushed:
    """The uploaded files."""

    url: str  # of the commit
    files: tuple[str, ...]


def push_models(options: PushOptions) -> Pushed:
    """Upload the files and the card in one commit, with the login of `hf auth login` or HF_TOKEN.

    Raises UsageError, ModelError.
    """
    address = HubAddress.from_text(options.to)
    if address.revision or address.file:
        raise UsageError(f"expected {SCHEME}owner/name without a revision and a file, got {options.to}")
    paths = [resolve(model) for model in options.models]
    specs = [read_spec(path) for path in paths]
    files = {file_of(spec.graph.precision): path for spec, path in zip(specs, paths, strict=True)}
    names = {spec.name.removesuffix(f".{spec.graph.precision}") for spec in specs}
    if len(names) > 1 or len(files) < len(paths):
        got = ", ".join(f"{path.name} ({spec.name}, {spec.graph.precision})" for spec, path in zip(specs, paths))
        raise UsageError(f"expected files of one model, each in another precision, got {got}")
    spec = next((spec for spec in specs if spec.graph.precision == "fp32"), specs[0])
    try:
        body = page(spec, address.repo) if options.card is None else options.card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read --card {options.card} ({error}); give a Markdown file") from None
    with hub_errors(options.to):
        from huggingface_hub import CommitOperationAdd, HfApi

        additions = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
        additions.append(CommitOperationAdd("README.md", _with_metadata(spec, body).encode()))
        api = HfApi(library_name="numclip")
        api.create_repo(address.repo, private=options.private or None, exist_ok=True)
        done = api.create_commit(address.repo, additions, commit_message=f"{spec.name}, with numclip push")
    return Pushed(str(done.commit_url), (*files, "README.md"))


def _with_metadata(spec: ModelSpec, body: str) -> str:
    """The card: YAML metadata for the hub, then the page. The model's metadata replace those of the page."""
    from huggingface_hub import ModelCard, ModelCardData

    card = (
        ModelCard(body, ignore_metadata_errors=True) if body.startswith("---") else ModelCard("---\n{}\n---\n" + body)
    )
    licence = licence_fields(spec.licences.weights)
    card.data = ModelCardData(
        license=licence["license"],
        license_name=licence.get("license_name"),
        library_name="numclip",
        pipeline_tag="image-classification",  # the hub's nearest task
        tags=["numclip", "onnx", f"{spec.task.name}-estimation", "ordinal-regression", "arxiv:2408.03574"],
        metrics=["mae"] if spec.metrics else None,
        model_name=spec.name,
        eval_results=[result for metric in spec.metrics for result in _results(spec, metric)] or None,
    )
    return str(card)


def licence_fields(licence: Licence | None) -> dict[str, str]:
    """The hub's fields for a licence: one of its identifiers, or `other` with a name."""
    if licence is None:
        return {"license": "unknown"}
    name = (licence.spdx or "").lower()
    if name in HUB_LICENCES:
        return {"license": name}
    return {"license": "other", "license_name": name.removeprefix("licenseref-").replace(" ", "-") or "see-card"}


def _results(spec: ModelSpec, metric: Metric) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    kind = metric.data.partition(":")[0]
    figures = (
        ("mae", metric.mae, f"mean absolute error, {spec.task.unit}"),
        ("cs5", metric.cs5, f"share within 5 {spec.task.unit}"),
        ("bias", metric.bias, f"mean error, {spec.task.unit}"),
    )
    return [
        EvalResult(
            task_type="image-classification",
            task_name=f"{spec.task.name} estimation",
            dataset_type=kind,
            dataset_name=kind,
            dataset_split=metric.split,
            metric_type=key,
            metric_name=name,
            metric_value=round(value, 4),
        )
        for key, value, name in figures
    ]


def page(spec: ModelSpec, repo: str) -> str:
    """A short model card from the file's metadata; `numclip card` measures a complete one."""
    task, verdict = spec.task, commercial_use(spec.licences)
    lines = [
        f"# {spec.name}",
        "",
        f"Reads {task.name} in {task.unit}, {task.low:g} to {task.high:g}, off faces, with numclip (NumCLIP, arXiv 2408.03574).",
        "",
        "```python",
        "import numclip",
        "",
        f'model = numclip.load("{SCHEME}{repo}")',
        'print(numclip.read("photo.jpg", model))',
        "```",
        "",
    ]
    if spec.metrics:
        lines += [f"| test faces | n | mean error, {task.unit} | within 5 | bias |", "|---|--:|--:|--:|--:|"]
        for m in spec.metrics:
            lines.append(
                f"| {m.data.partition(':')[0]}, {m.split} | {m.n} | {m.mae:.2f} | {m.cs5:.0%} | {m.bias:+.2f} |"
            )
    else:
        lines.append("It was not measured on a test split.")
    lines += ["", *(f"- licence of the {part}: {licence}" for part, licence in spec.licences.stated().items())]
    lines.append(f"- commercial use: {'yes' if verdict.allowed else 'no'} ({verdict.why})")
    lines += ["", "The number is an estimate of appearance in one picture; do not decide about people with it.", ""]
    return "\n".join(lines)
