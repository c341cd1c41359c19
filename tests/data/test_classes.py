"""The class of a case comes from its own rows of a table, or it is said why it cannot."""

import json

import pytest

from s2dc_core.data import find_cases, load_all, load_manifest, require_cases
from s2dc_core.data.manifests import FOLDER
from tests.data.miniature import nifti, values

GROUPS = {"CN": 0, "MCI": 1, "AD": 2}


def make(root, patients, table, name="clinical.csv", **classes):
    """A data set of some patients with a table; its manifest. `classes` are further fields of the manifest's."""
    content = json.loads(FOLDER.joinpath("adni_cls.json").read_text())
    content |= {
        "name": "mine",
        "layouts": [{"origin": "mine", "parts": [{"images": {"image": "{patient}/scan.nii.gz"}}]}],
        "classes": {"file": "clinical.*", "key": "patient", "column": "Group", "values": GROUPS, **classes},
    }
    root.mkdir(exist_ok=True)
    (root / "mine.json").write_text(json.dumps(content))
    for patient in patients:
        nifti(root / patient / "scan.nii.gz", values(0, "pet"))
    (root / name).write_text(table, encoding="utf-8")
    return load_manifest(root / "mine.json")


def targets(root, manifest):
    return {case.patient: case.target for case in require_cases(manifest, root)}


PATIENTS = ("61", "62", "70", "71")
AGES = "Subject,Group,Age\n61,CN,70\n62,AD,61\n70,MCI,62\n71,AD,71\n"
OWN = {"61": 0, "62": 2, "70": 1, "71": 2}


def test_a_patient_is_not_who_is_as_many_years_old(tmp_path):
    manifest = make(tmp_path, PATIENTS, AGES, key_column="Subject")
    assert targets(tmp_path, manifest) == OWN
    manifest = make(tmp_path, PATIENTS, AGES)
    with pytest.raises(ValueError, match='the patient may be in its columns Subject and Age: name it as "key_column"'):
        find_cases(manifest, tmp_path)


def test_the_only_column_that_holds_the_patients_need_not_be_named(tmp_path):
    manifest = make(tmp_path, PATIENTS, AGES.replace(",71\n", ",81\n"))  # nobody of 71 years: three ages are patients
    assert targets(tmp_path, manifest) == OWN
    manifest = make(tmp_path, ("s1", "s2", "s3"), "Age,Id,Group\n1,s1,AD\n2,s2,CN\n")
    cases, problems = find_cases(manifest, tmp_path)
    assert [(case.patient, case.target) for case in cases if case.patient[0] == "s"] == [("s1", 2), ("s2", 0)]
    assert ("missing", "s3", "no class: it has no row in clinical.*") in [(p.kind, p.case, p.message) for p in problems]


def test_two_diagnoses_are_named_and_the_manifest_says_which_counts(tmp_path):
    table = "Subject,Group,Visit\n61,CN,bl\n61,CN,m12\n70,MCI,bl\n70,AD,m24\n"
    manifest = make(tmp_path, ("61", "70"), table)
    cases, problems = find_cases(manifest, tmp_path)
    assert [(case.patient, case.target) for case in cases] == [("61", 0)]
    ((kind, _, patient, message),) = problems
    assert (kind, patient) == ("ambiguous", "70") and "the classes MCI and AD in clinical.*: say which row" in message
    with pytest.raises(ValueError, match="70 .*MCI and AD"):
        require_cases(manifest, tmp_path)
    for visit, target in (("bl", 1), ("m24", 2)):
        manifest = make(tmp_path, ("70",), table, where={"Visit": visit}, key_column="Subject")
        cases, _ = find_cases(manifest, tmp_path)
        assert {case.patient: case.target for case in cases}["70"] == target
    with pytest.raises(
        ValueError, match="clinical.csv has no column Session, by which rows are chosen: it has Subject, "
    ):
        find_cases(make(tmp_path, ("70",), table, where={"Session": "1"}), tmp_path)


