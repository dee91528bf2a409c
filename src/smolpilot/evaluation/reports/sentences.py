"""The sentences that a report begins with, in both languages: from the numbers of its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from smolpilot.datasets.splits import episode_ranges
from smolpilot.evaluation.rates.paired import PairedCounts
from smolpilot.evaluation.rates.wording import name_of_test, paired_text, planning_text, rate_text
from smolpilot.evaluation.rollout.floors import comparison_of
from smolpilot.evaluation.rollout.results import failure_text

from . import formats
from .texts import Both, Text, counted, joined, known, listed, say

FLOORS, DECISIONS = ("hold", "mean_action"), ("better", "not told apart", "worse")
GATES = ("passed", "replay-exact", "failed", "not gated")


def rollout_verdict(document: Mapping[str, Any]) -> Both:
    """The verdict of a rollout: rate, interval, gate, and the comparison with the best floor where there is one.

    The English one is the document's own; the Chinese one says the same from the same numbers.
    """
    who = say("rollout.untrained" if document["untrained"] else "rollout.policy")
    how = say("rollout.swapped") if document["swap_instruction"] else Both("", "")
    rate = say("rollout.sentence", who=who, how=how, env=document["env"], rate=_rate(document))
    verdict = document.get("verdict")
    gate = document.get("gate")
    if not verdict:
        return joined(Both(document["text"], rate.zh), *([gate_sentence(gate)] if gate else []))
    parts: list[Text] = [rate, *([gate_sentence(gate)] if gate else [])]
    for floor in document.get("floors") or []:
        if floor["name"] == verdict.get("against") and floor.get("paired"):
            parts.append(paired_sentence(floor))
    return Both(verdict["text"], joined(*parts).zh)


def gate_sentence(gate: Mapping[str, Any]) -> Both:
    """What the gate found; the English sentence is the document's own."""
    counts = {"successes": int(gate.get("successes") or 0), "episodes": int(gate.get("episodes") or 0)}
    verdict = gate["verdict"]
    found = say(f"gate.{verdict}" if verdict in GATES else "gate.not gated", **counts)
    found = Both(gate.get("text") or found.en, found.zh)
    return joined(found, say("gate.overridden")) if gate.get("overridden") else found


def paired_sentence(floor: Mapping[str, Any]) -> Both:
    """Whether the policy and this floor are told apart: worded by the module of rates alone."""
    paired = floor["paired"]
    counts = PairedCounts(*(int(paired[key]) for key in ("both", "only_policy", "only_other", "neither")))
    compared = comparison_of(paired)
    own, other = say("rollout.policy").zh, _side(floor_name(floor), "zh")
    # As it was decided: where several were looked at together, by an adjusted p value.
    return Both(_capital(compared.text), paired_text(own, other, counts, compared, "zh"))


def tests_of(floors: Sequence[Mapping[str, Any]]) -> Both:
    """The tests that these comparisons rest on."""
    tests = list(dict.fromkeys(str(one["paired"]["test"]) for one in floors))
    return listed([Both(name_of_test(one), name_of_test(one, "zh")) for one in tests])


def floor_name(floor: Mapping[str, Any]) -> Text:
    """What a floor or ceiling is called."""
    return known("floor", str(floor["name"]))


def floor_text(floor: Mapping[str, Any]) -> Text:
    """What a floor does: in both languages where it is said as usual, else as the document has it."""
    text = str(floor.get("text") or "")
    usual = known("floor_text", str(floor["name"]))
    return usual if isinstance(usual, Both) and usual.en == text else text


def shows_sentence(document: Mapping[str, Any]) -> Both:
    """What so many episodes can show, and how many would show ten points."""
    own = document.get("what_it_shows")
    counts = int(document["successes"]), int(document["episodes"])
    return Both(own or planning_text(*counts), planning_text(*counts, language="zh"))


def loop_sentence(name: Text, result: Mapping[str, Any]) -> Both:
    """One closed loop of several: rate, interval, and how it failed."""
    failed = [
        say("demo.failed", what=failure_text(result, label), count=count)
        for label, count in result["failures"].items()
        if count
    ]
    said = say(
        "demo.sentence", name=Both(_capital(_side(name, "en")), _side(name, "zh")),
        rate=formats.percent(result["success_rate"]), episodes=counted(result["episodes"], "episode"),
        low=formats.percent(result["interval"][0]).removesuffix(" %"), high=formats.percent(result["interval"][1]),
    )  # fmt: skip
    if not failed:
        return Both(f"{said.en}.", f"{said.zh}。")
    more = listed(list(failed))
    return Both(f"{said.en}; {more.en}.", f"{said.zh}；{more.zh}。")


