"""Facts keep their numbers and show themselves."""

from __future__ import annotations

import json

import numpy as np

from astrobench.report import Report


def test_a_fact_carries_its_sentence_and_its_numbers():
    report = Report()
    with report.step("stack"):
        report.fact("rejected", "{share:.1%} left out", share=np.float32(0.25))
    assert report.facts[0].text == "25.0% left out"
    assert report.facts[0].step == "stack"
    content = json.loads(report.to_json())
    assert content["steps"][0]["facts"][0]["numbers"]["share"] == 0.25
    assert content["steps"][0]["seconds"] >= 0


def test_not_a_number_becomes_null_in_json():
    report = Report()
    report.fact("x", "nothing", value=float("nan"), many=np.array([1.0, np.inf]))
    numbers = json.loads(report.to_json())["steps"][0]["facts"][0]["numbers"]
    assert numbers == {"value": None, "many": [1.0, None]}


def test_a_brace_in_a_plain_sentence_is_no_format():
    assert Report().fact("x", "file {odd}.fit").text == "file {odd}.fit"


def test_warnings_are_found_and_the_table_escapes_names():
    report = Report()
    with report.step("register"):
        report.fact("set aside", "{name}", "warning", name="<b>.fit")
    assert [fact.code for fact in report.warnings] == ["set aside"]
    assert "&lt;b&gt;.fit" in report._repr_html_()
