"""The form on the hub's page: inputs, size, where outputs go; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from volatile_rse.jupyterhub.choices import OPTION, dataset_of
from volatile_rse.jupyterhub.settings import Settings

__all__ = ["FIELDS", "form_of", "options_of"]

_USE, _INPUTS, _CAPACITY, _DESTINATION, _DATASET = (
    "vrse-use", "vrse-inputs", "vrse-capacity", "vrse-destination", "vrse-dataset",
)  # fmt: skip
FIELDS = frozenset({_USE, _INPUTS, _CAPACITY, _DESTINATION, _DATASET})
"""Names of what the form posts."""

_MARK = "vrse-check"


def form_of(username: str, options: object, settings: Settings, check: str = "") -> str:
    """Write the form, with what the user chose last.

    Parameters
    ----------
    check
        URL that tells of a DID (``checks.DidHandler``); empty: only its form is looked at.
    """
    last = options.get(OPTION) if isinstance(options, Mapping) else None
    last = last if isinstance(last, Mapping) else {}
    # Whose first server it is may have data at once.
    used = not isinstance(options, Mapping) or not options or bool(last)
    dataset = last.get("dataset") or dataset_of(username, settings)
    kept = ""
    if settings.destinations:
        kept = f"""
    <div class="form-group mb-3">
      <label class="form-label" for="{_DESTINATION}">Keep what I write at</label>
      <select class="form-control form-select" id="{_DESTINATION}" name="{_DESTINATION}">
        {_choices(settings.destinations, last.get("destination"), ("", "keep nothing"))}
      </select>
    </div>
    <div class="form-group mb-3">
      <label class="form-label" for="{_DATASET}">in the dataset</label>
      <input class="form-control" id="{_DATASET}" name="{_DATASET}" maxlength="200" value="{_text(dataset)}">
    </div>"""
    return f"""
<fieldset id="vrse-form">
  <legend>Data near your server</legend>
  <div class="form-check mb-3">
    <input class="form-check-input" type="checkbox" id="{_USE}" name="{_USE}" value="1"{" checked" if used else ""}>
    <label class="form-check-label" for="{_USE}">Start with a storage element of my own</label>
  </div>
  <div id="vrse-fields">
    <div class="form-group mb-3">
      <label class="form-label" for="{_INPUTS}">Inputs: a dataset, container or file a line, as SCOPE:NAME</label>
      <textarea class="form-control" id="{_INPUTS}" name="{_INPUTS}" rows="3" spellcheck="false"
        placeholder="user.alice:nano_dimuon" data-check="{_text(check)}">{_lines(last.get("inputs"))}</textarea>
      <ul class="list-unstyled small" id="{_MARK}" aria-live="polite"></ul>
    </div>
    <div class="form-group mb-3">
      <label class="form-label" for="{_CAPACITY}">Size, for the inputs and what you write</label>
      <select class="form-control form-select" id="{_CAPACITY}" name="{_CAPACITY}">
        {_choices(settings.capacities, last.get("capacity"))}
      </select>
    </div>{kept}
  </div>
</fieldset>
{_SCRIPT}
"""


def options_of(form: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Read what the form has posted: ``user_options`` for :func:`choices.choice_of` to judge."""

    def first(name: str) -> str:
        values = form.get(name) or [""]
        return str(values[0]).strip()

    if not first(_USE):
        # Not the same as nothing: whoever has chosen so finds it so the next time.
        return {OPTION: None}
    lines = (line.strip() for line in first(_INPUTS).replace(",", "\n").splitlines())
    asked: dict[str, Any] = {"inputs": [line for line in lines if line]}
    if capacity := first(_CAPACITY):
        asked["capacity"] = capacity
    if _DESTINATION in form:
        asked["destination"] = first(_DESTINATION)
    if dataset := first(_DATASET):
        asked["dataset"] = dataset
    return {OPTION: asked}


def _choices(offered: Sequence[str], chosen: object, *more: tuple[str, str]) -> str:
    pairs = [*((value, value) for value in offered), *more]
    return "".join(
        f'<option value="{_text(value)}"{" selected" if value == chosen else ""}>{_text(said)}</option>'
        for value, said in pairs
    )


def _lines(inputs: object) -> str:
    given = inputs if isinstance(inputs, Sequence) and not isinstance(inputs, str) else ()
    return _text("\n".join(str(entry) for entry in given))


def _text(value: object) -> str:
    """Escape for HTML, and for a hub that takes the form for a template."""
    return escape(str(value)).replace("{", "&#123;").replace("}", "&#125;")


_SCRIPT = r"""
<script>
(() => {
  const use = document.getElementById("vrse-use"), fields = document.getElementById("vrse-fields");
  const inputs = document.getElementById("vrse-inputs"), told = document.getElementById("vrse-check");
  const form = /^([a-z0-9]([-a-z0-9]*[a-z0-9])?=)?[a-zA-Z_\-.0-9]{1,25}:[A-Za-z0-9/][A-Za-z0-9.\-_/#]*$/;
  const known = new Map();
  const show = () => { fields.hidden = !use.checked; };
  const wanted = () => inputs.value.split(/[\n,]/).map((line) => line.trim()).filter((line) => line);
  const say = (line) => {
    if (!form.test(line)) return [false, "no DID: write SCOPE:NAME"];
    return known.get(line.slice(line.indexOf("=") + 1)) || null;
  };
  const draw = () => told.replaceChildren(...wanted().map((line) => {
    const found = say(line), item = document.createElement("li");
    item.className = found === null ? "text-muted" : found[0] ? "text-success" : "text-danger";
    item.textContent = line + (found === null ? "" : ": " + found[1]);
    return item;
  }));
  const ask = async () => {
    draw();
    if (!inputs.dataset.check) return;
    for (const line of wanted().filter((line) => say(line) === null)) {
      const did = line.slice(line.indexOf("=") + 1);
      try {
        const answer = await fetch(inputs.dataset.check + "?did=" + encodeURIComponent(did));
        if (!answer.ok) continue;
        const found = await answer.json();
        known.set(did, [found.found, found.said]);
      } catch (error) { continue; }
      draw();
    }
  };
  let timer = 0;
  inputs.addEventListener("input", () => { clearTimeout(timer); draw(); timer = setTimeout(ask, 600); });
  use.addEventListener("change", show);
  show();
  ask();
})();
</script>
"""