def test_tables_that_contradict_each_other_are_named(tmp_path):
    manifest = make(tmp_path, ("a", "b"), "Subject,Group\na,CN\nb,AD\n")
    (tmp_path / "clinical.old.csv").write_text("Subject,Group\na,CN\nb,MCI\n")
    _, problems = find_cases(manifest, tmp_path)
    assert [(problem.kind, problem.case) for problem in problems] == [("ambiguous", "b")]


def test_groups_of_one_class_do_not_contradict_each_other(tmp_path):
    table = "Subject,Group\na,CN\na,SMC\na,\nb,AD\n"
    manifest = make(tmp_path, ("a", "b"), table, values=GROUPS | {"SMC": 0})
    assert targets(tmp_path, manifest) == {"a": 0, "b": 2}


@pytest.mark.parametrize(
    "table",
    [
        "\ufeffSubject,Group\n61,CN\n62,AD\n",
        "Subject;Group\r\n61;CN\r\n62;AD\r\n",
        "Subject\tGroup\n61\tCN\n62\tAD\n",
        '"Subject" , "Group"\n" 61 ", CN \n"62","AD"\n'.replace('" , "', '","'),
        "Subject,Group,Note\n61.0,CN,\n62.0,AD,\"two\nlines, and more\"\n\n",
        "Group,Subject\nCN,0061\nAD,0062\n",
        "Subject,Group\n61,CN\n62,AD,one entry too many\n63\n",
    ],
)  # fmt: skip
def test_tables_as_spreadsheets_write_them(tmp_path, table):
    for columns in ({}, {"key_column": "Subject"}):
        manifest = make(tmp_path, ("61", "62"), table, **columns)
        assert targets(tmp_path, manifest) == {"61": 0, "62": 2}


def test_leading_zeros_and_capitals_are_bridged_only_where_nobody_else_is_meant(tmp_path):
    manifest = make(tmp_path / "one", ("007", "Sub-A"), "Subject,Group\n7,AD\nsub-a,CN\n")
    assert targets(tmp_path / "one", manifest) == {"007": 2, "Sub-A": 0}
    manifest = make(tmp_path / "two", ("007", "7"), "Subject,Group\n7,AD\n007,CN\n")
    assert targets(tmp_path / "two", manifest) == {"007": 0, "7": 2}
    manifest = make(tmp_path / "three", ("07", "8"), "Subject,Group\n7,AD\n007,CN\n8,CN\n")
    cases, problems = find_cases(manifest, tmp_path / "three")
    assert [case.patient for case in cases] == ["8"] and problems[0].case == "07"


def test_classes_that_are_numbers_may_be_written_as_such(tmp_path):
    manifest = make(tmp_path, ("a", "b"), "Subject,Group\na,1.0\nb,0.0\n", values={"0": 0, "1": 1})
    assert targets(tmp_path, manifest) == {"a": 1, "b": 0}


def test_a_class_that_is_none_and_a_column_that_is_not_there_are_named(tmp_path):
    _, problems = find_cases(make(tmp_path, ("a", "b"), "Subject,Group\na,Control\nb,\n"), tmp_path)
    assert [(problem.case, problem.message[:27]) for problem in problems] == [
        ("a", "no class: 'Control' in clin"), ("b", "no class: '' in clinical.* "),
    ]  # fmt: skip
    manifest = make(tmp_path, ("a",), "Subject,Group\na,CN\n", key_column="PTID")
    with pytest.raises(
        ValueError, match=r"needs a table clinical.\* under .* whose column PTID holds the patient, and col"
    ):
        find_cases(manifest, tmp_path)


def test_every_manifest_with_a_table_names_its_columns():
    tables = {name: manifest.classes for name, manifest in load_all().items() if manifest.classes}
    assert tables and all({"column", "key_column"} <= set(classes) for classes in tables.values())