def eval_verdict(document: Mapping[str, Any]) -> Both:
    """The verdict of an offline evaluation: errors against both baselines, as it was decided, with its interval.

    The English one is the document's own; documents of before say nothing that the Chinese one could be made of.
    """
    verdict, own = document["verdict"], _four(document["mean_over_joints"]["mae"])
    english = f"The policy {verdict['text']}."
    if "against_hold" not in document:
        return Both(english, english)
    decided = {name: found["decision"] for name in FLOORS if (found := document[f"against_{name}"]) is not None}
    if verdict["fails"]:
        said = say("eval.fails")
    elif not decided:
        said = say("eval.no_baseline", mae=own)
    else:
        parts = {one: [say(f"eval.{name}") for name, it in decided.items() if it == one] for one in DECISIONS}
        what = listed([say(f"eval.{one}", names=listed([*names])) for one, names in parts.items() if names])
        others = [say("eval.mae_of", mae=_four(document["baselines"][one]["mae"]), name=say(f"eval.{one}"))
                  for one in decided]  # fmt: skip
        said = say("eval.decided", what=what, mae=own, others=listed([*others]))
    tail = say("eval.averaged", unit=document["unit"], joints=counted(len(document["joints"]), "joint"))
    chinese, span = joined(said, tail).zh + "。", document["mae_interval"]
    if span is not None:
        chinese += say("eval.interval", low=_four(span[0]), high=_four(span[1]),
                       episodes=counted(len(document["episodes"]), "episode")).zh  # fmt: skip
    return Both(english, chinese)


def eval_tone(document: Mapping[str, Any]) -> str:
    """good, bad or plain: what was decided against the baselines."""
    found = [document.get(f"against_{name}") for name in FLOORS]
    decisions = {one["decision"] for one in found if one}
    if document["verdict"]["fails"] or "worse" in decisions:
        return "bad"
    return "good" if "better" in decisions else "plain"


def split_sentence(document: Mapping[str, Any]) -> Both:
    """Which episodes were scored, and whether training had seen them; the English one is the document's own."""
    split, path = document["split"], document["dataset"].get("path")
    episodes, seen = split.get("episodes"), split.get("trained_on")
    if not episodes or path is None:
        return Both(split["text"], split["text"])
    tail = say("eval.split_held_out")
    if split["requested"] != "held-out" and seen is None:
        tail = say("eval.split_unknown")
    elif split["requested"] != "held-out" and seen:
        tail = say("eval.split_seen", seen=len(seen), count=len(episodes))
    said = say("eval.split", episodes=episode_ranges(episodes), path=path)
    return Both(split["text"], f"{said.zh}{tail.zh}")


def stages_verdict(document: Mapping[str, Any]) -> Both:
    """What the sequence has kept so far, with its interval."""
    count = counted(len(document["stages"]), "stage")
    block, scale = (document["success"], 100) if document["success"] is not None else (document["error"], 1)
    quantity = say("stages.success" if scale == 100 else "stages.error")
    unit = "%" if scale == 100 else document["unit"]
    last = block["matrix"][-1][-1]
    parts: list[Text] = [
        say(
            "stages.last",
            stages=count,
            task=document["tasks"][-1],
            quantity=quantity,
            value=_estimate(last, scale, unit),
        )
    ]
    if "mean_forgetting" in block:
        points = say("stages.points") if scale == 100 else Both(unit, unit)
        parts.append(say("stages.forgot", value=_estimate(block["mean_forgetting"], scale, ""), unit=points))
    return joined(*parts)


def _estimate(one: Mapping[str, Any], scale: float, unit: str) -> Both:
    def shown(value: float) -> str:
        return f"{scale * value:.3g}".replace("-", "−")

    own = f"{shown(one['value'])} {unit}".rstrip()
    if not one["interval"]:
        return say("stages.no_interval", value=own)
    return say("stages.interval", value=own, low=shown(one["interval"][0]), high=shown(one["interval"][1]))


def _rate(document: Mapping[str, Any]) -> Both:
    counts = int(document["successes"]), int(document["episodes"])
    return Both(rate_text(*counts), rate_text(*counts, language="zh"))


def _four(value: float | None) -> str:
    return formats.NONE if value is None else f"{value:.4g}"


def _side(text: Text, side: str) -> str:
    return str(getattr(text, side)) if isinstance(text, Both) else text


def _capital(text: str) -> str:
    """The text with a capital letter at its begin."""
    return text[:1].upper() + text[1:]
