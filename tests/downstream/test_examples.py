"""Which cases are learnt from: shares of the labels, patients set aside."""

import pytest
import torch

from s2dc_core.downstream import Example, Examples


def examples(count=20, classes=2, visits=1):
    entries = [
        {"name": f"case {k}", "patient": f"patient {k // visits}", "target": k % classes if classes else None}
        for k in range(count)
    ]
    return Examples(entries, lambda entry: Example(entry["name"], torch.zeros(1, 2, 2, 2), entry["target"]))


def test_a_share_is_drawn_class_by_class_and_lies_in_a_larger_one():
    every = examples(30, 3)
    tenth, half, whole = (every.share(part, 0) for part in (0.1, 0.5, 1))
    assert [len(found) for found in (tenth, half, whole)] == [3, 15, 30]
    for found, each in ((tenth, 1), (half, 5)):
        targets = [entry["target"] for entry in found.entries]
        assert [targets.count(k) for k in range(3)] == [each] * 3
    assert set(tenth.names) < set(half.names) < set(whole.names)
    assert every.share(0.5, 0).names == half.names != every.share(0.5, 1).names
    assert len(every.share(0.001, 0)) == 3


@pytest.mark.parametrize("part", [0, -0.5, 1.5])
def test_a_share_that_is_none_is_refused(part):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        examples().share(part, 0)


def test_patients_are_set_aside_whole():
    learnt, aside = examples(20, visits=2).split(3, 0)
    assert (len(learnt), len(aside)) == (14, 6)
    patients = [{entry["patient"] for entry in part.entries} for part in (learnt, aside)]
    assert not patients[0] & patients[1] and len(patients[1]) == 3
    assert examples(20, visits=2).split(3, 0)[1].names == aside.names != examples(20, visits=2).split(3, 1)[1].names
    assert len(examples().split(0, 0)[1]) == 0
    with pytest.raises(ValueError, match="none would be left"):
        examples(4).split(4, 0)


def test_a_case_is_read_once_if_it_is_kept():
    read = []
    entries = [{"name": "a"}, {"name": "b"}]

    def load(entry):
        read.append(entry["name"])
        return Example(entry["name"], torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 3]]]))

    kept, anew = Examples(entries, load), Examples(entries, load, keep=False)
    for found in (kept, anew):
        assert [example.name for example in found] == ["a", "b"] == [example.name for example in found]
    assert read == ["a", "b", "a", "b", "a", "b"]
    kept.only([1])[0]
    assert len(read) == 6 and kept.labels_in(0) == {0, 3}
    assert Examples(entries, load, labels_in=lambda entry: {9}).labels_in(0) == {9}
